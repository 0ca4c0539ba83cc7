"""SQL that a Postgres source is read by, from its manifest: one statement per table, joins done in the server."""

from collections.abc import Sequence
from datetime import date

from etl_resources.identifiers import quote, quote_qualified
from etl_resources.manifest_sources import PostgresSource


def select_rows(source: PostgresSource, partition_column: str, ranges: Sequence[tuple[date, date]]) -> str:
    """Rows of the ranges with the source's columns, each cast to nothing: types are checked, not changed."""
    columns = ", ".join(f"{expression(source, c)} as {quote(c)}" for c in source.columns)
    return f"select {columns} from {_from(source)} where {within(source, partition_column, ranges)}"


def select_fingerprints(source: PostgresSource, partition_column: str, ranges: Sequence[tuple[date, date]]) -> str:
    """(month, rows, hash, newest change, rows with infinite stamps) per partition.

    The hash covers key, change stamp and joined columns: inserts, deletes, stamped updates and moved rows change it.
    Without a change column it covers every column.
    """
    seen = [
        *source.key,
        *([source.change_column] if source.change_column else source.columns),
        *joined(source),
    ]
    row = ", ".join(expression(source, c) for c in dict.fromkeys(seen))
    stamps = [n for n, c in source.columns.items() if c.type in ("date", "timestamptz")]
    infinite = " or ".join(f"not isfinite({expression(source, c)})" for c in stamps) or "false"
    newest = f"max({expression(source, source.change_column)})::text" if source.change_column else "null"
    month = _month(source, partition_column)
    return (
        f"select {month} as month, count(*), sum(hash_record_extended(row({row}), 0))::text, {newest}, "
        f"count(*) filter (where {infinite}) "
        f"from {_from(source)} where {within(source, partition_column, ranges)} group by 1"
    )


def select_months_of_keys(source: PostgresSource, partition_column: str) -> str:
    """(key columns …, month) of the keys given as one array parameter per key column."""
    keys = ", ".join(expression(source, k) for k in source.key)
    arrays = ", ".join(f"%s::{_array_type(source, k)}[]" for k in source.key)
    month = _month(source, partition_column)
    return f"select distinct {month} from {_from(source)} where ({keys}) in (select * from unnest({arrays}))"


def joined(source: PostgresSource) -> list[str]:
    """Columns that come from parents."""
    return [name for join in source.joins for name in join.columns]


def expression(source: PostgresSource, column: str) -> str:
    """A column qualified by the table that it comes from; later joins win over the table's own columns."""
    for i, join in reversed(list(enumerate(source.joins, start=1))):
        if column in join.columns:
            return f"j{i}.{quote(join.columns[column])}"
    return f"t.{quote(column)}"


def within(source: PostgresSource, partition_column: str, ranges: Sequence[tuple[date, date]]) -> str:
    """Condition that keeps the ranges (end excluded). Months of a stamp are UTC months, as the table's are."""
    column = expression(source, partition_column)
    first = "timestamptz '{} 00:00:00+00'" if _is_stamp(source, partition_column) else "date '{}'"
    bounds = [(first.format(start), first.format(end)) for start, end in ranges]
    return "(" + " or ".join(f"({column} >= {a} and {column} < {b})" for a, b in bounds) + ")"


def _from(source: PostgresSource) -> str:
    parts = [f"{quote_qualified(source.table)} t"]
    before = source.model_copy(update={"joins": ()})
    for i, join in enumerate(source.joins, start=1):
        on = " and ".join(f"j{i}.{quote(theirs)} = {expression(before, ours)}" for theirs, ours in join.on.items())
        parts.append(f"left join {quote_qualified(join.table)} j{i} on {on}")
        before = source.model_copy(update={"joins": source.joins[:i]})
    return " ".join(parts)


def _month(source: PostgresSource, partition_column: str) -> str:
    column = expression(source, partition_column)
    if _is_stamp(source, partition_column):
        column += " at time zone 'UTC'"
    return f"date_trunc('month', {column})::date"


def _is_stamp(source: PostgresSource, column: str) -> bool:
    return source.columns[column].type == "timestamptz"


def _array_type(source: PostgresSource, column: str) -> str:
    from etl_resources.tables.schema import postgres_type

    return postgres_type(source.columns[column].type or "string")
