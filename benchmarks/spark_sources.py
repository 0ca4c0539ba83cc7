"""Order lines of 36 months, Postgres → staged Parquet on S3: by the embedded engine, by executors, and by Spark's JDBC.

All read the same statement in one exported snapshot. JDBC reads it by months, as the executors do, and writes
nothing. They take turns; Spark runs in this process with as many cores as readers, and is warm.

    python -m benchmarks.spark_sources [--scale 1] [--rounds 3] [--readers 2]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING
from uuid import uuid4

from benchmarks.harness import Result, bench_project, save
from etl_resources.calendar import keys_between
from etl_resources.engines.embedded import connect
from etl_resources.engines.spark_session import jdbc_address, spark_session
from etl_resources.engines.spark_tasks import TaskEngine
from etl_resources.extract.capture import READERS, CaptureWriter, capture_table
from etl_resources.extract.exported_snapshot import ExportedSnapshot
from etl_resources.extract.postgres import SourceTable, open_source, snapshot_of
from etl_resources.extract.source_query import select_rows
from etl_resources.extract.spark_capture import capture_on_spark
from etl_resources.manifest_sizes import SparkSize
from etl_resources.manifest_sources import PostgresSource
from etl_resources.partition_sql import Placement
from etl_resources.tables.schema import field_ids

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TABLE = "bronze.sales_lines"
TASK_MB = 300


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--scale", type=float, default=1.0)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--readers", type=int, default=2)
    options = arguments.parse_args()
    runtime = bench_project(options.scale)
    node, address = runtime.project.tables[TABLE], runtime.addresses[TABLE]
    assert isinstance(node.dataset.source, PostgresSource)
    calendar = runtime.project.platform.calendar
    months = keys_between(calendar.start, calendar.end)
    table = SourceTable(node.dataset.source, Placement.of(node.contract))
    ids = field_ids(runtime.store.ensure(address).schema(), address.columns)
    dsn, setting = runtime.source_dsn("erp")
    size = SparkSize(cores=options.readers, memory_mb=1024, shuffle_partitions=2, source_readers=options.readers)
    task = TaskEngine(runtime.settings.of_tasks(), TASK_MB)
    seconds: dict[str, list[float]] = {}
    with ExitStack() as stack:
        connection = stack.enter_context(open_source(dsn, setting=setting, timeout_s=10))
        engine = connect(
            runtime.settings, threads=READERS, memory_mb=READERS * TASK_MB, extensions=("postgres_scanner",)
        )
        spark = stack.enter_context(spark_session(runtime.settings, size))
        for n in range(options.rounds + 1):  # the first round warms up and is not counted
            with snapshot_of(connection, dsn, setting) as snapshot:
                rows = {p: int(f.split(":")[1]) for p, f in snapshot.fingerprints(table, months).items()}
                writer = CaptureWriter(table, address, n, uuid4().hex, "benchmark", ids)
                snapshot.exported.attach(engine, f"source{n}")
                ways: dict[str, Callable[[], object]] = {
                    "embedded engine": lambda w=writer, s=snapshot, n=n: capture_table(  # type: ignore[misc]
                        engine, s.exported, w, months, alias=f"source{n}"
                    ),
                    "executors": lambda w=writer, s=snapshot, r=rows: capture_on_spark(  # type: ignore[misc]
                        spark, s, w, r, readers=options.readers, engine=task
                    ),
                    "JDBC": lambda s=snapshot: by_jdbc(spark, s.exported, table, months, options.readers),  # type: ignore[misc]
                }
                for name, way in ways.items():
                    started = time.monotonic()
                    way()
                    if n:
                        seconds.setdefault(f"{name} s", []).append(round(time.monotonic() - started, 2))
    figures = {"scale": options.scale, "rounds": options.rounds, "readers": options.readers, "rows": sum(rows.values())}
    medians = {name: statistics.median(of) for name, of in seconds.items()}
    save(Result("spark_sources", {**figures, **medians, "of each round": seconds}))


def by_jdbc(
    spark: "SparkSession", snapshot: ExportedSnapshot, table: SourceTable, months: list[str], readers: int
) -> None:
    """Every row into Spark's hands, and nowhere."""
    address, user, password = jdbc_address(snapshot.dsn)
    begin = f"set transaction isolation level repeatable read read only; set transaction snapshot '{snapshot.name}'"
    properties = {"user": user, "password": password, "driver": "org.postgresql.Driver", "fetchsize": "10000"}
    query = f"({select_rows(table.source, table.by, months)}) as rows"
    placed = table.placed_by
    parts = [placed.keep(months[i * len(months) // readers : (i + 1) * len(months) // readers]) for i in range(readers)]
    frame = spark.read.jdbc(address, query, predicates=parts, properties={**properties, "sessionInitStatement": begin})
    frame.write.format("noop").mode("overwrite").save()


if __name__ == "__main__":
    main()
