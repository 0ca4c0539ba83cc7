"""Who reads a source's rows: the embedded engine, or Spark's executors where the dataset's size says so."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from etl_assets.graph.bronze_table import BronzeTable
from etl_assets.graph.runtime import Runtime
from etl_assets.project import TableNode
from etl_resources.engines.spark_metrics import SparkMeasures
from etl_resources.engines.spark_session import spark_session
from etl_resources.engines.spark_tasks import TaskEngine, engine_in_tasks
from etl_resources.engines.transform import engine_name
from etl_resources.extract.capture import CaptureWriter, capture_table
from etl_resources.extract.delivered_rows import WrittenRows, write_delivered
from etl_resources.extract.delivery import Delivery, Reading
from etl_resources.extract.postgres import PostgresSnapshot
from etl_resources.extract.raw_zone import RawObject
from etl_resources.extract.spark_capture import capture_on_spark
from etl_resources.extract.spark_files import FilesToRead, write_files_on_spark
from etl_resources.manifest_sizes import SparkSize
from etl_resources.manifest_sources import S3FilesSource
from etl_resources.object_store import ObjectStore

if TYPE_CHECKING:
    import duckdb


def read_table(
    runtime: Runtime,
    engine: "duckdb.DuckDBPyConnection",
    snapshot: PostgresSnapshot,
    table: BronzeTable,
    partitions: Sequence[str],
    epoch: int,
    run_id: str,
) -> list[str]:
    """Write a table's rows of these partitions, as they are in the snapshot. Paths of the files.

    What Spark did is in the table's `measures`, also when it failed.
    """
    mark = table.attempt.rpartition("-")[2]
    writer = CaptureWriter(table.source, table.address, epoch, mark, run_id, table.field_ids, table.key)
    size = runtime.spark_size(table.node)
    if size is None:
        table.engine = engine_name(spark=False)
        return capture_table(engine, snapshot.exported, writer, partitions)
    rows = {p: table.source_rows(p) for p in partitions}
    with spark_session(runtime.settings, size, runtime.project.platform.spark) as spark:
        table.engine = engine_in_tasks()
        own = task_engine(runtime, table.node)
        return capture_on_spark(
            spark, snapshot, writer, rows, readers=readers_of(size), engine=own, measures=table.measures
        )


def writer_of_delivery(
    runtime: Runtime,
    node: TableNode,
    engine: "duckdb.DuckDBPyConnection",
    delivery: Delivery,
    landed: Sequence[RawObject],
    reading: Reading,
    measures: SparkMeasures,
) -> Callable[..., WrittenRows]:
    """What writes the delivery's rows: write_delivered, without the arguments of its rows.

    measures: what Spark does, if it does, is added to it.
    """
    source, size = node.dataset.source, runtime.spark_size(node)
    if size is None or not isinstance(source, S3FilesSource):
        rows = delivery.rows(engine, landed, reading)
        return partial(write_delivered, engine, rows=rows)
    files = FilesToRead(
        source,
        node.dataset.dataset,
        runtime.bucket,
        tuple(landed),
        reading,
        readers_of(size),
        task_engine(runtime, node),
    )
    store = ObjectStore.of(runtime.store.catalog, runtime.addresses[node.name].location)

    def write(**arguments: Any) -> WrittenRows:
        with spark_session(runtime.settings, size, runtime.project.platform.spark) as spark:
            return write_files_on_spark(spark, engine, files, delete=store.delete, measures=measures, **arguments)

    return write


def task_engine(runtime: Runtime, node: TableNode) -> TaskEngine:
    """Of a task that reads a table's source: as much memory as one thread of the embedded engine has."""
    size = runtime.size(node)
    return TaskEngine(runtime.settings.of_tasks(), max(256, size.memory_mb // size.threads))


def readers_of(size: SparkSize) -> int:
    """Tasks that read a source at once."""
    assert size.source_readers is not None  # noqa: S101  (else it isn't the size of a source's reader)
    return size.source_readers
