"""The audit of a written partition: a check fails when, and only when, its property doesn't hold (A5, M15)."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from etl_resources.contract import Contract, ContractColumn
from etl_resources.engines.transform import Transform, TransformResult
from etl_resources.manifest_columns import Rule
from etl_resources.manifest_tables import Check
from etl_resources.quality.audit import (
    ROWS_ACCOUNTED,
    STORED_CONTENT,
    UNIQUE_KEY,
    CheckResult,
    StoredPartition,
    account_of,
    audit_transform,
    read_back,
)
from etl_resources.quality.conservation import COUNTS, Account
from etl_resources.quality.reconciliation import reconcile, reconcile_groups

GRAIN = "silver.lines"
NOTHING = Contract((), (), None)


def result(**changes: Any) -> TransformResult:
    good = {"produced": 9, "rejected": 2, "deduplicated": 1, "written": 6, "version": "6-aa"}
    read = {"inputs": {GRAIN: 10}, "filters": {"of testers": 1}}
    return TransformResult(paths=("p",), **{**good, **read, **changes})


def failed(
    of: TransformResult,
    stored: StoredPartition | None = None,
    *,
    grain: str | None = GRAIN,
    published: int = 10,
    checks: tuple[Check, ...] = (),
) -> list[str]:
    stored = stored or StoredPartition(of.written, of.written, of.version)
    account = account_of(of, Transform("t", "", NOTHING, grain, None, ""), {GRAIN: published})
    return [c.name for c in audit_transform(of, stored, account, checks) if not c.passed]


def test_a_partition_whose_rows_add_up_passes() -> None:
    """10 read = 6 written + 2 rejected + 1 deduplicated + 1 filtered."""
    assert failed(result()) == []


@pytest.mark.parametrize("field", ["written", "rejected", "deduplicated"])
def test_a_row_that_is_nowhere_fails_the_conservation(field: str) -> None:
    """No loss: every row read is written, rejected, deduplicated or filtered."""
    lost = result()
    setattr(lost, field, getattr(lost, field) - 1)
    assert ROWS_ACCOUNTED in failed(lost)


@pytest.mark.parametrize("written", [5, 7])
def test_a_join_that_loses_or_multiplies_rows_fails_the_conservation(written: int) -> None:
    """Rows of the declared grain that no stated rule leaves out: an inner join that finds nothing, a fan-out."""
    assert failed(result(produced=3 + written, written=written, version=f"{written}-aa")) == [ROWS_ACCOUNTED]


@pytest.mark.parametrize("published", [9, 11])
def test_rows_that_are_not_those_of_the_version_fail_the_conservation(published: int) -> None:
    """A file of the input that isn't read is missed although everything that was read is accounted for."""
    assert failed(result(), published=published) == [ROWS_ACCOUNTED]


def test_an_aggregate_accounts_for_the_rows_it_produced_and_for_its_sums() -> None:
    """Without a grain there are no rows read to compare with, but what it conserves."""
    groups = result(filters={}, sums={"lines": (Decimal(10), Decimal(10))})
    assert failed(groups, grain=None) == []
    assert failed(replace(groups, written=5, version="5-aa"), grain=None) == [ROWS_ACCOUNTED]
    assert failed(replace(groups, sums={"lines": (Decimal(10), Decimal(9))}), grain=None) == [ROWS_ACCOUNTED]


def test_a_repeated_key_fails() -> None:
    """Downstream joins would multiply."""
    assert failed(result(), StoredPartition(rows=6, keys=5, version="6-aa")) == [UNIQUE_KEY]


def test_what_storage_gives_back_must_be_what_was_written() -> None:
    """The file is read back: a torn upload must not be published."""
    assert failed(result(), StoredPartition(rows=6, keys=6, version="6-bb")) == [STORED_CONTENT]


@pytest.mark.parametrize(("limit", "names"), [("0.2", []), ("0.19", ["rejected_share"])])
def test_the_rejected_share_is_of_the_rows_read(limit: str, names: list[str]) -> None:
    """2 of 10: at the limit it holds, above it fails."""
    assert failed(result(), checks=(Check(rejected_share=Rule(le=limit)),)) == names


@pytest.mark.parametrize(("limit", "names"), [(2, []), (1, ["rejected_rows"])])
def test_the_rejected_rows_are_counted(limit: int, names: list[str]) -> None:
    """A bound for a table whose share says little: ten million rows, of which one in a thousand is too many."""
    assert failed(result(), checks=(Check(rejected_rows=Rule(le=limit)),)) == names


def test_the_rejected_share_of_nothing_is_zero() -> None:
    """An empty month is no division by zero."""
    empty = TransformResult(paths=("p",), version="0-0", inputs={GRAIN: 0})
    assert failed(empty, published=0, checks=(Check(rejected_share=Rule(le="0.05")),)) == []


def test_a_warning_does_not_block() -> None:
    """severity: warn is seen in the UI and published all the same."""
    check = Check(rows=Rule(ge=100), severity="warn")
    stored = StoredPartition(6, 6, "6-aa")
    found = audit_transform(result(), stored, Account(dict.fromkeys(COUNTS, 0)), (check,))[-1]
    assert (found.name, found.passed, found.blocks) == ("rows", False, False)
    assert CheckResult("x", passed=False).blocks


