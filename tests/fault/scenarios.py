"""How a run is brought to each failpoint, and what happens after it died there."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

from dagster._core.utils import make_new_run_id

from etl_resources.failpoints import FAILPOINTS
from etl_resources.tables.publish import drop_branch
from tests.fault import sources
from tests.fault.driver import BARRIER_WAIT_S
from tests.invariants import await_sessions_gone, data_pipeline_sessions
from tests.lake import Child, Lake

FIRST, LAST = sources.MONTHS
OTHER = "2024-03"
"""A month that only a second writer touches."""
IMPATIENT = {"ETL_LOCK_TIMEOUT_S": "1"}
"""A stopped run may hold a fairness lock: nobody shall wait long for it here."""
DEADLINE_S = 120
ICEBERG = ("sales_lines", "gdp_sales", "kpi_net_revenue")
BRONZE = ("bronze",)
FOLLOW_UPS = ("retry", "re-execution", "competing")


class NotReached(AssertionError):  # noqa: N818  (it is no error of the product)
    """The run ended, with its changes, before the failpoint: there was nothing to do there."""


@dataclass(frozen=True)
class Reach:
    """A run passes the point for one of `matches`, at least `calls` times.

    killed_at: a run before it was killed there. stop_at, meanwhile: the run stops there for something to happen.
    """

    matches: Sequence[str] = ("",)
    calls: int = 1
    change: Callable[[Lake, Random], None] | None = None
    killed_at: str | None = None
    stop_at: str | None = None
    meanwhile: Callable[[Lake], None] | None = None

    @property
    def prepared(self) -> bool:
        """Whether the point is reached only after something else happened."""
        return self.killed_at is not None or self.stop_at is not None


def until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


def open_together(barrier: Path, children: list[Child]) -> None:
    """Let all start when all are ready."""
    ready = [barrier.with_name(f"{barrier.name}-{c.pid}") for c in children]
    until(lambda: all(r.exists() for r in ready), "all processes ready", BARRIER_WAIT_S)
    barrier.touch()


def stopped_run(
    lake: Lake, point: str, match: str = "", *, first: str = FIRST, last: str | None = None, **options: Any
) -> Child:
    """A run that has stopped itself at a failpoint. `then`: points that come later."""
    reached = lake.home / f"reached-{uuid4().hex[:8]}"
    stop = {"point": point, "match": match, "action": "stop", "nth": options.pop("nth", 1), "reached": str(reached)}
    points = [stop, *options.pop("then", ())]
    child = lake.spawn(first, last, points=points, **IMPATIENT, **options)
    until(lambda: reached.exists() or not child.process.is_alive(), f"{point} reached")
    assert reached.exists(), f"{point} was not reached:\n{child.log}"
    return child


def go_on(child: Child) -> None:
    os.kill(child.pid, signal.SIGCONT)


@contextmanager
def kill_stopped(child: Child) -> Iterator[None]:
    """Whatever goes wrong inside, no stopped process stays."""
    try:
        yield
    finally:
        if child.process.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            child.process.join()


def _publish_other_month(lake: Lake) -> None:
    sources.raise_prices(lake, OTHER)
    run = lake.spawn(OTHER, **IMPATIENT).wait()
    assert run is not None
    assert run.success, run.error


def _drop_branches(lake: Lake) -> None:
    """As a recovery that takes the stopped run for dead."""
    address = lake.runtime.addresses["gdp.gdp_sales"]
    for (attempt,) in lake.platform("select attempt from etl.intents where state = 'open' and asset = 'gdp.gdp_sales'"):
        drop_branch(lake.runtime.store.catalog, address.identifier, attempt)


def _drop_staging(lake: Lake) -> None:
    for (name,) in lake.platform("select relname from pg_class where relnamespace = to_regnamespace('etl_staging')"):
        lake.platform(f'drop table if exists etl_staging."{name}"')  # its parts go with it


_TABLES = Reach((*BRONZE, *ICEBERG))
_PARTITIONS = Reach(calls=2)
SCENARIOS: Mapping[str, Reach] = {
    **{p: Reach((*ICEBERG, "postgres")) for p in ("plan.inputs_read", "plan.intended", "plan.recorded")},
    **{p: Reach() for p in FAILPOINTS if p.startswith("capture.")},
    "capture.intended": _PARTITIONS,
    "capture.files_written": _PARTITIONS,
    "stage.file_written": Reach(ICEBERG, calls=2),
    "stage.rejected_kept": Reach(change=sources.reject_one),
    **{p: Reach(change=sources.reject_one) for p in FAILPOINTS if p.startswith("letters.")},
    "audit.passed": Reach((*BRONZE, *ICEBERG), calls=2),
    **dict.fromkeys(("stage.recorded", "stage.before_swap", "stage.after_swap", "stage.committed"), _TABLES),
    **dict.fromkeys(("publish.proved", "publish.before_swap", "publish.after_swap", "publish.committed"), _TABLES),
    "publish.rebased": Reach(("gdp_sales",), stop_at="stage.committed", meanwhile=_publish_other_month),
    "evidence.recording": Reach(calls=5),
    "evidence.recorded": _TABLES,
    "abandon.fenced": Reach(("gdp_sales",), stop_at="stage.committed", meanwhile=_drop_branches),
    "settle.fenced": Reach(("gdp_sales",), killed_at="stage.committed"),
    **{p: Reach() for p in FAILPOINTS if p.startswith("postgres.")},
    "postgres.copied": _PARTITIONS,
    "serving.audited": _PARTITIONS,
    "postgres.abandon_fenced": Reach(stop_at="postgres.before_transaction", meanwhile=_drop_staging),
    "postgres.settle_fenced": Reach(killed_at="postgres.before_transaction"),
}
"""Failpoint → how to get there. A failpoint that is missing here has no fault test: test_failpoints.py says so."""
DELIVERED = tuple(p for p in FAILPOINTS if p.startswith("deliver."))
"""Failpoints that only a source of files or pages passes: test_delivered_faults.py, deliveries.py."""
BACKFILL = tuple(p for p in FAILPOINTS if p.startswith("backfill."))
ACCEPTANCE = tuple(p for p in FAILPOINTS if p.startswith("acceptance."))
"""Failpoints that only a KPI passes that a threshold refuses: tests/fault/test_acceptance_crashes.py."""
CLOSING = tuple(p for p in FAILPOINTS if p.startswith(("close.", "notice.")))
"""Failpoints that only a closing passes, or a restatement of one: tests/fault/test_closing_crashes.py."""
SPARK = tuple(p for p in FAILPOINTS if p.startswith("spark."))
"""Failpoints that only executors of a cluster pass: tests/integration/test_spark_cluster.py."""
REPLAY = tuple(p for p in FAILPOINTS if p.startswith("replay."))
"""Failpoints that only a replay passes: tests/fault/test_replay_crashes.py."""


@dataclass(frozen=True)
class Arrival:
    """A run that is at a failpoint: dead, broken by an exception, or stopped."""

    child: Child
    run_id: str


def bring_to(lake: Lake, point: str, match: str, action: str, nth: int = 1, **changed: str) -> Arrival:
    """A run that ends, breaks or stops at the point. `changed`: its variables."""
    reach = SCENARIOS.get(point, Reach())
    if reach.killed_at is not None:
        before = lake.spawn(FIRST, LAST, points=[{"point": reach.killed_at, "match": match, "action": "kill"}])
        assert before.wait() is None, f"{reach.killed_at} was not reached"
        await_sessions_gone(lake)
    reached, run_id = lake.home / f"reached-{uuid4().hex[:8]}", make_new_run_id()
    aim = {"point": point, "match": match, "nth": nth, "action": action, "reached": str(reached)}
    if reach.stop_at is not None:
        assert reach.meanwhile is not None
        child = stopped_run(lake, reach.stop_at, match, last=LAST, then=[aim], run_id=run_id, **changed)
        reach.meanwhile(lake)
        go_on(child)
    else:
        child = lake.spawn(FIRST, LAST, points=[aim], run_id=run_id, **{**IMPATIENT, **changed})
    until(lambda: reached.exists() or not child.process.is_alive(), f"{point} reached")
    if not reached.exists():
        raise NotReached(f"{point} was not reached:\n{child.log[-3000:]}")
    return Arrival(child, run_id)


def crash_at(lake: Lake, point: str, match: str, follow_up: str, nth: int = 1, now: bool = True) -> None:
    """A run dies by kill -9 at the point; then what follows, until a run has succeeded.

    now: a competing run meets the stopped one for a moment only, else until it has ended itself.
    """
    if follow_up != "competing":
        arrival = bring_to(lake, point, match, "kill", nth)
        assert arrival.child.wait() is None
        await_sessions_gone(lake)
        succeed(lake, run_id=arrival.run_id if follow_up == "retry" else None)
        return
    stopped = bring_to(lake, point, match, "stop", nth).child
    with kill_stopped(stopped):
        sessions = data_pipeline_sessions(lake)
        competitor = lake.spawn(FIRST, LAST, **IMPATIENT)
        if now:
            until(lambda: data_pipeline_sessions(lake) > sessions or not competitor.process.is_alive(), "a competitor")
        else:
            competitor.wait()
    competitor.wait()
    await_sessions_gone(lake)
    succeed(lake)


def succeed(lake: Lake, first: str = FIRST, last: str = LAST, run_id: str | None = None) -> None:
    """A run that nothing disturbs."""
    run = lake.spawn(first, last, run_id=run_id).wait()
    assert run is not None
    assert run.success, run.error
