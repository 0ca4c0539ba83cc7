"""Rows of a source with their sensitive values covered: what reads them further never sees the values."""

from collections.abc import Mapping
from dataclasses import replace

from etl_resources.contract import Contract
from etl_resources.extract.batch_stream import UNREADABLE
from etl_resources.identifiers import quote
from etl_resources.quality.rules import typed_value
from etl_resources.sensitive import cover, covered_type

NOT_SHOWN = "not shown: the source has sensitive columns"


def covered_rows(
    asset: str, contract: Contract, rows: str, produced: Mapping[str, str]
) -> tuple[str, Mapping[str, str]]:
    """DuckDB table expression of the rows as they may be written, and the types of its columns.

    produced: column of `rows` → DuckDB type. The text of what is no row may hold any value: its length is told alone.
    Raises PermanentError where a column has a type that the declared one can't hold.
    """
    if not contract.is_sensitive:
        return rows, produced
    items, types = [], dict(produced)
    for column in contract.columns:
        if column.cover is None:
            continue
        kind = produced[column.name]
        typed = typed_value(asset, replace(column, type=column.cover.source_type), kind)
        items.append(f"{cover(column, f'_raw.{quote(column.name)}', typed, kind)} as {quote(column.name)}")
        types[column.name] = covered_type(column, kind)
    if UNREADABLE in produced:
        told = f"length({UNREADABLE}) || ' characters, {NOT_SHOWN}'"
        items.append(f"case when {UNREADABLE} is not null then {told} end as {UNREADABLE}")
    if not items:
        return rows, produced
    return f"(select * replace ({', '.join(items)}) from {rows} as _raw)", types
