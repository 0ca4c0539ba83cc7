"""Letters as the engine reads them: exactly the files that the index names, so none of a dead attempt."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etl_resources.dead_letters.index import (
    OTHER_REASONS,
    REASON_CHARS,
    REASONS_MAX,
    LetterFile,
    ReasonCount,
    letters_of,
)
from etl_resources.dead_letters.letter import LETTERS, REASONS_SHAPE, exact_value
from etl_resources.identifiers import literal, quote
from etl_resources.ledger.records import Publish
from etl_resources.manifest_tables import ROWS
from etl_resources.tables.schema import duckdb_type

if TYPE_CHECKING:
    import duckdb
    import psycopg

_SAMPLE_CHARS = 200


def letters(found: Sequence[LetterFile]) -> str:
    """Table expression: `asset` and the columns of LETTERS, of these files."""
    by_asset: dict[str, list[str]] = {}
    for file in found:
        by_asset.setdefault(file.asset, []).append(file.path)
    if not by_asset:
        columns = ", ".join(f"null::{duckdb_type(c.type)} as {quote(c.name)}" for c in LETTERS.columns)
        return f"(select null::varchar as asset, {columns} where false)"
    each = (
        f"select {literal(asset)} as asset, * from read_parquet([{', '.join(map(literal, paths))}], "
        "hive_partitioning = false)"
        for asset, paths in by_asset.items()
    )
    return f"({' union all by name '.join(each)})"


def described(engine: "duckdb.DuckDBPyConnection", path: str) -> tuple[int, str]:
    """(rows, version) of a file of letters, reread."""
    row = engine.execute(
        "select count(*), coalesce(sum(md5_number_lower(letter)), 0) % 18446744073709551616::hugeint "
        f"from read_parquet({literal(path)}, hive_partitioning = false)"
    ).fetchone()
    assert row is not None  # noqa: S101  (an aggregate always returns a row)
    return int(row[0]), f"{row[0]}-{int(row[1]):016x}"


def reason_counts(engine: "duckdb.DuckDBPyConnection", path: str) -> list[ReasonCount]:
    """What a file of letters holds, reread. Rare reasons beyond REASONS_MAX are counted as one."""
    rows = engine.execute(
        "with told as (select unnest(from_json(reasons, "
        f"{literal(REASONS_SHAPE)})) as r, letter, key, source, source_row, first_seen, last_seen "
        f"from read_parquet({literal(path)}, hive_partitioning = false)), "
        "sums as (select coalesce(r.rule, '') as rule, coalesce(r.column_name, '') as column_name, "
        f"replace(left(r.reason, {REASON_CHARS}), chr(0), '\\u0000') as reason, count(*) as rows, "
        "min(first_seen) as first_seen, max(last_seen) as last_seen, to_json(min_by({"
        f"'key': left(key, {_SAMPLE_CHARS}), 'value': left(r.value, {_SAMPLE_CHARS}), 'source': source, "
        "'source_row': source_row}, letter))::varchar as sample from told group by 1, 2, 3), "
        f"ranked as (select *, row_number() over (order by rows desc, rule, column_name, reason) > {REASONS_MAX} "
        "as rare from sums) "
        "select case when rare then '' else rule end, case when rare then '' else column_name end, "
        f"case when rare then {literal(OTHER_REASONS)} else reason end, sum(rows)::bigint, min(first_seen), "
        "max(last_seen), min(sample) from ranked group by 1, 2, 3 order by 4 desc, 1, 2, 3"
    ).fetchall()
    return [ReasonCount(*row) for row in rows]


def rejected_sums(
    engine: "duckdb.DuckDBPyConnection",
    connection: "psycopg.Connection[Any]",
    publish: Publish,
    by: Sequence[str],
    columns: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Rejected rows of one publish summed by group: the columns of `by`, then each measure of `columns`.

    columns: measure → column, or ROWS. A sum of which a row has no number is null. Raises as index.letters_of.
    """
    file = letters_of(connection, publish)
    if file is None:
        return []
    found = [file]
    sums = {m: "count(*)" if c == ROWS else _exact_sum(engine, found, c) for m, c in columns.items()}
    groups = list(map(exact_value, by))
    rows = engine.execute(
        f"select {', '.join([*groups, *sums.values()])} from {letters(found)} "
        f"group by {', '.join(map(str, range(1, len(by) + 1)))}"
    ).fetchall()
    return [dict(zip((*by, *sums), row, strict=True)) for row in rows]


def _exact_sum(engine: "duckdb.DuckDBPyConnection", found: Sequence[LetterFile], column: str) -> str:
    """Expression with as many digits after the point as any of the values has. Raises duckdb.Error beyond 38."""
    text = exact_value(column)
    row = engine.execute(f"select max(length(split_part({text}, '.', 2))) from {letters(found)}").fetchone()
    scale = int(row[0] or 0) if row else 0
    value = f"({text})::decimal(38,{scale})"
    return f"case when count({text}) = count(*) then sum({value}) end"
