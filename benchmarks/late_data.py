"""Late data on the example: what one late order costs against a full restatement, and how far estimates are off.

    python -m benchmarks.late_data [--scale 1] [--train 6] [--test 7] [--in-process] [--plan-months 690]

1. The example is loaded whole by one run: a full restatement, in which every month is captured and computed. Then the
   reconcile sensor's own ticks, and the runs that they ask for, take one late order of one month as far as Postgres and
   Elasticsearch. Compared are the seconds of all steps; the bytes of the files that partitions read, a file counted for
   each partition that reads it; the bytes that the S3 server sent to its clients, which are what was
   read; and those at every hop inside of it.
2. A tick when nothing is late, and planning 10,000 partitions (benchmarks.plan).
3. Backfills of varied sizes train the estimate, through Dagster's daemon unless --in-process; then others, of other
   months and sizes, are planned, run and compared: median error of the minutes, the worker's minutes and the bytes.

A project of its own (the example with the sensor switched off) on the embedded stack of the current folder, whose ERP
and published tables it replaces.
"""

import argparse
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg

from benchmarks.harness import Result, save, tell
from benchmarks.plan import planning
from benchmarks.s3_traffic import S3Traffic, counted
from etl_assets.automation.reconcile_tick import Tick, tick
from etl_assets.backfill.execute import prepare, run_backfill
from etl_assets.backfill.result import BackfillResult
from etl_assets.definitions import build_definitions
from etl_assets.demo.run import run_demo
from etl_assets.graph.runtime import Runtime
from etl_assets.project import ASSETS_FOLDER, load_project
from etl_resources import stack
from etl_resources.calendar import keys_between
from etl_resources.ledger.backfills import made_by
from etl_resources.ledger.ledger import Ledger
from etl_resources.settings import load_settings, resolve_secret
from etl_resources.stack.dagster_servers import write_dagster_home
from etl_resources.stack.state import load

GOAL_SHARE, GOAL_ERROR = 1 / 20, 0.2
LATE_MONTH = "2024-11"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
SIZES = (1, 3, 12, 1, 6, 2, 24, 4, 1, 8, 2, 18, 5)
"""Months that change before a backfill, by turns."""
SELECTIONS = (["all"], ["all"], ["bronze", "silver", "gdp"], ["all"], ["sales_orders", "sales_lines", "gdp_sales"])


@dataclass
class Cost:
    """What some runs took."""

    steps: dict[str, float] = field(default_factory=dict)
    """Seconds by step, of all runs."""
    bytes_of_partitions: int = 0
    bytes_read_from_s3: int = 0
    """What clients got."""
    bytes_sent_by_s3: int = 0
    """Every hop inside of the server as well."""
    runs: list[str] = field(default_factory=list)
    published: int = 0

    @property
    def step_s(self) -> float:
        return sum(self.steps.values())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--scale", type=float, default=1.0)
    arguments.add_argument("--train", type=int, default=6)
    arguments.add_argument("--test", type=int, default=7)
    arguments.add_argument("--in-process", action="store_true", help="Backfills without Dagster's daemon.")
    arguments.add_argument("--plan-months", type=int, default=690, help="0: planning is left out.")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ETL_PROJECT"] = str(_project(Path(folder)))
        os.environ["DAGSTER_HOME"] = str(write_dagster_home(load_settings().home, Path.cwd()))
        figures: dict[str, Any] = {"scale": options.scale}
        with counted() as traffic:
            figures |= _late_order(options.scale, traffic)
        if options.train and options.test:
            figures |= _estimates(options.train, options.test, in_process=options.in_process)
    del os.environ["ETL_PROJECT"]
    if options.plan_months:
        found = planning(options.plan_months, earlier=9, rounds=3)
        figures |= {f"planning {name}": found[name] for name in ("partitions", "fresh_s", "late_s")}
    save(Result("late_data", figures))


def _project(folder: Path) -> Path:
    """The example, whose sensor leaves the ticks to this process."""
    root = folder / "project"
    shutil.copytree(ASSETS_FOLDER / "datasets", root / "datasets")
    text = (ASSETS_FOLDER / "platform.yaml").read_text()
    assert "keep_fresh" not in text
    (root / "platform.yaml").write_text(text + "\nkeep_fresh: {enabled: false}\n")
    return root


