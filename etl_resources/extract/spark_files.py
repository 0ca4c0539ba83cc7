"""Executors read landed files: each task some of them, by the reader and the statement of the embedded engine.

An object is the smallest part: its rows are numbered, and a compressed one is read from its beginning.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from etl_resources.contract import Contract
from etl_resources.conventions import PARQUET, raw_location
from etl_resources.engines.spark_metrics import SparkMeasures
from etl_resources.engines.spark_tasks import TaskEngine, engine_in_tasks, run_tasks
from etl_resources.engines.transform import JUDGED
from etl_resources.extract.delivered_rows import LookAt, WrittenRows, write_delivered
from etl_resources.extract.delivery import Reading
from etl_resources.extract.file_rows import rows_of
from etl_resources.extract.raw_zone import RawObject, RawZone
from etl_resources.extract.shares import dealt
from etl_resources.failpoints import failpoint
from etl_resources.identifiers import literal
from etl_resources.manifest_sources import S3FilesSource
from etl_resources.object_store import ObjectStore, s3_client
from etl_resources.retries import retry_transient
from etl_resources.sensitive import HashKey

if TYPE_CHECKING:
    import duckdb
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class FilesToRead:
    """A delivery of files, as tasks read it."""

    source: S3FilesSource
    dataset: str
    bucket: str
    """The platform's, with the raw copies."""
    landed: tuple[RawObject, ...]
    reading: Reading
    readers: int
    """Tasks at most."""
    engine: TaskEngine

    def parts(self) -> list[list[RawObject]]:
        """What each task reads."""
        return dealt(self.landed, lambda raw: raw.size_bytes, self.readers)


@dataclass(frozen=True)
class _Target:
    """Where a task writes, and what."""

    asset: str
    contract: Contract
    folder: str
    run_id: str
    field_ids: str
    key: HashKey | None
    mark: str
    """In the names of the files of one try."""


@dataclass(frozen=True)
class _Part:
    """What a task made of its files."""

    rows: WrittenRows
    rejected_paths: tuple[str, ...]


def write_files_on_spark(
    spark: "SparkSession",
    engine: "duckdb.DuckDBPyConnection",
    files: FilesToRead,
    *,
    asset: str,
    contract: Contract,
    folder: str,
    run_id: str,
    field_ids: str,
    keep_rejected: Callable[["duckdb.DuckDBPyConnection"], Mapping[str, int]],
    look: LookAt,
    key: HashKey | None,
    delete: Callable[[Sequence[str]], object],
    measures: SparkMeasures,
) -> WrittenRows:
    """As write_delivered, by tasks. engine: of this process, which is shown the rejected rows of all of them.

    delete: takes away the files in which these came. measures: what Spark does is added to it.
    """
    target = _Target(asset, contract, folder, run_id, field_ids, key, uuid4().hex[:8])
    what = f"{asset}: reading {files.source.prefix}"
    parts = run_tasks(spark, partial(_write, files, target), files.parts(), what, measures)
    paths = tuple(sorted(path for part in parts for path in part.rows.paths))
    rejected_paths = [path for part in parts for path in part.rejected_paths]
    reasons: Mapping[str, int] = {}
    if rejected_paths:
        scan = f"read_parquet([{', '.join(map(literal, rejected_paths))}])"
        engine.execute(f"create or replace view {JUDGED} as select * from {scan}")
        try:
            look(engine, paths)
            reasons = dict(keep_rejected(engine))
        finally:
            engine.execute(f"drop view {JUDGED}")
            delete(rejected_paths)
    return WrittenRows(
        paths,
        sum(part.rows.read for part in parts),
        sum(part.rows.written for part in parts),
        sum(part.rows.rejected for part in parts),
        reasons,
        max(part.rows.seconds for part in parts),
        engine_in_tasks(),
    )


def _write(files: FilesToRead, target: _Target, part: Sequence[RawObject], task: str) -> _Part:
    """Body of a task."""
    rejected: list[str] = []

    def keep(own: "duckdb.DuckDBPyConnection") -> Mapping[str, int]:
        path = f"{target.folder}/rejected-{target.mark}-{task}.parquet"
        own.execute(f"copy (select * from {JUDGED}) to {literal(path)} ({PARQUET})")
        rejected[:] = [path]
        return {}

    with files.engine.open() as own:
        rows = rows_of(files.source, own, _zone(files, target.run_id), part, files.reading, files.landed)
        write = partial(
            write_delivered,
            own,
            target.asset,
            target.contract,
            rows,
            target.folder,
            run_id=target.run_id,
            field_ids=target.field_ids,
            keep_rejected=keep,
            key=target.key,
            name=f"part-{target.mark}-{task}",
        )
        written = retry_transient(write, target.asset)
    failpoint("spark.files_written", target.folder)
    return _Part(written, tuple(rejected))


def _zone(files: FilesToRead, run_id: str) -> RawZone:
    settings = files.engine.settings
    endpoint, key, secret = settings.require_s3()
    client = s3_client(endpoint, (key, secret), region=settings.s3_region, timeout_s=settings.s3_timeout_s)
    return RawZone(ObjectStore(client, raw_location(files.bucket)), files.dataset, run_id)
