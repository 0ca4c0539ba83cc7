"""Many publishes of one table with maintenance in between: bytes of metadata left, and whether commits stay as fast.

Days are compressed into minutes: `--every` publishes stand for what happens between two runs of the daily schedule, so
the age rules (days to keep, guard of readers) are set to nothing and the newest 20 versions are kept. The same without
maintenance shows what it is good for; the same with the default ages shows a burst, in which nothing is old enough.

    python -m benchmarks.maintenance [--publishes 500] [--every 25] [--partitions 1] [--rows 1000]
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.commit import MONTHS, Table
from benchmarks.harness import Result, save, tell
from etl_assets.graph.runtime import Runtime
from etl_assets.project import load_project
from etl_resources import stack
from etl_resources.engines.embedded import connect
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.records import IntendedPartition
from etl_resources.settings import load_settings
from etl_resources.tables.expiry import Retention
from etl_resources.tables.maintenance import MaintenancePolicy, maintain_table
from etl_resources.tables.metadata_files import metadata_bytes

PART = 50
"""Publishes at the beginning and at the end whose medians are compared."""
GOAL_MIB, GOAL_RATIO = 20, 1.5
COMPRESSED = MaintenancePolicy(Retention(keep_versions=20, keep_s=0, max_versions=50, guard_s=0), 128 << 20)
DEFAULT = MaintenancePolicy(Retention(), 128 << 20)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--publishes", type=int, default=500)
    arguments.add_argument("--every", type=int, default=25)
    arguments.add_argument("--partitions", type=int, default=1, help="partitions of one publish")
    arguments.add_argument("--rows", type=int, default=1000)
    arguments.add_argument("--cases", default="maintained,burst,none")
    options = arguments.parse_args()
    runtime = Runtime(load_project())
    stack.up(load_settings(), bucket=runtime.bucket, project_dir=Path.cwd(), ui=False, search=False, progress=tell)
    runtime = Runtime(runtime.project)
    policies = {"maintained": COMPRESSED, "burst": DEFAULT, "none": None}
    figures: dict[str, Any] = {k: getattr(options, k) for k in ("publishes", "every", "partitions", "rows")}
    with Ledger.open(runtime.settings) as ledger:
        for case in options.cases.split(","):
            figures[case] = publish_many(runtime, ledger, policies[case], options)
    save(Result("maintenance", {**figures, "goal metadata MiB": GOAL_MIB, "goal last / first": GOAL_RATIO}))


def publish_many(
    runtime: Runtime, ledger: Ledger, policy: MaintenancePolicy | None, options: argparse.Namespace
) -> dict[str, Any]:
    """Figures of one case.

    The last publishes take turns with the first ones of a new table, so the machine's load is the same for both. The
    new table starts with all partitions in one publish, so both replace a partition.
    """
    aged, maintenance_s, largest = Table(runtime, ledger, options.rows), [], 0
    catalog = aged.store.catalog
    last: list[tuple[float, float]] = []
    first: list[tuple[float, float]] = []
    with connect(runtime.settings) as engine:
        for n in range(options.publishes):
            if n == options.publishes - PART:
                fresh = Table(runtime, ledger, options.rows)
                _publish(fresh, MONTHS)
            taken = _publish(aged, _months(n, options.partitions))
            if n >= options.publishes - PART:
                last.append(taken)
                first.append(_publish(fresh, _months(n, options.partitions)))
            if policy and (n + 1) % options.every == 0:
                largest = max(largest, metadata_bytes(catalog, aged.address))
                started = time.perf_counter()
                done = maintain_table(catalog, ledger, engine, aged.address, policy)
                maintenance_s.append(time.perf_counter() - started)
                tell(f"{n + 1}: {taken[0]:.0f} ms, {done.snapshots_kept} snapshots, {largest / 2**20:.1f} MiB before")
    return {
        "metadata MiB": round(metadata_bytes(catalog, aged.address) / 2**20, 2),
        "most before a maintenance MiB": round(largest / 2**20, 2),
        "snapshots": len(catalog.load_table(aged.address.identifier).snapshots()),
        **_compared("", [t[0] for t in first], [t[0] for t in last]),
        **_compared(" of CPU", [t[1] for t in first], [t[1] for t in last]),
        "one maintenance s": round(statistics.median(maintenance_s), 2) if maintenance_s else None,
    }


def _compared(what: str, first: list[float], last: list[float]) -> dict[str, float]:
    """Medians, and the median of the ratios of publishes that were neighbours."""
    return {
        f"first {PART} ms{what}": round(statistics.median(first), 1),
        f"last {PART} ms{what}": round(statistics.median(last), 1),
        f"last / first{what}": round(statistics.median(b / a for a, b in zip(first, last, strict=True)), 2),
    }


def _months(n: int, count: int) -> list[str]:
    return [MONTHS[(n + i) % len(MONTHS)] for i in range(count)]


def _publish(table: Table, months: list[str]) -> tuple[float, float]:
    """Milliseconds, and those of this process's CPU, of stage + publish of files that are there."""
    attempt, epoch, token = table.intend(months[0])
    table.ledger.intend(attempt, [IntendedPartition(m, epoch, token) for m in months[1:]])
    written = [table.write(m, table.arrow(m), epoch, token) for m in months]
    started, cpu_started = time.perf_counter(), time.process_time()
    table.store.stage(table.ledger, table.address, attempt, attempt, written).publish()
    return (time.perf_counter() - started) * 1000, (time.process_time() - cpu_started) * 1000


if __name__ == "__main__":
    main()
