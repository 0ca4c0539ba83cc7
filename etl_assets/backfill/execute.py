"""`data-pipeline backfill`: runs a plan, goes on with an interrupted one, and compares it with what came of it."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from etl_assets.backfill.closure_nodes import state_of
from etl_assets.backfill.estimate import price_of
from etl_assets.backfill.launch import Launcher, Progress, RunDone
from etl_assets.backfill.look import Comparer, Finder
from etl_assets.backfill.plan import BackfillPlan, plan_of
from etl_assets.backfill.runs import PlannedRun, build_runs
from etl_assets.graph.runtime import Runtime
from etl_resources.closure import Closure
from etl_resources.closure_plan import PlannedStep
from etl_resources.errors import PermanentError
from etl_resources.ledger.backfills import (
    DAEMON,
    PROCESS,
    BackfillRecord,
    MadeBy,
    Planned,
    finish,
    made_by,
    running,
    start,
    unfinished,
)
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.state import LedgerState, Place
from etl_resources.verdicts import State

REPLAN = "Look at it again: `data-pipeline plan`."


class Outcome(StrEnum):
    """What came of one planned partition."""

    COMPUTED = "computed"
    UNCHANGED = "unchanged"
    """Computed, and equal to what was there."""
    PRUNED = "pruned"
    """What it is made from turned out as it was."""
    HELD = "held"
    """Computed, and waits for a person."""
    PINNED = "pinned"
    FAILED = "failed"
    NOT_DONE = "not done"
    """Its run ended before it, or what it is made from failed."""

    @property
    def is_right(self) -> bool:
        """Whether there is nothing left to do; a KPI that is held, or a pin, waits for a person."""
        return self not in (Outcome.FAILED, Outcome.NOT_DONE)


@dataclass(frozen=True)
class BackfillResult:
    """A backfill that ended."""

    backfill: str
    plan: BackfillPlan
    how: str
    outcomes: Mapping[Place, Outcome]
    also: Sequence[Place]
    """Partitions that were computed with them and weren't planned: rows moved to or from them."""
    runs: Sequence[RunDone]
    attempts_s: float
    cost: float | None
    estimated: Mapping[str, Any]
    """As it was when the backfill was first started."""
    stopped: str | None = None
    """Why it ended before everything was run: cancelled in the web UI."""

    @property
    def seconds(self) -> float:
        """Of all runs together."""
        return sum(r.seconds for r in self.runs)

    @property
    def errors(self) -> list[str]:
        """Of failed steps."""
        return [e for r in self.runs for e in r.errors]

    def count(self, outcome: Outcome) -> int:
        """Partitions of which this came."""
        return sum(o is outcome for o in self.outcomes.values())

    @property
    def succeeded(self) -> bool:
        """Whether nothing failed and nothing was left out."""
        return not self.stopped and all(o.is_right for o in self.outcomes.values())

    def actual_json(self) -> dict[str, Any]:
        """What the ledger keeps, and scripts read."""
        return {
            "seconds": round(self.seconds, 1),
            "attempts_s": round(self.attempts_s, 1),
            "cost": None if self.cost is None else round(self.cost, 6),
            "runs": len(self.runs),
            "partitions": len(self.outcomes),
            **{o.value: self.count(o) for o in Outcome},
        }


def prepare(
    runtime: Runtime, selection: Sequence[str], first: str | None, last: str | None, wanted_hash: str | None
) -> tuple[BackfillPlan, BackfillRecord | None]:
    """The plan of now, and the interrupted backfill that it goes on with.

    wanted_hash: of a plan that somebody looked at. Raises PermanentError when the state no longer gives it: what runs
    is what was looked at, or what an interrupted backfill of that plan left to do.
    """
    plan = plan_of(runtime, selection, first, last)
    with Ledger.open(runtime.settings) as ledger:
        begun = unfinished(ledger.connection, plan.selection, plan.first, plan.last)
    if begun is not None and (problem := differs(begun.planned, plan)):
        if wanted_hash == begun.plan_hash != plan.hash:
            raise PermanentError(
                f"Backfill {begun.backfill} of plan {wanted_hash} was interrupted, and {problem}. {REPLAN}"
            )
        begun = None
    if wanted_hash is not None and wanted_hash != plan.hash and (begun is None or begun.plan_hash != wanted_hash):
        raise PermanentError(f"The state no longer gives plan {wanted_hash}, but {plan.hash}. {REPLAN}")
    return plan, begun


def differs(planned: Planned, plan: BackfillPlan) -> str | None:
    """What a plan has that isn't the rest of what was planned; None where it is the rest.

    What the backfill itself computed upstream is another version now, as planned; any other input must be as it was.
    """
    for step in plan.todo:
        place = (step.asset, step.partition)
        if place not in planned:
            return f"{step.asset} {step.partition} has to be computed, too, by now"
        before = set(planned[place])
        for i in step.inputs:
            if (i.asset, i.partition) not in planned and (i.asset, i.partition, i.version) not in before:
                return f"{i.asset} {i.partition}, which {step.asset} {step.partition} is made from, changed since"
    return None


