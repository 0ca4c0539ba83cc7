"""A table of the product on the stack's Postgres and S3, published without Dagster.

A partition's content is one number, the amount of its rows; so a test reads like a story.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import duckdb
from pyiceberg.table import Table

from etl_resources.conventions import BRANCH_PREFIX, staged_folder
from etl_resources.engines.embedded import connect
from etl_resources.extract.capture import write_empty
from etl_resources.identifiers import literal
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.records import IntendedPartition
from etl_resources.object_store import ObjectStore
from etl_resources.quality.content_hash import content_hash, version_of
from etl_resources.settings import load_settings
from etl_resources.tables.address import TableAddress
from etl_resources.tables.expiry import Retention
from etl_resources.tables.head import read_head
from etl_resources.tables.input_tables import parquet_scan
from etl_resources.tables.maintenance import MaintenancePolicy, TableMaintenance, maintain_table
from etl_resources.tables.schema import field_ids, read_schema
from etl_resources.tables.stage import StagedPartition
from etl_resources.tables.table_store import StagedBatch, TableStore, WrittenPartition
from tests.integration.local_table import CONTRACT, token_of

ROWS = 2
"""Of one file."""
EAGER = MaintenancePolicy(Retention(keep_versions=1, keep_s=0, max_versions=1, guard_s=0), 128 << 20)
"""Keeps only what is current: what survives survives by a rule, not by its age."""


@dataclass
class StoreTable:
    """One session with one table; the next session on it takes the same dataset."""

    ledger: Ledger
    bucket: str
    dataset: str = field(default_factory=lambda: f"t_{uuid4().hex[:10]}")

    def __post_init__(self) -> None:
        self.settings = load_settings()
        self.store = TableStore(self.settings, self.bucket)
        self.catalog = self.store.catalog
        self.address = TableAddress("silver", self.dataset, "acme", CONTRACT, "1", "test", self.bucket)
        self.engine: duckdb.DuckDBPyConnection = connect(self.settings)
        self.field_ids = field_ids(self.store.ensure(self.address).schema(), self.address.columns)

    @property
    def table(self) -> Table:
        return self.catalog.load_table(self.address.identifier)

    def stage(self, contents: Mapping[str, int], *, files: int = 1, alias: bool = False) -> StagedBatch:
        """Stage partition → value in so many files, or as alias of what is published."""
        run, epoch = uuid4().hex, self.ledger.draw_epoch()
        token = token_of(run)
        attempt = self.ledger.open_attempt(self.address.asset, run)
        self.ledger.intend(attempt, [IntendedPartition(p, epoch, token) for p in contents])
        written = [self._written(p, epoch, token, value, files, alias) for p, value in contents.items()]
        return self.store.stage(self.ledger, self.address, attempt, run, written)

    def publish(self, contents: Mapping[str, int], **options: Any) -> None:
        outcome = self.stage(contents, **options).publish()
        assert {p.partition for p in outcome.published} == set(contents)

    def contents(self, snapshot: int | str | None = None) -> dict[str, tuple[int, int]]:
        """Partition → (value, rows) at a snapshot or tag (default: now), reread from S3."""
        table = self.table
        snapshot_id = table.refs()[snapshot].snapshot_id if isinstance(snapshot, str) else snapshot
        return self.read({p: h.data_paths for p, h in read_head(table, snapshot_id).items()})

    def read(self, paths: Mapping[str, list[str]]) -> dict[str, tuple[int, int]]:
        """Partition → (value, rows) of these files."""
        schema = read_schema(self.table.schema())
        found = {}
        for partition, some in sorted(paths.items()):
            row = self.engine.execute(
                "select coalesce(min(amount), 0)::int, count(*), count(distinct amount) "
                f"from {parquet_scan(some, schema)}"
            ).fetchone()
            assert row is not None
            assert row[2] <= 1, f"{partition} is torn"
            found[partition] = (row[0], row[1])
        return found

    def files(self) -> dict[str, list[str]]:
        return {p: sorted(f.file_path for f in h.files) for p, h in sorted(read_head(self.table).items())}

    def epochs(self) -> dict[str, int]:
        return {p: h.epoch for p, h in sorted(read_head(self.table).items())}

    def branches(self) -> list[str]:
        return [r for r in self.table.refs() if r.startswith(BRANCH_PREFIX)]

    def objects(self, folder: str) -> dict[str, int]:
        """Objects below the table's folder, with their sizes."""
        store = ObjectStore.of(self.catalog, self.address.location)
        return {o.path: o.size_bytes for o in store.list(folder) if not o.path.endswith("/")}

    def maintain(self, policy: MaintenancePolicy = EAGER, **options: Any) -> TableMaintenance:
        return maintain_table(self.catalog, self.ledger, self.engine, self.address, policy, **options)

    def _written(self, partition: str, epoch: int, token: str, value: int, files: int, alias: bool) -> WrittenPartition:
        names = {"epoch": epoch, "token": token, "field_ids": self.field_ids}
        before = self.ledger.current(self.address.asset).get(partition)
        if alias:
            assert before is not None
            path = write_empty(self.engine, self.address, partition, **names)  # type: ignore[arg-type]
            staged = StagedPartition(partition, token, epoch, before.version, before.rows, alias_of=before.epoch)
            return WrittenPartition(staged, (path,), {"counts": {}, "linked": [], "stage_s": 0.0})
        paths = [self._write(partition, epoch, token, value, n) for n in range(files)]
        scan = parquet_scan(paths, read_schema(self.table.schema()))
        row = self.engine.execute(f"select count(*), {content_hash(CONTRACT, 'duckdb')} from {scan}").fetchone()
        assert row is not None
        staged = StagedPartition(partition, token, epoch, version_of(*row), row[0])
        return WrittenPartition(staged, tuple(paths), {"counts": {}, "linked": [], "stage_s": 0.0})

    def _write(self, partition: str, epoch: int, token: str, value: int, n: int) -> str:
        path = f"{staged_folder(self.address.location, partition, epoch, token)}/part-{n}.parquet"
        self.engine.execute(
            f"copy (select (i + {n * ROWS})::bigint as order_id, date '{partition}-01' + i::int as order_date, "
            f"{value}::decimal(15,2) as amount from range({ROWS}) t(i)) to {literal(path)} "
            f"(format parquet, compression zstd, field_ids {self.field_ids})"
        )
        return path


@contextmanager
def store_table(bucket: str, dataset: str | None = None) -> Iterator[StoreTable]:
    """A new table, or another session on one. Needs the fixture `stack`."""
    with Ledger.open(load_settings()) as ledger:
        yield StoreTable(ledger, bucket, dataset) if dataset else StoreTable(ledger, bucket)
