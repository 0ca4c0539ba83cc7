"""What the stores hold now, reread by SQL: rows, content hash and keys by partition, never as remembered.

Everything is aggregated in the store's engine; what comes back is one row per partition. What is right is for the
caller to say (etl_assets.verify_differences).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_resources.contract import Contract
from etl_resources.identifiers import literal, quote, quote_qualified
from etl_resources.partition_sql import PartitionBy
from etl_resources.quality.content_hash import content_hash, version_of
from etl_resources.tables.head import PartitionHead

if TYPE_CHECKING:
    import duckdb
    import psycopg

ROWS_PER_QUERY = 2_000_000
"""Partitions are read together up to this many rows; keys are grouped in memory in buckets of this many."""
DUPLICATES_SHOWN = 20
NO_PARTITION = "null"
"""Partition of rows whose partition column is null."""


@dataclass(frozen=True)
class StoredContent:
    """What a store holds of one partition."""

    rows: int
    version: str
    outside: int = 0
    """Rows of the partition's files whose date lies in another partition."""


EMPTY = StoredContent(0, version_of(0, "0" * 16))


@dataclass(frozen=True)
class DuplicateKeys:
    """Keys that occur more than once, in files of these two partitions (or of one, named twice)."""

    first: str
    last: str
    keys: int
    surplus_rows: int


def batches(heads: Mapping[str, PartitionHead], rows: int = ROWS_PER_QUERY) -> Iterator[list[str]]:
    """Partitions in order, as many together as have at most `rows` rows; at least one."""
    batch: list[str] = []
    total = 0
    for partition in sorted(heads):
        if batch and total + heads[partition].rows > rows:
            yield batch
            batch, total = [], 0
        batch.append(partition)
        total += heads[partition].rows
    if batch:
        yield batch


def read_files(
    engine: "duckdb.DuckDBPyConnection", contract: Contract, schema: str, heads: Mapping[str, PartitionHead]
) -> dict[str, StoredContent]:
    """Partition → content of its files, one query for all. Raises duckdb.Error when a file can't be read."""
    inside = PartitionBy.of(contract).between("etl_first_day", "etl_end_day")
    rows = engine.execute(
        f"select etl_partition, count(*), {content_hash(contract, 'duckdb')}, "
        f"count(*) filter (where not coalesce({inside}, false)) "
        f"from {_with_partitions(contract, heads, schema)} group by 1"
    ).fetchall()
    found = {p: StoredContent(int(n), version_of(int(n), digest), int(outside)) for p, n, digest, outside in rows}
    return {p: found.get(p, EMPTY) for p in heads}


def duplicate_keys(
    engine: "duckdb.DuckDBPyConnection", contract: Contract, schema: str, heads: Mapping[str, PartitionHead]
) -> list[DuplicateKeys]:
    """Keys that these partitions hold more than once, within one or across them; the most frequent places first."""
    keys = ", ".join(map(quote, contract.key))
    buckets = 1 + sum(h.rows for h in heads.values()) // ROWS_PER_QUERY
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for bucket in range(buckets):
        rows = engine.execute(
            "select first, last, count(*), sum(rows - 1)::bigint from ("
            "select min(etl_partition) as first, max(etl_partition) as last, count(*) as rows "
            f"from {_with_partitions(contract, heads, schema)} where hash({keys}) % {buckets} = {bucket} "
            f"group by {keys} having count(*) > 1) group by all order by 3 desc limit {DUPLICATES_SHOWN}"
        ).fetchall()
        for first, last, count, surplus in rows:
            before = found.get((first, last), (0, 0))
            found[first, last] = (before[0] + int(count), before[1] + int(surplus))
    return [DuplicateKeys(*place, *counts) for place, counts in sorted(found.items(), key=lambda f: -f[1][0])]


def scan_rows(engine: "duckdb.DuckDBPyConnection", contract: Contract, metadata_location: str) -> dict[str, int]:
    """Partition → rows that an Iceberg reader sees in the whole table. Partitions without rows are absent."""
    rows = engine.execute(
        f"select coalesce({PartitionBy.of(contract).key()}, {literal(NO_PARTITION)}), count(*) "
        f"from iceberg_scan({literal(metadata_location)}) group by 1"
    ).fetchall()
    return {p: int(n) for p, n in rows}


def served_columns(connection: "psycopg.Connection[Any]", target: str) -> set[str]:
    """Columns of a Postgres table; none when it isn't there."""
    rows = connection.execute(
        "select attname from pg_attribute where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped",
        (quote_qualified(target),),
    ).fetchall()
    return {name for (name,) in rows}


def read_served(connection: "psycopg.Connection[Any]", contract: Contract, target: str) -> dict[str, StoredContent]:
    """Partition → content of a Postgres table, one query; in the caller's transaction, whose time zone it sets."""
    connection.execute("set local timezone = 'UTC'")
    rows = connection.execute(
        f"select coalesce({PartitionBy.of(contract).key('postgres')}, '{NO_PARTITION}'), count(*), "
        f"{content_hash(contract, 'postgres')} from {quote_qualified(target)} group by 1"
    ).fetchall()
    return {p: StoredContent(int(n), version_of(int(n), digest)) for p, n, digest in rows}


def _with_partitions(contract: Contract, heads: Mapping[str, PartitionHead], schema: str) -> str:
    """FROM clause: rows of the partitions' files, each with the partition that its file belongs to (etl_partition) and
    that partition's first and end day."""
    by = PartitionBy.of(contract)
    placed = [(path, p) for p, head in heads.items() for path in head.data_paths]
    rows = ", ".join(f"({literal(path)}, {literal(p)}, {', '.join(by.literals(p))})" for path, p in placed)
    files = ", ".join(literal(path) for path, _ in placed)
    return (
        f"read_parquet([{files}], schema = {schema}, filename = 'etl_file') join (values {rows}) "
        "as etl_placed(etl_path, etl_partition, etl_first_day, etl_end_day) on etl_path = etl_file"
    )


def unreadable(error: Exception) -> bool:
    """Whether a DuckDB error says that a file is missing or damaged, and not that the storage can't be reached."""
    import duckdb

    if isinstance(error, duckdb.HTTPException):
        return int(getattr(error, "status_code", 0) or 0) in _MISSING
    return isinstance(error, duckdb.InvalidInputException | duckdb.IOException | duckdb.ConversionException)


_MISSING: Sequence[int] = (404, 410, 416)