def _late_order(scale: float, traffic: S3Traffic) -> dict[str, Any]:
    """Shares of a full restatement that one late order takes, from the tick that finds it to the last that asks."""
    demo = run_demo(scale=scale, months=36, ui=False, recreate_source=True, project_dir=Path.cwd(), progress=tell)
    assert demo.success, demo.errors
    runtime = Runtime(load_project())
    full = _cost(runtime, [demo.run_id], traffic, (0, 0))
    if full.published < len(keys_between("2023-08", "2026-07")):
        raise SystemExit("The first run pruned what was published before: run it in a home of its own.")
    ticker = _Ticker(runtime)
    tell("settling: what was never looked at is compared")
    ticker.settle()
    idle = [ticker.tick()[1] for _ in range(7)]

    _add_order(LATE_MONTH)
    before = _sent_by_s3(), traffic.sent()
    asked = ticker.settle()
    assert asked, "the late order wasn't found"
    late = _cost(runtime, asked, traffic, before)
    shares = {
        "step_seconds": late.step_s / full.step_s,
        "bytes_of_partitions": late.bytes_of_partitions / full.bytes_of_partitions,
        "bytes_read_from_s3": late.bytes_read_from_s3 / full.bytes_read_from_s3,
        "bytes_sent_by_s3": late.bytes_sent_by_s3 / full.bytes_sent_by_s3,
    }
    return {
        "full": _told(full),
        "late": _told(late),
        "late, runs": len(late.runs),
        **{f"share of {name}": round(share, 4) for name, share in shares.items()},
        "goal share": GOAL_SHARE,
        "idle_tick_s": round(statistics.median(idle), 3),
    }


def _told(cost: Cost) -> dict[str, Any]:
    return {
        "step_s": round(cost.step_s, 2),
        "bytes_of_partitions": cost.bytes_of_partitions,
        "bytes_read_from_s3": cost.bytes_read_from_s3,
        "bytes_sent_by_s3": cost.bytes_sent_by_s3,
        "published": cost.published,
        "seconds of steps": {k: round(s, 2) for k, s in sorted(cost.steps.items(), key=lambda i: -i[1])},
    }


