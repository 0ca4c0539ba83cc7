"""SQL that a Postgres source is read by, from its manifest: one statement per table, joins done in the server."""

from collections.abc import Collection, Sequence

from etl_resources.identifiers import literal, quote, quote_qualified
from etl_resources.manifest_sources import Join, PostgresSource
from etl_resources.partition_sql import PartitionBy, Placement


def select_rows(
    source: PostgresSource,
    by: Placement | None,
    partitions: Sequence[str],
    as_text: Collection[str] = (),
    within: str | None = None,
) -> str:
    """Rows of the partitions with the source's columns; types are checked, not changed, but for those `as_text`.

    within: condition of a part of these rows, of a `Share`.
    """
    columns = ", ".join(
        f"{expression(source, c)}{'::text' if c in as_text else ''} as {quote(c)}" for c in source.columns
    )
    kept = placed_by(source, by).keep(partitions) + (f" and {within}" if within is not None else "")
    return f"select {columns} from {_from(source)} where {kept}"


def select_fingerprints(
    source: PostgresSource,
    by: Placement | None,
    partitions: Sequence[str],
    evolved: Sequence[str] = (),
    as_text: Collection[str] = (),
    masked: Collection[str] = (),
    seed: int = 0,
) -> str:
    """(partition, rows, hash, newest change, rows with values that no table holds, their columns) per partition.

    The hash covers key, change stamp and joined columns: inserts, deletes, stamped updates and moved rows change it.
    Without a change column it covers every column. Columns that were added since (`evolved`) have each a hash of their
    own, with the key, and none where all values are null: a partition that has no values in them is as it was. Of
    `masked` columns it covers what their masks show. seed: without it nobody can guess a value from its hash.
    """
    covered = [source.change_column] if source.change_column else [c for c in source.columns if c not in evolved]
    seen = [*source.key, *covered, *(c for c in joined(source) if c in source.columns)]
    row = ", ".join(_shown(source, c) if c in masked else expression(source, c) for c in dict.fromkeys(seen))
    foreign = _foreign_values(source)
    any_foreign = " or ".join(foreign.values()) or "false"
    of = "".join(f", case when bool_or({condition}) then {literal(c)} end" for c, condition in foreign.items())
    digest = f"sum(hash_record_extended(row({row}), {seed}))::text"
    for column in evolved:
        value = f"{expression(source, column)}{'::text' if column in as_text else ''}"
        keyed = ", ".join((*(expression(source, k) for k in source.key), value))
        hashed = f"sum(hash_record_extended(row({keyed}), {seed})) filter (where {value} is not null)"
        digest += f" || coalesce('+{column}=' || ({hashed})::text, '')"
    newest = f"max({expression(source, source.change_column)})::text" if source.change_column else "null"
    placed = placed_by(source, by)
    return (
        f"select {placed.key('postgres')} as partition, count(*), {digest}, "
        f"{newest}, count(*) filter (where {any_foreign}), concat_ws(', ', null{of}) "
        f"from {_from(source)} where {placed.keep(partitions)} group by 1"
    )


def _foreign_values(source: PostgresSource) -> dict[str, str]:
    """Column → condition of a value that no table holds: infinity would arrive as the year 9999 and NaN as 0; a year
    before 1 or after 9999 has no place in an Iceberg table's bounds.
    """
    conditions = {
        "date": "not ({0} >= date '0001-01-01' and {0} < date '10000-01-01')",
        "timestamptz": "not ({0} >= timestamptz '0001-01-01 00:00:00+00' "
        "and {0} < timestamptz '10000-01-01 00:00:00+00')",
        "decimal": "{0} = 'NaN'",
    }
    kinds = {name: (column.type or "").partition("(")[0] for name, column in source.columns.items()}
    return {
        name: conditions[kind].format(expression(source, name)) for name, kind in kinds.items() if kind in conditions
    }


def select_unplaced(source: PostgresSource, partition_column: str) -> str:
    """(rows that no partition has, the first of their keys): the column that places them is null, or has no parent."""
    keys = ", ".join(expression(source, k) for k in source.key)
    where = f"{expression(source, partition_column)} is null"
    return f"select count(*), min(row({keys})::text) from {_from(source)} where {where}"


def select_changes(source: PostgresSource, by: Placement | None) -> str:
    """(partition, digest of its rows stamped since %(since)s, digest of those since %(passed)s) per partition.

    The digest covers key, stamp and joined columns; the second is null where there is no such row.
    """
    if source.change_column is None:
        raise ValueError(f"{source.table} has no change column.")
    stamp = expression(source, source.change_column)
    seen = (*source.key, source.change_column, *(c for c in joined(source) if c in source.columns))
    row = ", ".join(expression(source, c) for c in dict.fromkeys(seen))
    digest = f"count(*){{0}} || ':' || sum(hash_record_extended(row({row}), 0)){{0}}"
    past = f" filter (where {stamp} >= %(passed)s)"
    placed = placed_by(source, by)
    return (
        f"select {placed.key('postgres')} as partition, {digest.format('')}, {digest.format(past)} "
        f"from {_from(source)} where {stamp} >= %(since)s group by 1"
    )


def select_partitions_of_keys(source: PostgresSource, by: Placement | None) -> str:
    """Partitions of the keys given as one array parameter per key column."""
    keys = ", ".join(expression(source, k) for k in source.key)
    arrays = ", ".join(f"%s::{_array_type(source, k)}[]" for k in source.key)
    partition = placed_by(source, by).key("postgres")
    return f"select distinct {partition} from {_from(source)} where ({keys}) in (select * from unnest({arrays}))"


def joined(source: PostgresSource) -> list[str]:
    """Columns that come from parents."""
    return [name for join in source.joins for name in join.columns]


def expression(source: PostgresSource, column: str) -> str:
    """A column qualified by the table that it comes from; later joins win over the table's own columns."""
    for i, join in reversed(list(enumerate(source.joins, start=1))):
        if column in join.columns:
            return f"j{i}.{quote(join.columns[column])}"
    return f"t.{quote(column)}"


def place_of(source: PostgresSource, column: str) -> tuple[str, str, Join | None]:
    """Table that a column comes from, its name there, and the join that brings it."""
    for join in reversed(source.joins):
        if column in join.columns:
            return join.table, join.columns[column], join
    return source.table, column, None


def _shown(source: PostgresSource, column: str) -> str:
    """What a mask leaves of a value: that there is one, and the year of a date."""
    value = expression(source, column)
    stamped = source.columns[column].type in ("date", "timestamptz")
    return f"date_trunc('year', {value})" if stamped else f"{value} is null"


def placed_by(source: PostgresSource, by: Placement | None) -> PartitionBy:
    """What places a row of the source; without a placement all rows are in one partition."""
    if by is None:
        return PartitionBy(None)
    return PartitionBy(expression(source, by.column), source.columns[by.column].type == "timestamptz", by.grain)


def _from(source: PostgresSource) -> str:
    parts = [f"{quote_qualified(source.table)} t"]
    before = source.model_copy(update={"joins": ()})
    for i, join in enumerate(source.joins, start=1):
        on = " and ".join(f"j{i}.{quote(theirs)} = {expression(before, ours)}" for theirs, ours in join.on.items())
        parts.append(f"left join {quote_qualified(join.table)} j{i} on {on}")
        before = source.model_copy(update={"joins": source.joins[:i]})
    return " ".join(parts)


def _array_type(source: PostgresSource, column: str) -> str:
    from etl_resources.tables.schema import postgres_type

    return postgres_type(source.columns[column].type or "string")
