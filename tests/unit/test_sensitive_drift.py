"""A source whose columns change brings no sensitive column to light under another name."""

from dataclasses import replace
from typing import Any

import pytest

from etl_resources.contract import Contract, ContractColumn, Cover
from etl_resources.extract.source_query import select_fingerprints
from etl_resources.manifest_columns import Column
from etl_resources.manifest_sources import PostgresSource
from etl_resources.schema_drift import (
    SENSITIVE,
    TEXT,
    Captured,
    SchemaChange,
    SourceColumn,
    SourceSchema,
    evolved_contract,
    find_changes,
)

CONTRACT = Contract(
    (ContractColumn("id", "bigint"), ContractColumn("ssn", "string", cover=Cover("hash", "bigint"))), ("id",), None,
    dropped=("pay",),
)  # fmt: skip
SEEN = {"id": TEXT, "ssn": TEXT}


def captured(contract: Contract = CONTRACT, left_out: tuple[str, ...] = ()) -> Captured:
    return Captured(contract, {"id": "key"}, {"id": "bigint", "ssn": "string"}, SEEN, left_out)


def source(typed: bool = False, **columns: str | None) -> SourceSchema:
    found = {"id": SourceColumn("bigint", "bigint"), "ssn": SourceColumn("bigint", "bigint")}
    return SourceSchema(found | {n: SourceColumn(t or TEXT, t) for n, t in columns.items()}, typed)


def test_a_column_that_nobody_declared_is_left_out_beside_sensitive_ones() -> None:
    """It may be one of them. Without sensitive columns, and once it is declared, it is taken."""
    left_out = SchemaChange("mobile", "added", "left out", None, TEXT, SENSITIVE)
    assert find_changes(captured(), source(mobile=None), "evolve") == [left_out]
    harmless = Contract(tuple(replace(c, cover=None) for c in CONTRACT.columns), ("id",), None)
    (change,) = find_changes(captured(harmless), source(mobile=None), "evolve")
    assert change.action == "adopted"
    known = replace(captured(left_out=("mobile",)), seen={**SEEN, "mobile": TEXT})
    assert find_changes(known, source(mobile=None), "evolve") == []


def test_what_is_dropped_is_not_new() -> None:
    """The manifest speaks of it."""
    assert find_changes(captured(), source(pay=None), "freeze") == []


def test_columns_that_were_added_before_are_captured_no_longer() -> None:
    """They were taken when nothing was sensitive; nobody looked at what they hold."""
    assert evolved_contract(CONTRACT, {"mobile": "string"}) == CONTRACT


@pytest.mark.parametrize(
    ("kind", "mode", "action"),
    [("int", None, None), ("decimal(20,0)", "evolve", "refused"), ("string", "quarantine", "rows rejected")],
)
def test_the_type_of_a_hidden_value_is_the_declared_one(kind: str, mode: Any, action: str | None) -> None:
    """Not that of what covers it."""
    changes = find_changes(captured(), source(typed=True, ssn=kind), mode)
    assert [(c.before, c.action) for c in changes] == ([("bigint", action)] if action else [])


def test_a_fingerprint_covers_what_a_mask_shows_and_is_seeded() -> None:
    """A hash without a seed is told by guessing."""
    columns = {n: Column(type=t) for n, t in (("id", "bigint"), ("born", "date"), ("phone", "string"))}
    table = PostgresSource(kind="postgres", system="erp", table="erp.t", key=("id",), columns=columns, extract="full")
    query = select_fingerprints(table, None, ["all"], masked=("born", "phone"), seed=77)
    row = """row(t."id", date_trunc('year', t."born"), t."phone" is null)"""
    assert f"hash_record_extended({row}, 77)" in query