class _Ticker:
    """The sensor's ticks, and the runs that they ask for, in this process, one after the other."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self._cursor = runtime, ""
        self._definitions = build_definitions(runtime.project)

    def tick(self) -> tuple[Tick, float]:
        """What it asked for, and the seconds that it took."""
        with dg.DagsterInstance.get() as instance:
            started = time.perf_counter()
            found = tick(self._runtime, instance, self._cursor, tell)
        self._cursor = found.cursor
        return found, time.perf_counter() - started

    def settle(self, most: int = 12) -> list[str]:
        """Ids of the runs, until nothing is asked for."""
        run_ids: list[str] = []
        for _ in range(most):
            found, _ = self.tick()
            if not found.run_requests:
                return run_ids
            with dg.DagsterInstance.get() as instance:
                for request in found.run_requests:
                    assert request.job_name is not None
                    done = self._definitions.resolve_job_def(request.job_name).execute_in_process(
                        instance=instance,
                        raise_on_error=False,
                        run_config=QUIET,
                        tags=dict(request.tags),
                        asset_selection=request.asset_selection,
                    )
                    assert done.success
                    run_ids.append(done.run_id)
        raise SystemExit(f"not settled after {most} ticks")


def _cost(runtime: Runtime, run_ids: Sequence[str], traffic: S3Traffic, before: tuple[int, int]) -> Cost:
    sent, read = _sent_by_s3() - before[0], traffic.sent() - before[1]
    with dg.DagsterInstance.get() as instance:
        steps: dict[str, float] = {}
        for run_id in run_ids:
            for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_SUCCESS):
                assert entry.dagster_event is not None
                step = str(entry.dagster_event.step_key)
                steps[step] = steps.get(step, 0) + entry.dagster_event.step_success_data.duration_ms / 1000
    with Ledger.open(runtime.settings) as ledger:
        made = made_by(ledger.connection, run_ids)
    return Cost(steps, made.bytes_in, read, sent, list(run_ids), len(made.published))


def _sent_by_s3() -> int:
    """Bytes that the embedded S3 server wrote to sockets and files since it was started; 0 when it wasn't."""
    record = load(load_settings().home).servers.get("s3")
    if record is None:
        return 0
    lines = Path(f"/proc/{record.pid}/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


def _add_order(month: str) -> None:
    """One order of a month, with the lines of another one of that day, as if it had been entered late."""
    with psycopg.connect(resolve_secret("env:ERP_ADMIN_DSN")) as erp:
        (number,) = _one(erp, "select max(order_id) + 1 from erp.orders")
        (like,) = _one(
            erp,
            "select order_id from erp.orders o join erp.order_lines using (order_id) "
            f"where o.order_date >= '{month}-10' and order_date < '{month}-20' limit 1",
        )
        for table in ("orders", "order_lines"):
            columns = _one(
                erp,
                "select string_agg(quote_ident(column_name), ', ') from information_schema.columns where "
                f"table_schema = 'erp' and table_name = '{table}' and column_name not in ('order_id', 'updated_at')",
            )[0]
            erp.execute(
                f"insert into erp.{table} (order_id, {columns}) select {number}, {columns} from erp.{table} "
                f"where order_id = {like}"
            )


def _one(connection: "psycopg.Connection[Any]", query: str) -> tuple[Any, ...]:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return tuple(row)


def _estimates(train: int, test: int, *, in_process: bool) -> dict[str, Any]:
    """Median errors of the last `test` of train + test backfills, each planned on the history of those before."""
    if not in_process:
        bucket = Runtime(load_project()).bucket
        stack.up(load_settings(), bucket=bucket, project_dir=Path.cwd(), ui=True, progress=tell)
    chance = random.Random(7)
    months = keys_between("2023-08", "2026-07")
    results: list[BackfillResult] = []
    for number in range(train + test):
        size = SIZES[number % len(SIZES)]
        _change(sorted(chance.sample(months, size)) if number % 2 else _stretch(chance, months, size))
        runtime = Runtime(load_project())
        plan, begun, _ = prepare(runtime, SELECTIONS[number % len(SELECTIONS)], None, None, None)
        result = run_backfill(runtime, plan, begun, lambda _: None)
        assert result.succeeded, result.errors
        if number >= train:
            results.append(result)
        told, was = result.estimated, result.actual_json()
        tell(
            f"{'held out' if number >= train else 'training'} {number + 1}: {size} months, {was['runs']} runs "
            f"(planned {told['runs']}); "
            + ", ".join(f"{name} {told[name]:,.0f} / {was[name]:,.0f}" for name in FIGURES)
        )
    errors = {name: [_error(r, name) for r in results] for name in FIGURES}
    return {
        "run_by": results[0].how,
        "runs as planned": sum(r.estimated["runs"] == len(r.runs) for r in results),
        **{f"median error of {name}": round(statistics.median(found), 3) for name, found in errors.items()},
        "goal error": GOAL_ERROR,
        **{f"errors of {name}": [round(e, 3) for e in found] for name, found in errors.items()},
    }


FIGURES = ("elapsed_s", "seconds", "bytes_in", "bytes_out")


def _error(result: BackfillResult, name: str) -> float:
    was = result.actual_json()[name]
    return float(abs(result.estimated[name] - was) / was)


def _stretch(chance: random.Random, months: Sequence[str], size: int) -> Sequence[str]:
    first = chance.randrange(len(months) - size + 1)
    return months[first : first + size]


def _change(months: Sequence[str]) -> None:
    """The discount of every line of these months."""
    with psycopg.connect(resolve_secret("env:ERP_ADMIN_DSN")) as erp:
        erp.execute(
            "update erp.order_lines set discount = case when discount > 0.05 then 0.01 else discount + 0.01 end where "
            "order_id in (select order_id from erp.orders where to_char(order_date, 'YYYY-MM') = any(%s))",
            [list(months)],
        )


if __name__ == "__main__":
    main()
