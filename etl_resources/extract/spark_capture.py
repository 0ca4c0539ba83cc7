"""Executors read a Postgres source: each task by a connection of its own, all in the one snapshot that was exported.

A task runs the statement that the embedded engine would run, for its share of the rows.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from etl_resources.engines.spark_metrics import SparkMeasures
from etl_resources.engines.spark_tasks import TaskEngine, run_tasks
from etl_resources.extract.capture import CaptureWriter
from etl_resources.extract.postgres import PostgresSnapshot
from etl_resources.extract.shares import Share, shares_of
from etl_resources.failpoints import failpoint
from etl_resources.retries import retry_transient

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from etl_resources.extract.exported_snapshot import ExportedSnapshot


def capture_on_spark(
    spark: "SparkSession",
    snapshot: PostgresSnapshot,
    writer: CaptureWriter,
    rows: Mapping[str, int],
    *,
    readers: int,
    engine: TaskEngine,
    measures: SparkMeasures,
) -> list[str]:
    """Paths written, as capture_table. rows: partition → its rows in the snapshot; those without any are in no file.

    readers: tasks, and so connections to the source, at once. measures: what Spark does is added to it.
    """
    asset = writer.address.asset
    pages = snapshot.pages(writer.table) if writer.table.by is None else 0
    parts = shares_of(writer.table.source, writer.table.by, rows, readers, pages)
    if not parts:
        return []

    def once() -> list[str]:
        write = partial(_write, engine, snapshot.exported, writer, uuid4().hex[:8])
        written = run_tasks(spark, write, parts, f"{asset}: reading {writer.table.name}", measures)
        return [path for paths in written for path in paths]

    return retry_transient(once, asset)


def _write(
    engine: TaskEngine,
    snapshot: "ExportedSnapshot",
    writer: CaptureWriter,
    mark: str,
    shares: Sequence[Share],
    task: str,
) -> list[str]:
    """Body of a task. mark: in the names of the files of one try at all of them."""
    paths: list[str] = []
    with engine.open("postgres_scanner") as own:
        retry_transient(lambda: snapshot.attach(own), writer.table.name)
        for n, share in enumerate(shares):
            write = partial(writer.write, own, snapshot, share, f"part-{mark}-{task}-{n}")
            paths += retry_transient(write, writer.address.asset)
    failpoint("spark.files_written", writer.address.location)
    return paths