def test_reading_back_counts_rows_and_distinct_keys() -> None:
    """With a key of several columns, of which none is unique alone."""
    engine = duckdb.connect()
    contract = Contract((ContractColumn("a", "int"), ContractColumn("b", "string")), ("a", "b"), "a")
    rows = "(values (1, 'x'), (1, 'y'), (2, 'x'), (2, 'x')) as v(a, b)"
    stored = read_back(engine, contract, rows)
    assert (stored.rows, stored.keys) == (4, 3)
    assert stored.version.startswith("4-")


KEY, COMPARE = ("month", "nation"), {"orders": "0", "revenue": "0.01"}
OURS = {"month": date(2024, 3, 1), "nation": "PERU", "orders": 2, "revenue": Decimal("10.00")}
THEIRS = {"month": "2024-03-01", "nation": "PERU", "orders": 2, "revenue": "10.01"}


def compared(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> CheckResult:
    return reconcile(ours, theirs, KEY, COMPARE, capture=7)


def test_a_difference_within_the_tolerance_is_accepted() -> None:
    """Control totals come as JSON text, ours as dates and decimals; they are compared as numbers."""
    accepted = compared([OURS], [THEIRS])
    assert accepted.passed
    assert accepted.metadata["total_revenue"] == "10.01"
    assert accepted.metadata["capture"] == 7


def test_a_difference_beyond_the_tolerance_is_not_published() -> None:
    """The message names group, measure and both sides."""
    refused = compared([OURS], [{**THEIRS, "revenue": "10.02"}])
    assert refused.blocks
    assert "2024-03-01 / PERU: revenue 10.00 here, 10.02 in the capture" in str(refused)


ZERO = {"month": "2024-03-01", "nation": "CHAD", "orders": 0, "revenue": "0.00"}


@pytest.mark.parametrize("lone", [ZERO, {**ZERO, "revenue": "0.01"}, {**ZERO, "orders": 5}])
def test_a_group_on_one_side_only_is_a_difference(lone: dict[str, Any]) -> None:
    """Even one whose measures are zero or within the tolerance: a nation is missing, or invented."""
    assert compared([OURS], [THEIRS, lone]).blocks
    assert compared([OURS, lone], [THEIRS]).blocks


@pytest.mark.parametrize("value", [None, "NaN"])
def test_a_measure_without_a_number_is_a_difference_and_not_a_crash(value: str | None) -> None:
    """A sum of nothing is null in SQL; a crash would take the partitions beside it along."""
    assert compared([OURS], [{**THEIRS, "revenue": value}]).blocks
    assert compared([{**OURS, "revenue": value}], [THEIRS]).blocks


def test_a_group_that_comes_twice_is_a_difference() -> None:
    """A reconciliation query that groups too finely must not be judged by its last row."""
    assert compared([OURS], [{**THEIRS, "revenue": "500.00"}, THEIRS]).blocks


def test_only_the_first_differences_are_listed() -> None:
    """A month that is wholly wrong must not write a megabyte of metadata."""
    theirs = [{**THEIRS, "nation": f"N{i}"} for i in range(40)]
    refused = compared([], theirs)
    assert refused.metadata["first"].count(";") == 4
    assert refused.metadata["differences"] >= 40


RULE = {"lines": "0", "revenue": "0.00"}
PUBLISHED = [
    {"nation": "PERU", "currency": "EUR", "lines": 2, "revenue": Decimal("10.00")},
    {"nation": "CHAD", "currency": "EUR", "lines": 1, "revenue": Decimal("0.01")},
]
CAPTURED = [
    {"month": "2024-03-01", "currency": "EUR", "lines": 4, "revenue": "15.01"},
    {"month": "2024-03-01", "currency": "RUB", "lines": 1, "revenue": "7.00"},
]
REJECTED = [
    {"currency": "EUR", "lines": 1, "revenue": Decimal("5.00")},
    {"currency": "RUB", "lines": 1, "revenue": Decimal("7.00")},
]


def test_a_group_is_published_or_rejected_and_nothing_else() -> None:
    """What can't be converted is not in the KPI and not lost: the sum of both is what was captured."""
    accepted = reconcile_groups(PUBLISHED, REJECTED, CAPTURED, ["currency"], RULE, capture=7)
    assert accepted.passed
    assert (accepted.metadata["groups"], accepted.metadata["rejected_revenue"]) == (2, "12.00")


@pytest.mark.parametrize(
    ("rejected", "message"),
    [
        (REJECTED[:1], "RUB: rows 0 here, 1 in the capture"),
        ([{**REJECTED[0], "revenue": Decimal("4.99")}, REJECTED[1]], "EUR: revenue 15.00 here, 15.01 in the capture"),
        ([{**REJECTED[0], "revenue": None}, REJECTED[1]], "EUR: revenue None here, 15.01 in the capture"),
        ([*REJECTED, {"currency": "USD", "lines": 1, "revenue": Decimal(1)}], "USD: rows 1 here, 0 in the capture"),
    ],
)
def test_a_row_that_is_neither_is_a_difference(rejected: list[dict[str, Any]], message: str) -> None:
    """A cent that vanished between capture and KPI stops the publish, whichever group it is in."""
    refused = reconcile_groups(PUBLISHED, rejected, CAPTURED, ["currency"], RULE, capture=7)
    assert refused.blocks
    assert message in str(refused)
