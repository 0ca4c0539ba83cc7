"""Whether the values of text that don't fit their column are bad ones, or say that the column has another type now."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from etl_resources.contract import Contract, ContractColumn
from etl_resources.engines.transform import JUDGED
from etl_resources.identifiers import quote
from etl_resources.manifest_columns import DECIMAL
from etl_resources.manifest_types import SchemaEvolution
from etl_resources.quality.rules import typed_value
from etl_resources.schema_drift import Action, SchemaChange
from etl_resources.tables.input_tables import parquet_scan

if TYPE_CHECKING:
    import duckdb

WIDEST = 38
"""Digits of a decimal."""
OTHER_TEXT = "text of another form"


def find_text_changes(
    engine: "duckdb.DuckDBPyConnection",
    contract: Contract,
    paths: Sequence[str],
    schema: str,
    mode: SchemaEvolution | None,
) -> list[SchemaChange]:
    """Columns whose rejected values, in table JUDGED, would all fit a wider type (widened), or of which the good rows,
    in files `paths`, have no value at all (changed). Other values that don't fit are bad ones.
    """
    columns = [c for c in contract.columns if c.type != "string"]
    if not columns:
        return []
    judged = engine.execute(
        f"select {', '.join(map(_counts, columns))} from (select unnest(_payload) from {JUDGED}) as _raw"
    ).fetchone()
    assert judged is not None  # noqa: S101  (an aggregate always returns a row)
    good = [0] * len(columns)
    if paths:
        values = ", ".join(f"count({quote(c.name)})" for c in columns)
        good = list(engine.execute(f"select {values} from {parquet_scan(list(paths), schema)}").fetchone() or good)
    found = []
    for i, column in enumerate(columns):
        bad, wide, fitting = judged[3 * i : 3 * i + 3]
        if bad and wide == bad:
            action: Action = {None: "rows rejected", "quarantine": "rows rejected", "evolve": "adopted"}.get(
                mode, "refused"
            )  # type: ignore[assignment]
            found.append(SchemaChange(column.name, "widened", action, column.type, _wider(column).type))
        elif bad and not fitting + good[i]:
            action = "rows rejected" if mode in (None, "quarantine") else "refused"
            found.append(SchemaChange(column.name, "changed", action, column.type, OTHER_TEXT))
    return found


def _counts(column: ContractColumn) -> str:
    """Items: values that don't fit, those of them that fit the wider type, values that fit."""
    raw, value = f"_raw.{quote(column.name)}", typed_value("", column, "VARCHAR")
    bad = f"{raw} is not null and ({value}) is null"
    wide = f"({typed_value('', _wider(column), 'VARCHAR')}) is not null"
    return f"count(*) filter (where {bad}), count(*) filter (where {bad} and {wide}), count({value})"


def _wider(column: ContractColumn) -> ContractColumn:
    """The widest type that Iceberg widens the column to; itself where there is none."""
    decimal = DECIMAL.match(column.type)
    if decimal:
        return replace(column, type=f"decimal({WIDEST},{decimal[2]})")
    return replace(column, type="bigint") if column.type == "int" else column
