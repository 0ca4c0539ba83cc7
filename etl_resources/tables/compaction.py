"""Compaction: the small files and markers of a partition become one file of equal content, or one per bucket; files
that were written before the table's buckets changed are rearranged.

Nothing is published by it: partition, epoch, token and version stay, so no dependant sees a change. It is an attempt
all the same: an intent in the ledger and a branch that recovery can drop, because a compaction that slept while its
files were cleaned away as orphans must not put them into the table.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import uuid4

from etl_resources.contract import ContractColumn
from etl_resources.conventions import META_RUN_ID, PARQUET, branch_name, staged_folder
from etl_resources.engines.bucketed_files import write_buckets
from etl_resources.engines.transform import engine_error
from etl_resources.errors import FencedError, PermanentError, UnknownCommitError
from etl_resources.identifiers import literal
from etl_resources.ledger.ledger import Ledger
from etl_resources.quality.content_hash import content_hash
from etl_resources.tables.address import TableAddress
from etl_resources.tables.commit import (
    build_snapshot,
    compare_and_swap,
    point_branch,
    ref_is,
    remove_branch,
    retry_conflicts,
)
from etl_resources.tables.data_files import data_files
from etl_resources.tables.head import PartitionHead, read_head
from etl_resources.tables.input_tables import parquet_scan
from etl_resources.tables.partitioning import Bucketing
from etl_resources.tables.publish import drop_branch
from etl_resources.tables.schema import field_ids, fields_of, read_schema
from etl_resources.tables.stage import ATTEMPT_KEY, RUN_KEY, committed_by

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

RUN_ID = "maintenance"
COMPACTED_KEY = "etl.compacted"
"""Summary key: the partitions whose files were rewritten."""
SMALL = 0.75
"""A file below this share of the wanted size is small."""
BATCH_BYTES = 1 << 30
BATCH_PARTITIONS = 100
"""Rewritten in one commit at most: what a crash wastes."""


@dataclass(frozen=True)
class Rewrite:
    """Files of one partition that become one file, or one per bucket."""

    partition: str
    epoch: int
    token_prefix: str
    files: "tuple[DataFile, ...]"
    """Small files with rows, read together."""
    markers: "tuple[DataFile, ...]" = ()
    """Files without rows: the new file carries their epoch."""

    @property
    def size_bytes(self) -> int:
        return sum(f.file_size_in_bytes for f in self.files)


def plan_rewrites(heads: Mapping[str, PartitionHead], target_bytes: int, spec_id: int = 0) -> list[Rewrite]:
    """What is worth rewriting: several small files of a bucket, a small file beside markers, and all files by another
    partition spec than spec_id, the table's. Output files ≤ target_bytes, but for rearranged ones.
    """
    found: list[Rewrite] = []
    for partition, head in sorted(heads.items()):
        full = [f for f in head.files if f.record_count]
        markers = tuple(f for f in head.files if not f.record_count)
        old = [f for f in full if f.spec_id != spec_id]
        small = (f for f in full if f.spec_id == spec_id and f.file_size_in_bytes < SMALL * target_bytes)
        for files in [*([old] if old else []), *_packed_by_bucket(small, target_bytes)]:
            if len(files) > 1 or markers or files is old:
                found.append(Rewrite(partition, head.epoch, head.token_prefix, tuple(files), markers))
                markers = ()
    return found


def _packed_by_bucket(files: "Iterable[DataFile]", target_bytes: int) -> "Iterator[list[DataFile]]":
    buckets: dict[str, list[DataFile]] = {}
    for file in files:
        buckets.setdefault(repr(file.partition), []).append(file)
    for _, same in sorted(buckets.items()):
        yield from _packed(sorted(same, key=lambda f: f.file_size_in_bytes), target_bytes)


def _packed(files: "Sequence[DataFile]", target_bytes: int) -> "Iterator[list[DataFile]]":
    pack: list[DataFile] = []
    for file in files:
        if pack and sum(f.file_size_in_bytes for f in pack) + file.file_size_in_bytes > target_bytes:
            yield pack
            pack = []
        pack.append(file)
    if pack:
        yield pack


def batches(rewrites: Sequence[Rewrite]) -> Iterator[list[Rewrite]]:
    """Rewrites by commit; those of one partition stay together."""
    batch: list[Rewrite] = []
    for rewrite in rewrites:
        full = sum(r.size_bytes for r in batch) > BATCH_BYTES or len({r.partition for r in batch}) >= BATCH_PARTITIONS
        if batch and full and batch[-1].partition != rewrite.partition:
            yield batch
            batch = []
        batch.append(rewrite)
    if batch:
        yield batch


def compact(
    catalog: "Catalog",
    ledger: Ledger,
    engine: "duckdb.DuckDBPyConnection",
    address: TableAddress,
    rewrites: Sequence[Rewrite],
) -> set[str]:
    """Partitions rewritten; one that was published meanwhile is left out.

    Raises PermanentError when a new file's content differs from what it replaces, FencedError when recovery took this
    attempt for dead.
    """
    attempt = ledger.open_attempt(address.asset, RUN_ID)
    try:
        table, base = _open_branch(catalog, address.identifier, attempt)
        written = [(r, _rewrite(engine, address, table, r)) for r in rewrites]
        with ledger.committing(address.asset):
            snapshot_id, done = _swap(catalog, address.identifier, attempt, base, written)
    except UnknownCommitError:
        raise  # settled later, from the table
    except Exception as e:
        drop_branch(catalog, address.identifier, attempt)
        ledger.settle(attempt, "failed", str(e))
        raise
    ledger.record_published(attempt, [], snapshot_id)
    return done


def _open_branch(catalog: "Catalog", identifier: str, attempt: str) -> "tuple[Table, int]":
    """The fence is there before anything is written."""
    branch = branch_name(attempt)

    def once(_: int) -> "tuple[Table, int]":
        table = catalog.load_table(identifier)
        head = table.current_snapshot()
        assert head is not None  # noqa: S101  (there are files to rewrite)
        compare_and_swap(catalog, table, (ref_is(branch, None),), (point_branch(branch, head.snapshot_id),))
        return table, head.snapshot_id

    return retry_conflicts(once)


def _rewrite(
    engine: "duckdb.DuckDBPyConnection", address: TableAddress, table: "Table", rewrite: Rewrite
) -> tuple[str, ...]:
    """Paths of the new files, streamed from the old ones and proved equal to them."""
    import duckdb

    address = address.as_stored(table)
    every = table.schema()  # also columns that the contract no longer has: a partition of before has their values
    schema, ids = read_schema(every), field_ids(every, every.column_names)
    folder = staged_folder(address.location, rewrite.partition, rewrite.epoch, rewrite.token_prefix)
    name, buckets = f"compacted-{uuid4().hex[:12]}", Bucketing.of(table)
    old = parquet_scan([f.file_path for f in rewrite.files], schema)
    try:
        if buckets is None:
            paths: tuple[str, ...] = (f"{folder}/{name}.parquet",)
            copied = f"copy (from {old}) to {literal(paths[0])} ({PARQUET}, field_ids {ids})"
            engine.execute(copied)
        else:
            columns, kind = every.column_names, fields_of(every)[buckets.column]
            order = address.contract.key
            paths = write_buckets(
                engine, f"from {old}", columns, buckets, kind, folder, name, field_ids=ids, order=order
            )
        before, after = (_content(engine, address, scan) for scan in (old, parquet_scan([*paths], schema)))
    except duckdb.Error as e:
        raise engine_error(f"Compacting {address.asset}, partition {rewrite.partition}", e) from e
    if before != after:
        raise PermanentError(
            f"{address.asset}, partition {rewrite.partition}: {len(paths)} compacted files in {folder} hold {after[0]} "
            f"rows with hash {after[1]}, the files that they replace {before[0]} with {before[1]}. They were not "
            "published; please report it."
        )
    return paths


def _content(engine: "duckdb.DuckDBPyConnection", address: TableAddress, scan: str) -> tuple[int, str]:
    """Rows and hash of all columns, the run that delivered a row included."""
    contract = address.contract
    if address.with_run_id:
        contract = replace(contract, columns=(*contract.columns, ContractColumn(META_RUN_ID, "string", nullable=False)))
    row = engine.execute(f"select count(*), {content_hash(contract, 'duckdb')} from {scan}").fetchone()
    assert row is not None  # noqa: S101  (an aggregate has one row)
    return int(row[0]), str(row[1])


def same_columns(address: TableAddress, table: "Table") -> bool:
    """Whether the table has the manifest's columns; between an edit and the next run it hasn't."""
    expected = {*address.as_stored(table).contract.names, *([META_RUN_ID] if address.with_run_id else [])}
    return {f.name for f in table.schema().fields} == expected


def _swap(
    catalog: "Catalog", identifier: str, attempt: str, base: int, written: Sequence[tuple[Rewrite, tuple[str, ...]]]
) -> tuple[int | None, set[str]]:
    """(snapshot, partitions rewritten) by one compare-and-swap on main and on the attempt's branch, which goes."""
    branch = branch_name(attempt)

    def once(_: int) -> tuple[int | None, set[str]]:
        table = catalog.load_table(identifier)
        if branch not in table.refs():
            found = _committed(table, attempt)
            if found:
                return found
            raise FencedError(f"{identifier}: branch {branch} is gone; this compaction may no longer commit.")
        heads = read_head(table)
        kept = [(r, paths) for r, paths in written if _unchanged(heads.get(r.partition), r)]
        guards, drop = (ref_is(branch, base),), remove_branch(branch)
        if not kept:
            compare_and_swap(catalog, table, guards, (drop,))
            return None, set()
        partitions = {r.partition for r, _ in kept}
        producer, updates = build_snapshot(
            table,
            add=data_files(table.io, table.metadata, [(r.partition, path) for r, paths in kept for path in paths]),
            delete=[f for r, _ in kept for f in (*r.files, *r.markers)],
            summary={ATTEMPT_KEY: attempt, RUN_KEY: RUN_ID, COMPACTED_KEY: ",".join(sorted(partitions))},
        )
        head = table.metadata.current_snapshot_id
        try:
            compare_and_swap(catalog, table, (*guards, ref_is("main", head)), (*updates, drop), producer)
        except UnknownCommitError:
            found = _committed(catalog.load_table(identifier), attempt)
            if found is None:
                raise
            return found
        return int(producer.snapshot_id), partitions

    return retry_conflicts(once)


def _unchanged(head: PartitionHead | None, rewrite: Rewrite) -> bool:
    """Whether the partition is the one that was rewritten: same epoch, and all its files still there."""
    old = {f.file_path for f in (*rewrite.files, *rewrite.markers)}
    return head is not None and head.epoch == rewrite.epoch and old <= {f.file_path for f in head.files}


def _committed(table: "Table", attempt: str) -> tuple[int, set[str]] | None:
    """(snapshot, partitions) of what this attempt committed, read back."""
    found = committed_by(table, attempt)
    return (found[0], set(found[1][COMPACTED_KEY].split(","))) if found else None
