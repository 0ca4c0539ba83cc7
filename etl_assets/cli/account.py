"""`data-pipeline account`: what became of every row."""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from etl_assets.account import Accounting, Hop, Total


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(account)


def account(
    name: Annotated[str, typer.Argument(help="A dataset with its targets, e.g. kpi_net_revenue; or a table.")],
    partition: Annotated[
        str | None, typer.Argument(help="E.g. 2024-05; omitted for a table without partitions.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Tell what became of every row of a partition, from the captured source to what is served.

    Each hop is compared with the versions that it really read. Exit code 1 when a row is unaccounted for.
    """
    from etl_assets.account import account as balance
    from etl_assets.project import load_project
    from etl_resources.ledger.ledger import Ledger
    from etl_resources.settings import load_settings

    with Ledger.open(load_settings()) as ledger:
        found = balance(load_project(), ledger, name, partition)
    if as_json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        _print(found)
    if not found.balances:
        raise typer.Exit(1)


def _print(found: "Accounting") -> None:
    from etl_assets.account import in_words
    from etl_assets.cli.rows import write_table

    columns = ("hop", "partitions", "read", "written", "rejected", "deduplicated", "filtered", "not found", "")
    types = ("VARCHAR", "VARCHAR", *["BIGINT"] * 6, "VARCHAR")
    rows = (
        (
            hop.asset,
            in_words(hop.partitions),
            f"{hop.counts['read'] if hop.aggregated is None else hop.aggregated:,}",
            *(f"{hop.counts[c]:,}" for c in ("written", "rejected", "deduplicated", "filtered")),
            f"{sum(hop.missed.values()):,}" if hop.missed else "",
            _state(hop),
        )
        for hop in found.hops
    )
    write_table(columns, types, rows, sys.stdout)
    for hop in found.hops:
        for line in _details(hop):
            print(f"  {hop.asset}: {line}")
    if found.total:
        print(_told(found.total))
    print("every row is accounted for" if found.balances else "NOT every row is accounted for")


def _state(hop: "Hop") -> str:
    if hop.problems:
        return "DOES NOT BALANCE"
    return f"groups; {', '.join(f'{m} {n}' for m, n in hop.sums.items())}" if hop.sums else ""


def _details(hop: "Hop") -> Iterator[str]:
    yield from (f"{problem}" for problem in hop.problems)
    yield from _counted("rejected", hop.reasons)
    yield from _counted("filtered", hop.filters)
    yield from (f"{keys:,} keys not found in {table}" for table, keys in hop.missed.items() if keys)
    yield from hop.notes


def _counted(what: str, rows: Mapping[str, int]) -> Iterator[str]:
    yield from (f"{count:,} {what}: {why}" for why, count in rows.items() if count)


def _told(total: "Total") -> str:
    parts = [f"{total.arrived:,} in {total.arrived_in}", *(f"{n:,} {what}" for what, n in total.losses.items())]
    lost = f"; {total.lost:,} are nowhere" if total.lost else ""
    return f"{total.captured:,} captured in {total.source} = {' + '.join(parts)}{lost}"
