"""Stage + publish of one partition, against a bare PyIceberg append and a Delta commit of the same rows on the same S3.

All four take turns within a round, so a machine that slows down slows all, and the median of the ratios counts. Every
round commits another month to tables that were empty before the run. Then many commits in a row, to see growth, and
many processes that each commit another partition of one table at the same moment.

    python -m benchmarks.commit [--rows 10000] [--rounds 24] [--commits 120] [--writers 36]

Needs the extra `bench` (deltalake).
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from benchmarks.harness import Result, save, tell
from etl_assets.graph.runtime import Runtime
from etl_assets.project import load_project
from etl_resources import stack
from etl_resources.calendar import keys_between
from etl_resources.contract import Contract, ContractColumn
from etl_resources.conventions import staged_folder
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.records import IntendedPartition
from etl_resources.settings import load_settings
from etl_resources.tables.address import TableAddress
from etl_resources.tables.stage import StagedPartition
from etl_resources.tables.table_store import StagedBatch, TableStore, WrittenPartition

if TYPE_CHECKING:
    import pyarrow as pa

MONTHS = keys_between("2023-01", "2025-12")
CONTRACT = Contract(
    columns=(
        ContractColumn("order_id", "bigint", nullable=False),
        ContractColumn("order_date", "date", nullable=False),
        ContractColumn("amount", "decimal(15,2)"),
        ContractColumn("currency", "string"),
        ContractColumn("comment", "string"),
    ),
    key=("order_id",),
    partition_column="order_date",
)
GOAL_RATIO, GOAL_TRIES = 2.5, 3


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=10_000)
    arguments.add_argument("--rounds", type=int, default=24)
    arguments.add_argument("--commits", type=int, default=120)
    arguments.add_argument("--writers", type=int, default=36)
    options = arguments.parse_args()
    runtime = Runtime(load_project())
    stack.up(load_settings(), bucket=runtime.bucket, project_dir=Path.cwd(), ui=False, search=False, progress=tell)
    runtime = Runtime(runtime.project)  # settings are read anew, now that the servers are there
    figures: dict[str, Any] = {"rows": options.rows}
    with Ledger.open(runtime.settings) as ledger:
        figures |= compare(Table(runtime, ledger, options.rows), options.rounds)
        figures |= growth(Table(runtime, ledger, options.rows), options.commits)
        figures |= parallel(Table(runtime, ledger, options.rows), options.writers)
    save(Result("commit", figures))


class Table:
    """A new table of the product, written the product's way."""

    def __init__(self, runtime: Runtime, ledger: Ledger, rows: int, dataset: str | None = None) -> None:
        self.runtime, self.ledger, self.rows = runtime, ledger, rows
        self.store: TableStore = runtime.store
        self.address = TableAddress(
            "gdp", dataset or f"bench_{uuid4().hex[:10]}", "acme", CONTRACT, "1", "bench", runtime.bucket
        )
        self.table = self.store.ensure(self.address)

    def arrow(self, month: str) -> "pa.Table":
        """Rows of one month, as PyIceberg and Delta take them; the same on every call."""
        import duckdb
        from pyiceberg.io.pyarrow import schema_to_pyarrow

        made = duckdb.sql(
            f"select i::bigint as order_id, date '{month}-01' + (i % 28)::int as order_date, "
            "((i * 7919) % 1000000 / 100)::decimal(15,2) as amount, ['EUR', 'USD', 'JPY'][1 + i % 3] as currency, "
            f"md5(i::varchar) as comment from range({self.rows}) t(i)"
        ).to_arrow_table()
        schema = schema_to_pyarrow(self.table.schema(), include_field_ids=False)
        return made.select(schema.names).cast(schema)

    def write(self, month: str, rows: "pa.Table", epoch: int, token: str) -> WrittenPartition:
        """One Parquet file on S3 where the conventions want it."""
        import pyarrow.parquet as pq
        from pyiceberg.io.pyarrow import schema_to_pyarrow

        path = f"{staged_folder(self.address.location, month, epoch, token)}/part-0.parquet"
        with self.table.io.new_output(path).create(overwrite=True) as file:
            pq.write_table(rows.cast(schema_to_pyarrow(self.table.schema())), file, compression="zstd")
        staged = StagedPartition(month, token, epoch, f"{self.rows}-{epoch:016x}", self.rows)
        return WrittenPartition(staged, (path,), {"counts": {}, "linked": [], "stage_s": 0.0})

    def intend(self, month: str) -> tuple[str, int, str]:
        """(attempt, epoch, token): what planning leaves behind."""
        epoch, run, token = self.ledger.draw_epoch(), uuid4().hex, uuid4().hex * 2
        attempt = self.ledger.open_attempt(self.address.asset, run)
        self.ledger.intend(attempt, [IntendedPartition(month, epoch, token)])
        return attempt, epoch, token

    def stage(self, attempt: str, written: WrittenPartition) -> StagedBatch:
        return self.store.stage(self.ledger, self.address, attempt, attempt, [written])


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def compare(table: Table, rounds: int) -> dict[str, Any]:
    """Medians in ms of one commit, and of the ratios to a bare append in the same round."""
    bare, delta = _bare_table(table), _delta(table)
    seconds: dict[str, list[float]] = {}
    for n in range(-2, rounds):  # the first two rounds warm up
        month = MONTHS[n % len(MONTHS)]
        rows = table.arrow(month)
        attempt, epoch, token = table.intend(month)
        found = {"file": timed(lambda: table.write(month, rows, epoch, token))}  # noqa: B023  (called at once)
        written = table.write(month, rows, epoch, token)
        batch: list[StagedBatch] = []
        found["stage"] = timed(lambda: batch.append(table.stage(attempt, written)))  # noqa: B023
        found["publish"] = timed(lambda: batch[0].publish())  # noqa: B023
        found["bare append"] = timed(lambda: bare.append(rows))  # noqa: B023
        found["delta append"] = timed(lambda: delta("append", rows, month))  # noqa: B023
        found["delta overwrite"] = timed(lambda: delta("overwrite", rows, month))  # noqa: B023
        found["stage + publish"] = found["stage"] + found["publish"]
        found["file + stage + publish"] = found["file"] + found["stage + publish"]
        if n >= 0:
            for name, value in found.items():
                seconds.setdefault(name, []).append(value)
        tell(f"round {n}: " + ", ".join(f"{k} {v * 1000:.0f} ms" for k, v in found.items()))
    figures: dict[str, Any] = {"rounds": rounds}
    figures |= {f"{name} ms": round(statistics.median(v) * 1000, 1) for name, v in seconds.items()}
    for name in ("stage + publish", "file + stage + publish"):
        for other in ("bare append", "delta append", "delta overwrite"):
            ratios = [a / b for a, b in zip(seconds[name], seconds[other], strict=True)]
            figures[f"{name} / {other}"] = round(statistics.median(ratios), 2)
    return {**figures, "goal stage + publish / bare append": GOAL_RATIO}


