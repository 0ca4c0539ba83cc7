"""Write captured partitions of one source table as Parquet, straight from the server to S3."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etl_resources.conventions import META_RUN_ID, epoch_folder, parse_staged_path, staged_folder
from etl_resources.engines.transform import JUDGED, engine_error
from etl_resources.extract.covered_rows import covered_rows
from etl_resources.extract.postgres import PostgresSnapshot, SourceTable
from etl_resources.identifiers import literal, quote
from etl_resources.quality.content_hash import content_hash, version_of
from etl_resources.quality.rules import rejection_reasons, typed_columns
from etl_resources.retries import retry_transient, with_retries_of_here
from etl_resources.sensitive import HashKey, without_values
from etl_resources.tables.address import TableAddress
from etl_resources.tables.input_tables import parquet_scan
from etl_resources.tables.schema import duckdb_type

if TYPE_CHECKING:
    import duckdb


READERS = 2
"""Statements that read the source at once, each in the same snapshot."""
BUFFERED_ROWS = 131_072
"""Rows that a writer sorts by partition at once; four times as many (the engine's default) fall out of its cache."""


@dataclass(frozen=True)
class CapturedPartition:
    """Files of one partition, with what they hold."""

    partition: str
    paths: tuple[str, ...]
    rows: int
    keys: int
    """Distinct keys."""
    version: str


def capture_table(
    engine: "duckdb.DuckDBPyConnection",
    snapshot: PostgresSnapshot,
    table: SourceTable,
    address: TableAddress,
    partitions: Sequence[str],
    *,
    epoch: int,
    mark: str,
    run_id: str,
    field_ids: str,
    alias: str = "source",
    key: HashKey | None = None,
) -> list[str]:
    """Paths written: one folder per partition that has rows. The engine must be attached to the snapshot.

    mark: hex digits that name the attempt in the path, in the token's place (a capture's token is known only after it
    is hashed). key: of hashed columns.
    """
    columns = ", ".join(map(quote, address.contract.names))

    def copy(some: Sequence[str]) -> list[str]:
        good = "where len(_reasons) = 0" if table.judged else ""
        query = (
            f"select {columns}, {literal(run_id)} as {META_RUN_ID}, "
            f"{table.placed_by.key()} as partition "
            f"from ({_rows(snapshot, table, address, some, alias)}) {good}"
        )
        try:
            with snapshot.reader(engine, alias) as reader:
                if key is not None:
                    key.use(reader)
                reader.execute(f"set partitioned_write_max_open_files = {max(100, len(some))}")
                reader.execute(f"set partitioned_write_flush_threshold = {BUFFERED_ROWS}")
                written = reader.execute(
                    f"copy ({query}) to {literal(f'{address.location}/data')} (format parquet, compression zstd, "
                    f"field_ids {field_ids}, partition_by (partition), overwrite_or_ignore, "
                    f"filename_pattern {literal(f'{epoch_folder(epoch, mark)}/part-{{i}}')}, return_files)"
                ).fetchone()
        except Exception as e:
            if table.sensitive:
                raise without_values(f"Capturing {table.name}", e) from None
            raise engine_error(f"Capturing {table.name}", e) from e
        return list(written[1]) if written else []

    def copy_again(some: Sequence[str]) -> list[str]:
        return retry_transient(lambda: copy(some), address.asset)

    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(with_retries_of_here(copy_again), _shares(partitions))
        return [path for paths in found for path in paths]


def judge_rejected(
    engine: "duckdb.DuckDBPyConnection",
    snapshot: PostgresSnapshot,
    table: SourceTable,
    address: TableAddress,
    partition: str,
    keep: Callable[["duckdb.DuckDBPyConnection"], None],
    alias: str = "source",
    key: HashKey | None = None,
) -> None:
    """Hand a partition's rejected rows, in table JUDGED, to `keep`."""
    rows = _rows(snapshot, table, address, [partition], alias)
    with snapshot.reader(engine, alias) as reader:
        if key is not None:
            key.use(reader)
        try:
            reader.execute(f"create or replace temp table {JUDGED} as select * from ({rows}) where len(_reasons) > 0")
        except Exception as e:
            if table.sensitive:
                raise without_values(f"Capturing {table.name}", e) from None
            raise engine_error(f"Capturing {table.name}", e) from e
        keep(reader)
        reader.execute(f"drop table {JUDGED}")


def _rows(
    snapshot: PostgresSnapshot, table: SourceTable, address: TableAddress, partitions: Sequence[str], alias: str
) -> str:
    """Query: the contract's columns, typed; if values are judged, with _payload and _reasons. What the source no longer
    has is null."""
    contract, read = address.contract, snapshot.read_sql(table, partitions, alias)
    of_source = {c.name: c.cover.source_type if c.cover else c.type for c in contract.columns}
    read_as = {n: "VARCHAR" if n in table.judged else duckdb_type(kind) for n, kind in of_source.items()}
    given = ", ".join(
        f"{quote(name) if name in table.source.columns else 'null'}::{kind} as {quote(name)}"
        for name, kind in read_as.items()
    )
    rows, types = covered_rows(address.asset, contract, f"(select {given} from {read})", read_as)
    if not table.judged:
        return f"select * from {rows}"
    typed = ", ".join(typed_columns(address.asset, contract, types))
    return (
        f"with typed as (select {typed}, _raw as _payload from {rows} as _raw) "
        f"select typed.*, {rejection_reasons(contract, types)} as _reasons from typed"
    )


def _shares(partitions: Sequence[str]) -> list[list[str]]:
    """Neighbouring partitions, as many shares as there are readers: one statement is decoded by one thread."""
    ordered = sorted(partitions)
    size = -(-len(ordered) // READERS)
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


def write_empty(
    engine: "duckdb.DuckDBPyConnection",
    address: TableAddress,
    partition: str,
    *,
    epoch: int,
    token: str,
    field_ids: str,
) -> str:
    """Path of a file without rows: the tombstone of an empty partition, or the marker of an alias."""
    columns = [f"null::{duckdb_type(c.type)} as {quote(c.name)}" for c in address.contract.columns]
    if address.with_run_id:
        columns.append(f"null::varchar as {META_RUN_ID}")
    path = f"{staged_folder(address.location, partition, epoch, token)}/empty.parquet"
    empty = (
        f"copy (select {', '.join(columns)} limit 0) to {literal(path)} "
        f"(format parquet, compression zstd, field_ids {field_ids})"
    )
    retry_transient(lambda: engine.execute(empty), address.asset)
    return path


def describe_captured(
    engine: "duckdb.DuckDBPyConnection",
    table: SourceTable,
    address: TableAddress,
    paths: Sequence[str],
    schema: str,
) -> Mapping[str, CapturedPartition]:
    """Partition → what its files hold, read back from S3: the content hash is of what was stored."""
    by_partition: dict[str, list[str]] = {}
    for path in paths:
        by_partition.setdefault(parse_staged_path(path)[0], []).append(path)
    if not by_partition:
        return {}
    keys = ", ".join(map(quote, table.source.key))
    partition, digest_of_rows = table.placed_by.key(), content_hash(address.contract, "duckdb")
    query = (
        f"select {partition}, count(*), count(distinct ({keys})), {digest_of_rows} "
        f"from {parquet_scan(sorted(paths), schema)} group by 1"
    )
    rows = retry_transient(lambda: engine.execute(query).fetchall(), address.asset)
    return {
        partition: CapturedPartition(
            partition, tuple(sorted(by_partition[partition])), count, distinct, version_of(count, digest)
        )
        for partition, count, distinct, digest in rows
    }
