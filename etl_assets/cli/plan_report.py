"""A plan as text and as JSON."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, TextIO

from etl_assets.backfill.estimate import Estimate, told_of
from etl_assets.backfill.plan import BackfillPlan
from etl_assets.backfill.reasons import change_json, place_of, places, told
from etl_assets.cli.rows import write_table
from etl_assets.size_categories import told_bytes
from etl_resources.calendar import WHOLE
from etl_resources.closure_plan import Action, PlannedStep
from etl_resources.estimates import Interval
from etl_resources.ledger.backfills import DAEMON
from etl_resources.verdicts import State

REASONS_SHOWN = 2
PARTITIONS_SHOWN = 12
LINES_SHOWN = 12
ERROR_OF = {"elapsed_s": "minutes", "seconds": "a worker's minutes", "bytes_in": "bytes read", "bytes_out": "written"}
_TYPES = ("VARCHAR", "VARCHAR", "BIGINT", "BIGINT", "BIGINT", "BIGINT", "VARCHAR", "VARCHAR", "VARCHAR")
_COLUMNS = ("asset", "size", "compute", "may change", "prune", "other", "rows out", "bytes out", "seconds")


def print_plan(plan: BackfillPlan, out: TextIO) -> None:
    """What is done with each asset, why, in which runs, at what price."""
    print(f"plan {plan.hash}: {' '.join(plan.selection)}, {plan.first} to {plan.last}, {plan.choice}\n", file=out)
    write_table(_COLUMNS, _TYPES, (_row(plan, asset) for asset in plan.assets), out)
    for line in _details(plan):
        print(line, file=out)
    print(f"\n{_plural(len(plan.runs), 'run')}" + (":" if plan.runs else ", nothing to compute"), file=out)
    for number, run in enumerate(plan.runs, 1):
        whole = "" if run.first == WHOLE else f"{run}: "
        print(f"  {number}. {whole}{', '.join(run.assets)}", file=out)
    if plan.runs:
        print_price(plan.estimate, plan, out)
    for line in _warnings(plan):
        print(line, file=out)


def print_price(estimate: Estimate, plan: BackfillPlan, out: TextIO) -> None:
    """Volume, minutes and cost, each with its interval."""
    volume = estimate.volume
    print(f"read      {_range(volume.rows_in, _count)} rows, {_range(volume.bytes_in, told_bytes)}", file=out)
    print(f"written   {_range(volume.rows_out, _count)} rows, {_range(volume.bytes_out, told_bytes)}", file=out)
    by = "Dagster's daemon" if plan.how == DAEMON else "this process"
    print(f"minutes   {_range(estimate.elapsed_s.times(1 / 60), _decimal)} until done, by {by}", file=out)
    print(f"worker    {_range(estimate.total_s.times(1 / 60), _decimal)} minutes", file=out)
    print(f"cost      {cost_told(plan, estimate.cost, estimate.unpriced)}", file=out)
    for size, other in plan.by_size.items() if len(plan.by_size) > 1 else ():
        minutes = _range(other.elapsed_s.times(1 / 60), _decimal)
        print(f"--size {size:<10} {minutes} minutes, cost {cost_told(plan, other.cost, other.unpriced)}", file=out)
    bases = sorted({b for b in estimate.bases.values() if not b.endswith(("attempt", "attempts"))})
    basis = f"the ledger's history; {'; '.join(bases)}" if bases else "the ledger's history of the same assets"
    print(f"estimated from {basis}", file=out)
    if plan.errors:
        told = ", ".join(f"{error:.0%} of {ERROR_OF[figure]}" for figure, error in plan.errors.items())
        print(f"median error of earlier estimates: {told}", file=out)


def cost_told(plan: BackfillPlan, cost: Interval | None, unpriced: Sequence[str]) -> str:
    """An amount with its interval, or why there is none."""
    prices = plan.currency
    if cost is None or prices is None:
        missing = f"size {', '.join(unpriced)}" if prices else "worker-hours"
        return f"unknown: platform.yaml has no price of {missing}"
    return f"{prices} {_range(cost, lambda n: f'{n:.4f}')}"


def plan_json(plan: BackfillPlan) -> dict[str, Any]:
    """For scripts."""
    e, sizes = plan.estimate, told_of(plan.sizes, plan.closure.nodes)
    return {
        "plan": plan.hash,
        "selection": list(plan.selection),
        "from": plan.first,
        "to": plan.last,
        "size": plan.choice.asked,
        "raised_to": plan.choice.raised_to,
        "assets": [
            {
                "asset": asset,
                "size": sizes[asset][0],
                "engine": sizes[asset][1],
                "partitions": [_step_json(s) for s in _steps(plan, asset)],
                "seconds": e.seconds[asset].as_json() if asset in e.seconds else None,
                "seconds_from": e.bases.get(asset),
                **(e.volumes[asset].as_json() if asset in e.volumes else {}),
            }
            for asset in _assets(plan)
        ],
        "runs": [{"from": r.first, "to": r.last, "assets": r.assets} for r in plan.runs],
        **e.volume.as_json(),
        "seconds": e.total_s.as_json(),
        "cost": e.cost.as_json(6) if e.cost else None,
        "currency": plan.currency,
        "sizes_without_price": list(e.unpriced),
        "elapsed": e.elapsed_s.as_json(),
        "by_size": {size: _size_json(other) for size, other in plan.by_size.items()},
        "run_by": plan.how,
        "median_errors": dict(plan.errors),
        "left_behind": {a: list(p) for a, p in plan.closure_plan.left_behind.items()},
        "built_on_stale": {a: list(p) for a, p in plan.closure_plan.built_on.items()},
        "notes": list(plan.notes),
    }


def _size_json(estimate: Estimate) -> dict[str, Any]:
    return {
        "elapsed": estimate.elapsed_s.as_json(),
        "seconds": estimate.total_s.as_json(),
        "cost": estimate.cost.as_json(6) if estimate.cost else None,
        "sizes_without_price": list(estimate.unpriced),
        "seconds_from": dict(estimate.bases),
    }


def _step_json(step: PlannedStep) -> dict[str, Any]:
    return {
        "partition": step.partition,
        "action": step.action.value,
        "state": step.verdict.state.value,
        "changes": [change_json(c) for c in step.changes],
        "follows": [{"asset": a, "partition": p} for a, p in step.because],
        "note": step.note or None,
        "closed": step.closed or None,
    }


def _steps(plan: BackfillPlan, asset: str) -> list[PlannedStep]:
    return [s for s in plan.closure_plan.steps.values() if s.asset == asset]


def _assets(plan: BackfillPlan) -> list[str]:
    """The selected ones, and those that must go with them."""
    return [n for n in plan.closure.nodes if n in plan.assets or any(s.asset == n for s in plan.todo)]


def _row(plan: BackfillPlan, asset: str) -> tuple[Any, ...]:
    steps, e = _steps(plan, asset), plan.estimate
    counts = {a: sum(s.action is a for s in steps) for a in Action}
    shown = [counts[a] for a in (Action.COMPUTE, Action.MAY_CHANGE, Action.PRUNE)]
    volume, seconds = e.volumes.get(asset), e.seconds.get(asset)
    sizes = (_range(volume.rows_out, _count), _range(volume.bytes_out, told_bytes)) if volume else ("", "")
    ((size, engine),) = plan.sizes.told([asset])
    at = size if engine == "duckdb" else f"{size}, {engine}"
    return (asset, at, *shown, len(steps) - sum(shown), *sizes, _range(seconds, _decimal) if seconds else "")


def _details(plan: BackfillPlan) -> Iterator[str]:
    """Each partition that isn't pruned, with the reason; the same reason once."""
    for asset in _assets(plan):
        steps = [s for s in _steps(plan, asset) if s.action is not Action.PRUNE]
        if not steps:
            continue
        yield f"\n{asset}" + ("" if asset in plan.assets else " (goes with them)")
        lines = [
            (stretch[0].partition, stretch[-1].partition, reason)
            for reason, found in groupby(steps, key=lambda s: f"{s.action.value}: {_reason(s)}")
            if (stretch := list(found))
        ]
        for first, last, reason in lines[:LINES_SHOWN]:
            yield f"  {first if first == last else f'{first} … {last}':<27} {reason}"
        if len(lines) > LINES_SHOWN:
            yield f"  … and {len(lines) - LINES_SHOWN} more lines (--json has them)"


