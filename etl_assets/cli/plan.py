"""`data-pipeline plan`: what a backfill would compute and cost."""

import json
import sys
from typing import Annotated

import typer

Selection = Annotated[
    list[str],
    typer.Argument(
        help="Assets (gdp.sales), layers (gdp, serving), datasets or '*'; +x: with all that x is made from, x+: with "
        "all that is made from it.",
        show_default=False,
    ),
]
From = Annotated[str | None, typer.Option("--from", help="First period, e.g. 2024-01; omitted: the calendar's.")]
To = Annotated[str | None, typer.Option("--to", help="Last period, included; omitted: the calendar's.")]

Size = Annotated[
    str | None,
    typer.Option("--size", help="Entry of `sizes` in platform.yaml for every dataset; omitted: the manifests'."),
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(plan)


def plan(
    selection: Selection,
    first: From = None,
    last: To = None,
    size: Size = None,
    ledger_only: Annotated[
        bool, typer.Option("--ledger-only", help="Look at no source and read no data: what the ledger knows.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Tell what a backfill would compute and prune, why, in which runs, and what it takes and costs. Changes nothing.

    `backfill … --plan HASH` does exactly this plan, or refuses. Exit code 0, whatever there is to do.
    """
    from etl_assets.backfill.launch import Launcher
    from etl_assets.backfill.plan import plan_of
    from etl_assets.cli.plan_report import plan_json, print_plan
    from etl_assets.graph.runtime import Runtime
    from etl_assets.project import load_project

    runtime = Runtime(load_project())
    with Launcher.open(runtime) as launcher:
        how = launcher.how
    found = plan_of(runtime, selection, first, last, look=not ledger_only, how=how, size=size)
    if as_json:
        print(json.dumps(plan_json(found), indent=2, ensure_ascii=False))
    else:
        print_plan(found, sys.stdout)
