"""`data-pipeline acceptance list | show` and `data-pipeline accept`: what waits for a person."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from etl_assets.graph.runtime import Runtime
    from etl_assets.kpi_acceptance import Accepted
    from etl_resources.ledger.held import Held

Kpi = Annotated[
    str,
    typer.Argument(help="A KPI, or a table whose periods are closed, e.g. kpi.kpi_net_revenue.", show_default=False),
]
Partition = Annotated[str, typer.Argument(help="E.g. 2024-05; all: of a KPI without partitions.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
REJECTED_SHOWN = 10

commands = typer.Typer(
    help="Partitions that a threshold, or a closed period, keeps from being published.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(commands, name="acceptance")
    app.command()(accept)


@commands.command("list")
def list_waiting(
    kpi: Annotated[str | None, typer.Argument(help="Only this KPI.", show_default=False)] = None, as_json: Json = False
) -> None:
    """List the partitions that wait, with what is wrong and whether somebody accepted them."""
    from etl_assets.kpi_acceptance import held_json, waiting

    found = waiting(_runtime(), kpi)
    if as_json:
        _print_json([held_json(h) for h in found])
        return
    if not found:
        print("nothing waits")
    for held in found:
        who = f"accepted by {held.acceptance.by}, not published yet" if held.acceptance else "waits"
        print(f"{held.asset} {held.partition}: {who} since {held.held_at:%Y-%m-%d %H:%M} UTC; {_why(held)}")


@commands.command()
def show(
    kpi: Kpi,
    partition: Partition,
    rows: Annotated[int, typer.Option(min=0, help="Rows of it to print.")] = 20,
    as_json: Json = False,
) -> None:
    """Explain why a partition isn't published: differences by group, rejected rows on the way, the rows themselves."""
    from etl_assets.cli.rows import plain, write_table
    from etl_assets.kpi_acceptance import find_waiting, held_json, held_rows

    runtime = _runtime()
    held = find_waiting(runtime, kpi, partition)
    columns, types, found = held_rows(runtime, held, rows) if rows else ([], [], [])
    if as_json:
        written = [{c: plain(v) for c, v in zip(columns, row, strict=True)} for row in found]
        _print_json({**held_json(held), "first_rows": written})
        return
    _print_findings(held)
    if found:
        print(f"{len(found)} of {held.rows:,} rows that are written and not published:")
        write_table(columns, types, iter(found), sys.stdout)


def accept(
    kpi: Kpi,
    partition: Partition,
    by: Annotated[str, typer.Option(help="Who accepts it.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why; kept with the publish.", show_default=False)],
    version: Annotated[str | None, typer.Option(help="Only if it is this version, as `acceptance show` told.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done, change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Publish a partition that waits, in somebody's name, and what depends on it.

    Exactly what was judged is accepted: when its inputs or its logic changed since, the new result is judged by itself.
    Exit code 1 when it isn't published.
    """
    from etl_assets.cli.run_assets import runner
    from etl_assets.kpi_acceptance import accept as decide

    runtime = _runtime()
    run = None if dry_run else runner(runtime, "data-pipeline/accept")
    done = decide(runtime, kpi, partition, by, reason, run, version)
    if done.published:
        _send_notices(runtime)
    if as_json:
        _print_json({**done.as_json(), "dry_run": dry_run})
    else:
        _print_accepted(done)
    if not (done.published or dry_run) or done.errors:
        raise typer.Exit(1)


def _send_notices(runtime: "Runtime") -> None:
    """Of a closed period that was restated; what isn't taken is sent again by the reconcile sensor."""
    from etl_assets.automation.restatements import send_restatements
    from etl_resources.ledger.ledger import Ledger

    with Ledger.open(runtime.settings) as ledger:
        send_restatements(runtime.settings, ledger, lambda line: print(line, file=sys.stderr))


def _print_accepted(done: "Accepted") -> None:
    held = done.held
    if done.acceptance is None:
        _print_findings(held)
        print(f"would accept version {held.version}")
        return
    if done.published:
        print(f"published {held.asset} {held.partition} as epoch {done.epoch}, accepted by {done.acceptance.by}")
    if done.problem:
        print(f"{held.asset} {held.partition}: {done.problem}")
    for error in done.errors:
        print(f"failed: {error}")


def _print_findings(held: "Held") -> None:
    from etl_assets.cli.rows import write_table

    print(f"{held.asset} {held.partition}: {held.rows:,} rows, version {held.version}, held by run {held.run_id}")
    for check in held.findings["checks"]:
        print(f"{check['name']} fails:")
        types = ("VARCHAR", "VARCHAR", "BIGINT", "BIGINT")
        rows = ((d["group"], d["measure"], str(d["here"]), str(d["there"])) for d in check["differences"])
        other = check["differences"][0]["other"] if check["differences"] else ""
        write_table(("group", "measure", "here", other), types, rows, sys.stdout)
    if held.findings["rejected"]:
        print("rejected on the way:")
    for found in held.findings["rejected"][:REJECTED_SHOWN]:
        sample = found.get("sample") or {}
        value = f" {sample['value']}" if sample.get("value") is not None else ""
        shown = f", e.g. {sample['key']}{value}" if sample.get("key") else ""
        print(f"  {found['rows']:,} of {found['asset']}: {found['reason']}{shown}")


def _why(held: "Held") -> str:
    return "; ".join(
        f"{check['name']}: {check['metadata'].get('differences', len(check['differences']))} differences"
        for check in held.findings["checks"]
    )


def _runtime() -> "Runtime":
    from etl_assets.graph.runtime import Runtime
    from etl_assets.project import load_project

    return Runtime(load_project())


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
