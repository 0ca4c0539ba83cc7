"""`data-pipeline recover`: what was repaired, one line each, for a person or as JSON."""

import json
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from etl_assets.recovery_report import Recovery
    from etl_resources.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the verb `recover`."""
    app.command()(recover)


def recover(
    tables: Annotated[
        list[str] | None,
        typer.Argument(help="Tables like gdp.gdp_sales, or targets like postgres.analytics.x. Default: all."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done and change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Settle crashed runs, rebuild what the ledger lost, and remove what nobody needs. Harmless to repeat.

    Runs that are under way are left alone. Files, branches and uploads are removed when they are older than
    ETL_MAINTAIN_GUARD_S (default: one hour). Exit code 1 when something could not be settled.
    """
    from etl_assets.graph.runtime import Runtime
    from etl_assets.project import load_project
    from etl_assets.recover import recover as run

    found = run(Runtime(load_project()), tables or (), dry_run=dry_run, progress=_line)
    if as_json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        _print(found)
    if found.unsettled:
        raise typer.Exit(1)


def tell_settled() -> None:
    """After `up`: one line when crashed runs were settled, nothing when there were none, and never a failure."""
    from etl_resources.classify import classify
    from etl_resources.ledger.liveness import assets_to_settle
    from etl_resources.settings import load_settings

    settings = load_settings()
    try:
        dead = assets_to_settle(settings)
        found = _settle(settings, dead) if dead else None
    except Exception as e:
        known = classify(e)
        if known is None:
            raise
        _line(f"crashed runs were not looked for: {known} Run `data-pipeline recover`.")
        return
    if found is not None and (found.actions or found.unsettled):
        problems = f"; {len(found.unsettled)} could not be: run `data-pipeline recover`" if found.unsettled else ""
        _line(f"settled {_count(len(found.actions), 'crashed attempt')}{problems}")


def _settle(settings: "Settings", dead: Collection[str]) -> "Recovery":
    from etl_assets.graph.runtime import Runtime
    from etl_assets.project import load_project
    from etl_assets.recover import settle_dead

    return settle_dead(Runtime(load_project(), settings), dead)


def _print(found: "Recovery") -> None:
    for action in found.actions:
        print(action)
    for problem in found.unsettled:
        print(f"could not be settled: {problem}", file=sys.stderr)
    if not found.actions and not found.unsettled:
        print(f"nothing to recover ({found.seconds} s)")
        return
    would = "would be done; nothing was changed" if found.dry_run else "done"
    print(f"{_count(len(found.actions), 'action')} {would}, {len(found.unsettled)} unsettled ({found.seconds} s)")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _line(text: str) -> None:
    print(f"· {text}", file=sys.stderr, flush=True)
