"""`data-pipeline close`, `closings` and `reopen`: periods whose figures are published and stay."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl_assets.graph.runtime import Runtime
    from etl_resources.closing import Done

Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell what would be done, change nothing.")]
By = Annotated[str, typer.Option(help="Who does it.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (close, closings, reopen):
        app.command()(verb)


def close(
    assets: Annotated[
        list[str], typer.Argument(metavar="ASSET... PERIOD", help="Tables, then the period, e.g. 2024-05.")
    ],
    by: By,
    note: Annotated[str, typer.Option(help="Kept with the closing.")] = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Close a period of tables: its figures are named, readable for ever, and late data waits for an approval.

    Refused, for all of them, when one is stale, behind, held, pinned, failed, never computed or closed already.
    """
    from etl_assets.period_close import closable
    from etl_assets.period_close import close as do

    if len(assets) < 2:
        raise typer.BadParameter("name at least one table, then the period: data-pipeline close kpi.revenue 2024-05")
    *names, period = assets
    runtime = _runtime()
    if dry_run:
        would = [closable(runtime, name, period) for name in names]
        if as_json:
            _print_json([{**w.as_json(), "dry_run": True} for w in would])
        for w in would if not as_json else ():
            print(f"would close {w.asset} {w.partition}: {w.rows:,} rows, version {w.version}")
        return
    done = do(runtime, names, period, by, note)
    _tell_dagster(runtime, done, "closed")
    if as_json:
        _print_json([{**d.closing.as_json(), "number": d.outcome.number} for d in done])
    for d in done if not as_json else ():
        c = d.closing
        print(f"closed {c.asset} {c.partition}: {c.rows:,} rows, version {d.outcome.number}, release {c.tag}")


def closings(
    asset: Annotated[str | None, typer.Argument(help="Only this table.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """List the closed periods: who closed them, when, and the release that keeps their figures."""
    from etl_assets.period_close import list_closings

    found = list_closings(_runtime(), asset)
    if as_json:
        _print_json([c.as_json() for c in found])
        return
    for c in found:
        print(f"{c.asset} {c.partition}: {c}; {c.rows:,} rows")
    if not found:
        print("nothing is closed")


def reopen(
    asset: Annotated[str, typer.Argument(help="A table, e.g. kpi.kpi_net_revenue.", show_default=False)],
    period: Annotated[str, typer.Argument(help="E.g. 2024-05.", show_default=False)],
    by: By,
    reason: Annotated[str, typer.Option(help="Why; kept for ever.", show_default=False)],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Let a closed period follow its inputs again, as if it had never been closed. Its release stays."""
    from etl_assets.period_close import find_closing
    from etl_assets.period_close import reopen as do

    runtime = _runtime()
    if dry_run:
        closing = find_closing(runtime, asset, period)
        if as_json:
            _print_json({**closing.as_json(), "dry_run": True})
        else:
            print(f"would reopen {closing.asset} {period}, {closing}")
        return
    done = do(runtime, asset, period, by, reason)
    _tell_dagster(runtime, [done], "reopened")
    if as_json:
        _print_json(done.closing.as_json())
    else:
        print(f"reopened {done.closing.asset} {period}; it is recomputed when it is out of date: data-pipeline why")


def _tell_dagster(runtime: "Runtime", done: "Sequence[Done]", kind: str) -> None:
    from etl_assets.cli.dagster_told import tell
    from etl_assets.graph.runless_events import tell_closing

    name = done[0].closing.asset
    tell(runtime, name, lambda instance: sum(tell_closing(instance, runtime, d.closing.asset, d, kind) for d in done))


def _runtime() -> "Runtime":
    from etl_assets.graph.runtime import Runtime
    from etl_assets.project import load_project

    return Runtime(load_project())


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
