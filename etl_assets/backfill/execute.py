"""`data-pipeline backfill`: runs a plan, goes on with an interrupted one, and compares it with what came of it."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace

from etl_assets.backfill.closure_nodes import state_of
from etl_assets.backfill.estimate import price_of
from etl_assets.backfill.launch import Launcher, Progress, RunDone
from etl_assets.backfill.look import Comparer, Finder
from etl_assets.backfill.plan import BackfillPlan, plan_of
from etl_assets.backfill.result import BackfillResult, Outcome
from etl_assets.backfill.runs import PlannedRun, build_runs
from etl_assets.graph.runtime import Runtime
from etl_resources.closure import Closure
from etl_resources.closure_plan import Action, PlannedStep
from etl_resources.errors import PermanentError
from etl_resources.failpoints import failpoint
from etl_resources.ledger.backfills import (
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


def prepare(
    runtime: Runtime,
    selection: Sequence[str],
    first: str | None,
    last: str | None,
    wanted_hash: str | None,
    size: str | None = None,
) -> tuple[BackfillPlan, BackfillRecord | None, bool]:
    """The plan of now, the interrupted backfill that it goes on with, and whether Dagster's daemon is running that.

    wanted_hash: of a plan that somebody looked at. Raises PermanentError when the state no longer gives it: what runs
    is what was looked at, or what an interrupted backfill of that plan left to do. One that the daemon runs is followed
    whatever changed meanwhile: nothing is asked for twice. size: of every dataset; None: that of the plan that was
    looked at, or of the backfill that was interrupted.
    """
    with Launcher.open(runtime) as launcher, Ledger.open(runtime.settings) as ledger:
        plan = plan_of(runtime, selection, first, last, how=launcher.how, size=size)
        begun = unfinished(ledger.connection, plan.selection, plan.first, plan.last)
        going = begun is not None and launcher.going(begun.backfill) is not None
    if begun is not None and going:
        _prove_same(begun, wanted_hash, size)
        return _at_its_size(plan, begun), begun, True
    fitting = plan.of_hash(wanted_hash) if wanted_hash is not None else plan
    if size is not None and fitting is not None and fitting.choice != plan.choice:
        raise PermanentError(f"Plan {wanted_hash} is at {fitting.choice}, not at --size {size}. {REPLAN}")
    if begun is not None and _goes_on(begun, plan, fitting, wanted_hash, size):
        return _at_its_size(plan, begun), begun, False
    if fitting is None:
        raise PermanentError(f"The state no longer gives plan {wanted_hash}, but {plan.hash}. {REPLAN}")
    return fitting, None, False


def _at_its_size(plan: BackfillPlan, begun: BackfillRecord) -> BackfillPlan:
    """Raises PermanentError where platform.yaml no longer has that size."""
    return plan.at(begun.choice.check(plan.sizes.project.platform, f"backfill {begun.backfill}"))


def _goes_on(
    begun: BackfillRecord, plan: BackfillPlan, fitting: BackfillPlan | None, wanted_hash: str | None, size: str | None
) -> bool:
    """Whether the rest of an interrupted backfill is what is asked for. Raises PermanentError where somebody wants the
    rest of it, by its hash, and that isn't what the state gives."""
    problem = differs(begun.planned, plan)
    if size is not None and size != begun.choice.asked:
        problem = f"it is at {begun.choice}: leave out --size to go on with it"
    elif wanted_hash not in (None, begun.plan_hash) and fitting is not None and fitting.choice != begun.choice:
        problem = "somebody looked at the rest at another size"
    if problem and wanted_hash == begun.plan_hash and fitting is None:
        raise PermanentError(
            f"Backfill {begun.backfill} of plan {wanted_hash} was interrupted, and {problem}. {REPLAN}"
        )
    return problem is None


def _prove_same(begun: BackfillRecord, wanted_hash: str | None, size: str | None) -> None:
    """Raises PermanentError where the backfill that Dagster's daemon runs isn't the one that is asked for."""
    of = f"Backfill {begun.backfill} of plan {begun.plan_hash} is running, by Dagster's daemon"
    if wanted_hash not in (None, begun.plan_hash):
        raise PermanentError(f"{of}. Follow it by the same command without --plan, or cancel it in the web UI.")
    if size is not None and size != begun.choice.asked:
        raise PermanentError(
            f"{of}, at {begun.choice}. Follow it by the same command without --size, or cancel it in the web UI."
        )


def differs(planned: Planned, plan: BackfillPlan) -> str | None:
    """What a plan has that isn't the rest of what was planned; None where it is the rest.

    What the backfill itself computed upstream is another version now, as planned; any other input must be as it was.
    """
    for step in plan.todo:
        place = (step.asset, step.partition)
        if place not in planned and step.action is Action.LOOK:
            continue
        if place not in planned:
            return f"{step.asset} {step.partition} has to be computed, too, by now"
        before = set(planned[place])
        for i in step.inputs:
            if (i.asset, i.partition) not in planned and (i.asset, i.partition, i.version) not in before:
                return f"{i.asset} {i.partition}, which {step.asset} {step.partition} is made from, changed since"
    return None


