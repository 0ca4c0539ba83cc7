"""Write captured partitions of one source table as Parquet, straight from the server to S3."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etl_resources.conventions import META_RUN_ID, PARQUET, epoch_folder, parse_staged_path, staged_folder
from etl_resources.engines.transform import JUDGED, engine_error
from etl_resources.extract.covered_rows import covered_rows
from etl_resources.extract.exported_snapshot import ExportedSnapshot
from etl_resources.extract.postgres import SourceTable
from etl_resources.extract.shares import Share
from etl_resources.extract.source_query import select_rows
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


@dataclass(frozen=True)
class CaptureWriter:
    """How the captured rows of one table are written, whoever reads them: this engine, or one in an executor."""

    table: SourceTable
    address: TableAddress
    epoch: int
    mark: str
    """Hex digits that name the attempt in the path, in the token's place (a capture's token is known only after it is
    hashed)."""
    run_id: str
    field_ids: str
    key: HashKey | None = None
    """Of hashed columns."""

    def write(
        self,
        engine: "duckdb.DuckDBPyConnection",
        snapshot: ExportedSnapshot,
        share: Share,
        name: str = "part",
        alias: str = "source",
    ) -> list[str]:
        """Paths written: one folder per partition that has rows, files beginning with `name`. The engine must be
        attached to the snapshot."""
        good = "where len(_reasons) = 0" if self.table.judged else ""
        columns = ", ".join(map(quote, self.address.contract.names))
        query = (
            f"select {columns}, {literal(self.run_id)} as {META_RUN_ID}, "
            f"{self.table.placed_by.key()} as partition "
            f"from ({_rows(self.table, self.address, share, alias)}) {good}"
        )
        pattern = f"{epoch_folder(self.epoch, self.mark)}/{name}-{{i}}"
        try:
            with snapshot.reader(engine, alias) as reader:
                if self.key is not None:
                    self.key.use(reader)
                reader.execute(f"set partitioned_write_max_open_files = {max(100, len(share.partitions))}")
                reader.execute(f"set partitioned_write_flush_threshold = {BUFFERED_ROWS}")
                written = reader.execute(
                    f"copy ({query}) to {literal(f'{self.address.location}/data')} ({PARQUET}, "
                    f"field_ids {self.field_ids}, partition_by (partition), overwrite_or_ignore, "
                    f"filename_pattern {literal(pattern)}, return_files)"
                ).fetchone()
        except Exception as e:
            if self.table.sensitive:
                raise without_values(f"Capturing {self.table.name}", e) from None
            raise engine_error(f"Capturing {self.table.name}", e) from e
        return list(written[1]) if written else []


def capture_table(
    engine: "duckdb.DuckDBPyConnection",
    snapshot: ExportedSnapshot,
    writer: CaptureWriter,
    partitions: Sequence[str],
    *,
    alias: str = "source",
) -> list[str]:
    """Paths written by this engine, which must be attached to the snapshot."""

    def copy_again(share: Share) -> list[str]:
        return retry_transient(lambda: writer.write(engine, snapshot, share, alias=alias), writer.address.asset)

    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(with_retries_of_here(copy_again), _shares(partitions))
        return [path for paths in found for path in paths]


def judge_rejected(
    engine: "duckdb.DuckDBPyConnection",
    snapshot: ExportedSnapshot,
    table: SourceTable,
    address: TableAddress,
    partition: str,
    keep: Callable[["duckdb.DuckDBPyConnection"], None],
    alias: str = "source",
    key: HashKey | None = None,
) -> None:
    """Hand a partition's rejected rows, in table JUDGED, to `keep`."""
    rows = _rows(table, address, Share((partition,)), alias)
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


def _rows(table: SourceTable, address: TableAddress, share: Share, alias: str) -> str:
    """Query: the contract's columns, typed; if values are judged, with _payload and _reasons. What the source no longer
    has is null."""
    contract = address.contract
    of_server = select_rows(table.source, table.by, share.partitions, table.as_text, share.within)
    read = f"postgres_query({literal(alias)}, {literal(of_server)})"
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


def _shares(partitions: Sequence[str]) -> list[Share]:
    """Neighbouring partitions, as many shares as there are readers: one statement is decoded by one thread."""
    ordered = sorted(partitions)
    size = -(-len(ordered) // READERS)
    return [Share((*ordered[i : i + size],)) for i in range(0, len(ordered), size)]


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
    empty = f"copy (select {', '.join(columns)} limit 0) to {literal(path)} ({PARQUET}, field_ids {field_ids})"
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