def _bare_table(table: Table) -> Any:
    """The same schema, partitions and catalog: what the catalog keeps in memory makes this one faster as well."""
    mine = table.table
    return table.store.catalog.create_table(
        f"{table.address.identifier}_bare",
        mine.schema(),
        location=f"{table.address.location}_bare",
        partition_spec=mine.spec(),
    )


def _delta(table: Table) -> Callable[[str, "pa.Table", str], None]:
    """write(mode, rows, month) into Delta tables of their own; an overwrite replaces the month."""
    from deltalake import write_deltalake

    endpoint, key, secret = table.runtime.settings.require_s3()
    options = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": table.runtime.settings.s3_region,
        "AWS_ALLOW_HTTP": "true",
        "conditional_put": "etag",
    }

    def write(mode: str, rows: "pa.Table", month: str) -> None:
        import pyarrow as pa

        with_month = rows.append_column("month", pa.array([month] * len(rows)))
        path = f"{table.address.location}_delta_{mode}"
        arguments: Any = {"mode": mode, "partition_by": ["month"], "storage_options": options}
        if mode == "overwrite":
            arguments["predicate"] = f"month = '{month}'"
        write_deltalake(path, with_month, **arguments)

    return write


def growth(table: Table, commits: int) -> dict[str, Any]:
    """Milliseconds of stage + publish at the beginning and after many commits, most of which replace a partition."""
    seconds = []
    for n in range(commits):
        month = MONTHS[n % len(MONTHS)]
        attempt, epoch, token = table.intend(month)
        written = table.write(month, table.arrow(month), epoch, token)
        started = time.perf_counter()
        table.stage(attempt, written).publish()
        seconds.append((time.perf_counter() - started) * 1000)
    part = max(1, commits // 10)
    first, last = statistics.median(seconds[:part]), statistics.median(seconds[-part:])
    return {
        "commits": commits,
        f"first {part} ms": round(first, 1),
        f"last {part} ms": round(last, 1),
        "last / first": round(last / first, 2),
    }


def parallel(table: Table, writers: int) -> dict[str, Any]:
    """Processes that stage and publish another partition of one table each, all at the same moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.commit", "pyiceberg.catalog.sql", "pyiceberg.io.pyarrow"])
    results: Any = context.Queue()
    barrier = context.Barrier(writers + 1)
    dataset = table.address.dataset
    processes = [
        context.Process(target=_writer, args=(dataset, month, table.rows, barrier, results))
        for month in MONTHS[:writers]
    ]
    for process in processes:
        process.start()
    barrier.wait()
    started = time.perf_counter()
    found = [results.get(timeout=300) for _ in processes]
    seconds = time.perf_counter() - started
    for process in processes:
        process.join()
    tries = [max(stage, publish) for ok, stage, publish in found if ok]
    published = table.store.published_epochs(table.address)
    assert len(published) == len(tries), "a writer was told of a publish that isn't there"
    return {
        "writers": writers,
        "succeeded": len(tries),
        f"succeeded within {GOAL_TRIES} tries": sum(t <= GOAL_TRIES for t in tries),
        "most tries": max(tries, default=0),
        "all writers s": round(seconds, 2),
    }


def _writer(dataset: str, month: str, rows: int, barrier: Any, results: Any) -> None:
    runtime = Runtime(load_project())
    with Ledger.open(runtime.settings) as ledger:
        table = Table(runtime, ledger, rows, dataset)
        attempt, epoch, token = table.intend(month)
        written = table.write(month, table.arrow(month), epoch, token)
        commits = [0]
        commit_table = table.store.catalog.commit_table

        def counted(*arguments: Any) -> Any:
            commits[0] += 1
            return commit_table(*arguments)

        table.store.catalog.commit_table = counted  # type: ignore[method-assign]
        barrier.wait()
        try:
            batch = table.stage(attempt, written)
            staged, commits[0] = commits[0], 0
            outcome = batch.publish()
            results.put((len(outcome.published) == 1, staged, commits[0]))
        except Exception as e:  # noqa: BLE001  (the figure is how many got through)
            tell(f"{month}: {e}")
            results.put((False, 0, 0))


if __name__ == "__main__":
    main()
