"""`data-pipeline backfill`: runs a plan, after asking, and tells what came of it."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etl_assets.cli.plan import From, Selection, Size, To

if TYPE_CHECKING:
    from etl_assets.backfill.result import BackfillResult

FAILED_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(backfill)


def backfill(
    selection: Selection,
    first: From = None,
    last: To = None,
    size: Size = None,
    plan: Annotated[str | None, typer.Option("--plan", help="Only if the plan still has this hash.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    off_peak: Annotated[
        bool, typer.Option("--off-peak", help="Start runs only in the `off_peak` windows of platform.yaml; waits here.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell the plan, run nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compute what is out of date, by ordinary Dagster runs, and compare what was planned with what came of it.

    Interrupted and started again, it does only what is missing, at the same size. By Dagster's daemon if it lives, else
    in this process.
    Exit code 0: all is done, or there was nothing to do; 1: something failed, was refused or cancelled.
    """
    from etl_assets.backfill.execute import prepare, run_backfill
    from etl_assets.backfill.off_peak_wait import windows_of
    from etl_assets.cli.plan_report import plan_json, print_plan
    from etl_assets.graph.runtime import Runtime
    from etl_assets.project import load_project
    from etl_resources.errors import PermanentError

    runtime = Runtime(load_project())
    if off_peak:
        windows_of(runtime.project)
    found, begun, going = prepare(runtime, selection, first, last, plan, size)
    if not as_json:
        print_plan(found, sys.stdout)
    if dry_run or not (found.runs or begun):
        if as_json:
            _print_json({"plan": plan_json(found), "actual": None})
        return
    if begun:
        what = "follows backfill {}, which Dagster's daemon runs" if going else "goes on with backfill {}, interrupted"
        _line(what.format(begun.backfill))
    if found.runs and not yes and not going:
        if not sys.stdin.isatty():
            raise PermanentError("There is no terminal to ask whether to run this: add --yes.")
        typer.confirm("Run it?", abort=True, err=True)
    result = run_backfill(runtime, found, begun, _line, follow=going, off_peak=off_peak)
    if as_json:
        _print_json({"plan": plan_json(found), **_result_json(result)})
    else:
        _print_result(result)
    if not result.succeeded:
        raise typer.Exit(1)


def _print_result(result: "BackfillResult") -> None:
    from etl_assets.backfill.result import Outcome

    done, planned = result.actual_json(), result.estimated
    print(f"\nbackfill {result.backfill}" + (f": {result.stopped}" if result.stopped else ""))
    print(f"  {'':<12}{'planned':>12}{'actual':>12}")
    print(
        f"  {'partitions':<12}{planned['partitions']:>12,}{done['partitions'] - done['failed'] - done['not done']:>12,}"
    )
    print(f"  {'runs':<12}{planned['runs']:>12,}{done['runs']:>12,}")
    if not result.resumed and "elapsed_s" in planned:
        print(f"  {'minutes':<12}{planned['elapsed_s'] / 60:>12.2f}{done['elapsed_s'] / 60:>12.2f}")
    print(f"  {'worker min.':<12}{planned['seconds'] / 60:>12.2f}{done['seconds'] / 60:>12.2f}")
    if planned["cost"] is not None and done["cost"] is not None:
        cost = f"cost {result.plan.currency}"
        print(f"  {cost:<12}{planned['cost']:>12.4f}{done['cost']:>12.4f}")
    print("  " + ", ".join(f"{done[o]:,} {o}" for o in Outcome if done[o]))
    if result.also:
        print(f"  {len(result.also)} more were computed with them (rows moved, or captured together)")
    wrong = [(place, outcome) for place, outcome in result.outcomes.items() if not outcome.is_right]
    for (asset, partition), outcome in wrong[:FAILED_SHOWN]:
        print(f"{outcome}: data-pipeline why {asset} {partition}")
    for error in result.errors:
        print(f"failed: {error}", file=sys.stderr)
    if result.count(Outcome.HELD):
        print("some KPIs wait for a person: data-pipeline acceptance list")


def _result_json(result: "BackfillResult") -> dict[str, Any]:
    return {
        "backfill": result.backfill,
        "run_by": result.how,
        "stopped": result.stopped,
        "estimated": dict(result.estimated),
        "actual": result.actual_json(),
        "outcomes": [{"asset": a, "partition": p, "outcome": o.value} for (a, p), o in result.outcomes.items()],
        "also_computed": [{"asset": a, "partition": p} for a, p in result.also],
        "runs": [{"run_id": r.run_id, "status": r.status, "seconds": round(r.seconds, 1)} for r in result.runs],
        "errors": result.errors,
    }


def _line(text: str) -> None:
    print(f"· {text}", file=sys.stderr, flush=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