def run_backfill(
    runtime: Runtime,
    plan: BackfillPlan,
    begun: BackfillRecord | None,
    progress: Progress,
    *,
    follow: bool = False,
    off_peak: bool = False,
) -> BackfillResult:
    """Run the plan, or go on with what was begun; follow: the daemon was found to run it, so that nothing is asked for.
    off_peak: in this process, each run waiting for a window.

    Raises PermanentError when another process runs it.
    """
    with Launcher.open(runtime) as launcher, Ledger.open(runtime.settings) as ledger:
        record = begun or _record(plan, PROCESS if off_peak else launcher.how)
        if off_peak and launcher.going(record.backfill):
            raise PermanentError(
                f"Backfill {record.backfill} is run by Dagster's daemon already. Cancel it in the web UI, or drop "
                "--off-peak."
            )
        with running(ledger.connection, record.backfill):
            if begun is None:
                start(ledger.connection, record)
                failpoint("backfill.recorded", record.backfill)
            asked_at = time.time()
            stopped = _run(launcher, record, plan, progress, follow=follow, off_peak=off_peak)
            result = _result(runtime, ledger, launcher, record, plan, stopped)
            if stopped is None and (rest := _left(runtime, result)):
                launcher.run_here(record.backfill, rest, progress, record.choice, off_peak=off_peak)
                result = _result(runtime, ledger, launcher, record, plan, stopped)
            ended_at = max((r.ended_at for r in result.runs if r.ended_at), default=asked_at)
            waited = begun is not None or off_peak
            result = replace(result, elapsed_s=max(0.0, ended_at - asked_at), resumed=waited)
            finish(ledger.connection, record.backfill, result.record_json())
    return result


def _record(plan: BackfillPlan, how: str) -> BackfillRecord:
    planned = {(s.asset, s.partition): [(i.asset, i.partition, i.version) for i in s.inputs] for s in plan.todo}
    seconds, volume = plan.estimate.total_s, plan.estimate.volume
    estimated = {
        "seconds": round(seconds.value, 1),
        "seconds_low": round(seconds.low, 1),
        "seconds_high": round(seconds.high, 1),
        "elapsed_s": round(plan.estimate.elapsed_s.value, 1),
        "bytes_in": round(volume.bytes_in.value),
        "bytes_out": round(volume.bytes_out.value),
        "cost": round(plan.estimate.cost.value, 6) if plan.estimate.cost else None,
        "runs": len(plan.runs),
        "partitions": len(plan.todo),
    }
    backfill = uuid.uuid4().hex[:8]
    return BackfillRecord(
        backfill, plan.hash, plan.selection, plan.first, plan.last, how, planned, estimated, plan.choice
    )


def _run(
    launcher: Launcher, record: BackfillRecord, plan: BackfillPlan, progress: Progress, *, follow: bool, off_peak: bool
) -> str | None:
    """By whom it was begun, else by whom can now. Why it ended before everything was run, if it did."""
    going = launcher.going(record.backfill)
    if going is None and plan.runs and not follow:
        if off_peak or record.how == PROCESS or launcher.how == PROCESS:
            launcher.run_here(record.backfill, plan.runs, progress, record.choice, off_peak=off_peak)
            return None
        title = f"{' '.join(plan.selection)}, plan {plan.hash}"
        going = launcher.submit(record.backfill, plan.runs, title, record.choice)
        failpoint("backfill.submitted", record.backfill)
    status = launcher.wait(going, record.backfill, progress) if going else None
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
    took = launcher.took(runs, made)
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
    prices = [price_of(plan.sizes, r.assets) for r in runs]
    worker_s = [t.start_s + t.seconds if (t := took.get(r.run_id)) else r.seconds for r in runs]
    costs = [float(p) * s / 3600 for p, s in zip(prices, worker_s, strict=True) if p is not None]
    cost = sum(costs) if len(costs) == len(runs) else None
    return BackfillResult(
        record.backfill, plan, record.how, outcomes, also, runs, took, made, cost, record.estimate, stopped
    )  # fmt: skip


def _made(made: MadeBy, place: Place) -> Outcome | None:
    if place not in made.published:
        return None
    return Outcome.COMPUTED if made.published[place] else Outcome.UNCHANGED


def _outcome(step: PlannedStep, made: MadeBy, state: LedgerState, after: Closure, runs: Sequence[RunDone]) -> Outcome:
    """From what the ledger has; Dagster's word counts only for a source, which the ledger alone can't judge.

    What was made before something that it reads is not done: Dagster runs months that lie apart side by side.
    """
    place = (step.asset, step.partition)
    if found := _made(made, place):
        changed = {(c.asset, c.partition) for c in after.verdict(*place).changes}
        return Outcome.NOT_DONE if changed.intersection(step.because) else found
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