def run_backfill(
    runtime: Runtime, plan: BackfillPlan, begun: BackfillRecord | None, progress: Progress, *, off_peak: bool = False
) -> BackfillResult:
    """Run the plan, or go on with what was begun. off_peak: in this process, each run waiting for a window.

    Raises PermanentError when another process runs it.
    """
    with Launcher.open(runtime) as launcher, Ledger.open(runtime.settings) as ledger:
        record = begun or _record(plan, PROCESS if off_peak else launcher.how)
        attached = begun is not None and begun.how == DAEMON and launcher.is_submitted(begun.backfill)
        if attached and off_peak:
            raise PermanentError(
                f"Backfill {record.backfill} is run by Dagster's daemon already. Cancel it in the web UI, or drop "
                "--off-peak."
            )
        with running(ledger.connection, record.backfill):
            if begun is None:
                start(ledger.connection, record)
            stopped = None
            if attached or (record.how == DAEMON and begun is None):
                stopped = _by_daemon(launcher, record, plan, progress, attached=attached)
            else:
                launcher.run_here(record.backfill, plan.runs, progress, off_peak=off_peak)
            result = _result(runtime, ledger, launcher, record, plan, stopped)
            if stopped is None and (rest := _left(runtime, result)):
                launcher.run_here(record.backfill, rest, progress, off_peak=off_peak)
                result = _result(runtime, ledger, launcher, record, plan, stopped)
            finish(ledger.connection, record.backfill, result.actual_json())
    return result


def _record(plan: BackfillPlan, how: str) -> BackfillRecord:
    planned = {(s.asset, s.partition): [(i.asset, i.partition, i.version) for i in s.inputs] for s in plan.todo}
    seconds = plan.estimate.total_s
    estimated = {
        "seconds": round(seconds.value, 1),
        "seconds_low": round(seconds.low, 1),
        "seconds_high": round(seconds.high, 1),
        "cost": round(plan.estimate.cost.value, 6) if plan.estimate.cost else None,
        "runs": len(plan.runs),
        "partitions": len(plan.todo),
    }
    backfill = uuid.uuid4().hex[:8]
    return BackfillRecord(backfill, plan.hash, plan.selection, plan.first, plan.last, how, planned, estimated)


def _by_daemon(
    launcher: Launcher, record: BackfillRecord, plan: BackfillPlan, progress: Progress, *, attached: bool
) -> str | None:
    if not attached:
        launcher.submit(record.backfill, plan.runs, f"{' '.join(plan.selection)}, plan {plan.hash}")
    status = launcher.wait(record.backfill, progress)
    return status.lower() if status == "CANCELED" else None


def _result(
    runtime: Runtime,
    ledger: Ledger,
    launcher: Launcher,
    record: BackfillRecord,
    plan: BackfillPlan,
    stopped: str | None,
) -> BackfillResult:
    runs = launcher.runs_of(record.backfill)
    made = made_by(ledger.connection, [r.run_id for r in runs])
    nodes = list(plan.closure.nodes.values())
    state = state_of(ledger, nodes)
    after = Closure(nodes, state, evaluate=Finder(runtime, state), compare=Comparer(runtime, ledger))
    planned = {(s.asset, s.partition): s for s in plan.todo}
    outcomes: dict[Place, Outcome] = {}
    for place, step in planned.items():  # inputs first
        found = _outcome(step, made, state, after, runs)
        late = found is Outcome.PRUNED and any(not outcomes.get(r, found).is_right for r in step.because)
        outcomes[place] = Outcome.NOT_DONE if late else found
    for place in record.planned.keys() - planned.keys():  # computed before it was interrupted
        outcomes[place] = _made(made, place) or Outcome.PRUNED
    also = sorted(place for place in made.published if place not in outcomes)
    prices = [price_of(runtime.project, r.assets) for r in runs]
    costs = [float(p) * r.seconds / 3600 for p, r in zip(prices, runs, strict=True) if p is not None]
    cost = sum(costs) if len(costs) == len(runs) else None
    return BackfillResult(
        record.backfill, plan, record.how, outcomes, also, runs, made.attempts_s, cost, record.estimate, stopped
    )  # fmt: skip


def _made(made: MadeBy, place: Place) -> Outcome | None:
    if place not in made.published:
        return None
    return Outcome.COMPUTED if made.published[place] else Outcome.UNCHANGED


def _outcome(step: PlannedStep, made: MadeBy, state: LedgerState, after: Closure, runs: Sequence[RunDone]) -> Outcome:
    """From what the ledger has; Dagster's word counts only for a source, which the ledger alone can't judge."""
    place = (step.asset, step.partition)
    if found := _made(made, place):
        return found
    if place in state.pins:
        return Outcome.PINNED
    ended, mine = state.ended.get(place), {r.run_id for r in runs}
    if ended is not None and ended.run_id in mine:
        return Outcome.HELD if place in state.waiting else Outcome.FAILED
    if after.nodes[step.asset].is_source:
        looked = [r for r in runs if step.asset in r.assets and r.ended and not r.source_failed]
        return Outcome.PRUNED if looked else Outcome.FAILED
    return Outcome.PRUNED if after.verdict(*place).state is State.FRESH else Outcome.NOT_DONE


def _left(runtime: Runtime, result: BackfillResult) -> list[PlannedRun]:
    """Runs of what a failed partition kept from being reached in the same run, and doesn't depend on it."""
    outcomes, plan = result.outcomes, result.plan
    if not result.count(Outcome.NOT_DONE):
        return []
    again = plan_of(runtime, plan.selection, plan.first, plan.last, look=False)
    bad = {place for place, outcome in outcomes.items() if outcome is Outcome.FAILED}
    rest = []
    for step in again.todo:
        place = (step.asset, step.partition)
        if bad.intersection(step.because):
            bad.add(place)
        elif outcomes.get(place) is Outcome.NOT_DONE:
            rest.append(step)
    return build_runs(again.closure, rest)