def _reason(step: PlannedStep) -> str:
    if step.note:
        return step.note
    reasons = [told(c, step.partition) for c in step.changes[:REASONS_SHOWN]]
    if len(step.changes) > REASONS_SHOWN:
        reasons.append(f"{len(step.changes) - REASONS_SHOWN} more changes")
    if step.verdict.state is State.NEVER:
        reasons.append("never computed")
    if step.because:
        reasons.append(f"follows {places(step.because, step.partition)}")
    if step.closed:
        reasons.append(step.closed)
    return "; ".join(reasons) or "captured with its siblings"


def _warnings(plan: BackfillPlan) -> Iterator[str]:
    for note in plan.notes:
        yield f"note: {note}"
    for asset, partitions in plan.closure_plan.built_on.items():
        yield f"note: {_list(asset, partitions)} out of date, read by this plan and not part of it"
    for asset, partitions in plan.closure_plan.left_behind.items():
        yield f"note: {_list(asset, partitions)} out of date afterwards: not part of this plan"


def _list(asset: str, partitions: Sequence[str]) -> str:
    if list(partitions) == [WHOLE]:
        return f"{asset} is"
    shown = ", ".join(partitions[:PARTITIONS_SHOWN]) + (" …" if len(partitions) > PARTITIONS_SHOWN else "")
    return f"{place_of(asset, shown)} {'is' if len(partitions) == 1 else 'are'}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _range(interval: Interval, show: Any) -> str:
    low, high = show(interval.low), show(interval.high)
    return str(show(interval.value)) if low == high else f"{show(interval.value)} ({low} to {high})"


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _decimal(number: float) -> str:
    return f"{number:.1f}"
