"""`data-pipeline stuck`: what doesn't become fresh by itself any more."""

import json
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(stuck)


def stuck(
    again: Annotated[
        bool, typer.Option("--again", help="Have them asked for again at the next tick: what kept them is mended.")
    ] = False,
    asset: Annotated[str | None, typer.Option(help="With --again: only this one, e.g. silver.sales_orders.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """List partitions that failed as often as is allowed, and sources that can't be observed.

    Exit code 1 when there is any. A changed input, or a run by hand that succeeds, takes a partition off the list.
    """
    from etl_assets.automation.stuck import ask_again, find_trouble
    from etl_resources.settings import load_settings

    settings = load_settings()
    if again:
        print(f"{ask_again(settings, asset)} partitions are asked for again at the next tick of the sensor.")
        return
    found = find_trouble(settings)
    lines = found.lines()
    if as_json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        print("\n".join(lines) or "nothing is stuck")
    if lines:
        raise typer.Exit(1)
