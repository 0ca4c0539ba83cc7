"""Checks of a whole partition: each fails when, and only when, its property doesn't hold (A5)."""

from datetime import date
from typing import Any

import duckdb
import pytest

from etl_resources.calendar import WHOLE
from etl_resources.contract import Contract, ContractColumn
from etl_resources.manifest_tables import Change, Check, Freshness
from etl_resources.quality.audit import CheckResult, check_name
from etl_resources.quality.partition_checks import AuditedPartition, audit_partition

CONTRACT = Contract(
    (
        ContractColumn("id", "int"),
        ContractColumn("code", "string"),
        ContractColumn("day", "date"),
        ContractColumn("changed_at", "timestamptz"),
    ),
    ("id",),
    "day",
)
ROWS = (
    "(1, 'a', date '2024-03-10', timestamptz '2024-03-10 23:30:00+00')",
    "(2, 'b', date '2024-03-28', timestamptz '2024-03-28 23:30:00+00')",
    "(3, null, date '2024-03-01', null)",
    "(4, null, null, null)",
)


@pytest.fixture(scope="module")
def engine() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    return connection


def checked(engine: duckdb.DuckDBPyConnection, check: Check, *rows: str, **around: Any) -> CheckResult:
    parts: dict[str, Any] = {
        "partition": "2024-03",
        "scan": f"(select * from (values {', '.join(rows or ROWS)}) as v(id, code, day, changed_at))",
        "rows": len(rows or ROWS),
        "earlier": (),
        "today": date(2026, 1, 1),
        "queries": {},
    }
    (result,) = audit_partition(engine, CONTRACT, [check], AuditedPartition(**{**parts, **around}))
    assert result.name == check_name(check)
    return result


def test_columns_are_unique_together_where_none_is_null(engine: duckdb.DuckDBPyConnection) -> None:
    """As SQL's unique: two rows without a code don't repeat it."""
    assert checked(engine, Check(unique=("code",))).passed
    repeated = (*ROWS, "(5, 'a', date '2024-03-11', null)", "(6, 'a', date '2024-03-11', null)")
    found = checked(engine, Check(unique=("code",), severity="warn"), *repeated)
    assert (found.name, found.passed, found.blocks) == ("unique_code", False, False)
    assert found.metadata == {"values": 1, "first": '{"code":"a"}'}
    assert not checked(engine, Check(unique=("code", "day")), *repeated).passed
    assert checked(engine, Check(unique=("code", "id")), *repeated).passed


@pytest.mark.parametrize(
    ("earlier", "passed"),
    [
        ((2, 2, 2), False),
        ((8, 8, 8), True),
        ((3, 8, 1000), True),
        ((9, 9, 9), False),
        ((1, 1), True),
        ((), True),
        ((0, 0, 0), False),
    ],
)
def test_the_number_of_rows_is_near_the_median_of_those_before(
    engine: duckdb.DuckDBPyConnection, earlier: tuple[int, ...], passed: bool
) -> None:
    """Half as many is the limit here; one odd month doesn't move the median; with less than three there is none."""
    found = checked(engine, Check(rows_change=Change(le="0.50")), earlier=earlier)
    assert found.passed is passed
    assert ("note" in found.metadata) is (len(earlier) < 3)


def test_a_partition_without_rows_is_like_others_without(engine: duckdb.DuckDBPyConnection) -> None:
    """No division by zero."""
    assert checked(engine, Check(rows_change=Change(le="0.50")), earlier=(0, 0, 0), rows=0).passed


@pytest.mark.parametrize(
    ("column", "days", "around", "passed"),
    [
        ("day", 3, {}, True),
        ("day", 2, {}, False),
        ("changed_at", 3, {}, True),
        ("changed_at", 2, {}, False),
        ("day", 2, {"today": date(2024, 3, 30)}, True),
        ("day", 30, {"partition": WHOLE, "today": date(2024, 4, 27)}, True),
        ("day", 30, {"partition": WHOLE, "today": date(2024, 4, 28)}, False),
    ],
)
def test_the_newest_row_is_near_the_end_of_the_period_or_of_today(
    engine: duckdb.DuckDBPyConnection, column: str, days: int, around: dict[str, Any], passed: bool
) -> None:
    """A month that isn't over is measured by today; a table without months by the day of the run."""
    found = checked(engine, Check(freshness=Freshness(column=column, within_days=days)), **around)
    assert found.passed is passed
    assert found.metadata["newest"] == "2024-03-28"


def test_without_a_row_nothing_is_fresh(engine: duckdb.DuckDBPyConnection) -> None:
    """An empty delivery is the oldest of all."""
    assert not checked(engine, Check(freshness=Freshness(column="day", within_days=9999)), ROWS[3]).passed


def test_a_query_passes_when_it_finds_nothing(engine: duckdb.DuckDBPyConnection) -> None:
    """What it finds is counted, with the keys that the query gives; never the whole rows."""
    engine.execute("create schema if not exists silver")
    engine.execute(
        f"create or replace view silver.t as from (values {', '.join(ROWS)}) as v(id, code, day, changed_at)"
    )
    check = Check(sql="no-code.sql")
    sql = "select id, day from silver.t where {} -- those"
    assert checked(engine, check, queries={"no_code": sql.format("id > 4")}).passed
    found = checked(engine, check, queries={"no_code": sql.format("code is null")})
    assert (found.passed, found.metadata) == (False, {"rows": 2, "keys": '{"id":3}; {"id":4}'})
    assert checked(engine, check, queries={"no_code": "select 1 as one"}).metadata == {"rows": 1}


def test_a_check_names_one_thing() -> None:
    """Two in one would have one name and two results."""
    with pytest.raises(ValueError, match="exactly one of rejected_share, rejected_rows, rows, "):
        Check(unique=("a",), sql="a.sql")
