"""`data-pipeline dead-letters list | show | replay | discard`: rejected rows, and what becomes of them."""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from etl_assets.graph.runtime import Runtime
    from etl_assets.letters.choice import Choice, Status

LIMIT = 20
Tables = Annotated[
    list[str] | None, typer.Argument(help="Tables, targets or datasets; omitted: all.", show_default=False)
]
Partitions = Annotated[
    str | None,
    typer.Option("--partitions", help="One (2024-05, all), or a range: 2024-01:2024-03.", show_default=False),
]
Rule = Annotated[str | None, typer.Option(help="Of a reason: type, not_null, ge, isin, …", show_default=False)]
Column = Annotated[str | None, typer.Option(help="Of a reason.", show_default=False)]
Text = Annotated[str | None, typer.Option(help="Part of a reason, in any case.", show_default=False)]
Since = Annotated[datetime | None, typer.Option(help="Rejected at this time (UTC) or later.", show_default=False)]
Letter = Annotated[str | None, typer.Option(help="Beginning of a letter's identity.", show_default=False)]
StatusOption = Annotated[
    list[str] | None,
    typer.Option("--status", help="open, discarded, replayed, refused, all; may be repeated. [default: open]"),
]
Limit = Annotated[int, typer.Option(min=1, help="Most that are printed.")]
Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell what would be done, change nothing.")]

commands = typer.Typer(
    help="Rows that were rejected: look at them, set them aside, bring them back.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(commands, name="dead-letters")


@commands.command("list")
def list_letters(
    tables: Tables = None,
    partitions: Partitions = None,
    rule: Rule = None,
    column: Column = None,
    text: Text = None,
    since: Since = None,
    status: StatusOption = None,
    by_partition: Annotated[bool, typer.Option("--by-partition", help="A line per partition.")] = False,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Count rejected rows by table, rule and reason, the most frequent first, with a sample of each.

    open: rejected by what is published. discarded: set aside by a person. replayed: rejected before and not any more.
    refused: rejected by an attempt that wasn't published, e.g. because there were too many.
    """
    from etl_assets.cli.rows import write_table
    from etl_assets.letters.listing import list_groups
    from etl_resources.dead_letters.index import printable

    choice = _choice(tables, partitions, rule, column, text, since)
    groups = list_groups(_runtime(), choice, _statuses(status), limit, by_partition=by_partition)
    if as_json:
        _print_json([g.as_json() for g in groups])
        return
    if not groups:
        print("no such dead letters")
        return
    names = ["table", "partition", "status", "letters", "rule", "column", "reason", "first seen", "last seen", "sample"]
    types = ["VARCHAR"] * 3 + ["BIGINT"] + ["VARCHAR"] * 6
    rows = (
        (
            g.table, g.partition or "all of it", g.status, g.letters, g.rule, g.column or "", printable(g.reason),
            f"{g.first_seen:%Y-%m-%d %H:%M}", f"{g.last_seen:%Y-%m-%d %H:%M}", _sample(g.sample),
        )
        for g in groups
    )  # fmt: skip
    write_table(names, types, rows, sys.stdout)


@commands.command()
def show(
    tables: Tables = None,
    partitions: Partitions = None,
    rule: Rule = None,
    column: Column = None,
    text: Text = None,
    since: Since = None,
    letter: Letter = None,
    status: StatusOption = None,
    limit: Limit = LIMIT,
    as_json: Json = False,
) -> None:
    """Show rejected rows as they came: reasons, offending values, where each is from, payload.

    With --json: one object per line.
    """
    from etl_assets.cli.rows import plain
    from etl_assets.letters.listing import show_letters

    choice = _choice(tables, partitions, rule, column, text, since, letter)
    shown = 0
    with show_letters(_runtime(), choice, _statuses(status), limit) as (columns, batches):
        for row in (r for rows in batches for r in rows):
            found = dict(zip(columns, row, strict=True))
            if as_json:
                print(json.dumps({k: plain(v) for k, v in found.items()}, ensure_ascii=False))
            else:
                _print_letter(found)
            shown += 1
    if not shown and not as_json:
        print("no such dead letters")


@commands.command()
def discard(
    tables: Annotated[list[str], typer.Argument(help="Tables, targets or datasets.", show_default=False)],
    by: Annotated[str, typer.Option(help="Who sets them aside.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why; kept with them.", show_default=False)],
    partitions: Partitions = None,
    rule: Rule = None,
    column: Column = None,
    text: Text = None,
    since: Since = None,
    letter: Letter = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Set open letters aside in somebody's name. Rejected again unchanged they stay so; changed, they are open again.

    Nothing is deleted, and no count changes: a discarded row is still rejected.
    """
    from etl_assets.letters.listing import discard_letters

    choice = _choice(tables, partitions, rule, column, text, since, letter)
    done = discard_letters(_runtime(), choice, by, reason, dry_run=dry_run)
    if as_json:
        _print_json({"dry_run": dry_run, "discarded": done})
        return
    for table, count in done.items():
        print(f"{'would discard' if dry_run else 'discarded'} {count:,} letters of {table}")
    if not any(done.values()):
        print("no open letter is so")


@commands.command()
def replay(
    tables: Tables = None,
    partitions: Partitions = None,
    rule: Rule = None,
    column: Column = None,
    text: Text = None,
    since: Since = None,
    letter: Letter = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Judge open letters again by the rules, SQL and references of today; what is good now comes back, once.

    Partitions of which a row comes back are recomputed, with what depends on them; the others are left alone. Exit code
    1 when a run failed.
    """
    from etl_assets.letters.replay import replay as bring_back

    runtime = _runtime()
    choice = _choice(tables, partitions, rule, column, text, since, letter)
    done = bring_back(runtime, choice, None if dry_run else _runner(runtime), lambda t: print(t, file=sys.stderr))
    if as_json:
        _print_json(done.as_json())
    else:
        _print_replay(done)
    if done.errors:
        raise typer.Exit(1)


def _print_replay(done: Any) -> None:
    from etl_resources.dead_letters.index import printable

    if not done.verdicts and not done.recomputed:
        print("no open letter is so")
    would = "would come back" if done.dry_run else "came back"
    for v in done.verdicts:
        told = [f"{v.back:,} of {v.letters:,} rows {would}"]
        told += [f"{v.gone:,} aren't there any more"] if v.gone else []
        told += [f"{v.still:,} stay rejected"] if v.still else []
        print(f"{v.table} {v.partition}: {', '.join(told)}{f' ({v.note})' if v.note else ''}")
        for reason, rows in v.stays.items():
            print(f"  {rows:,}: {printable(reason)}")
    for name, partitions in done.recomputed.items():
        told_partitions = partitions[0] if len(partitions) == 1 else f"{partitions[0]} … {partitions[-1]}"
        print(f"{'would recompute' if done.dry_run else 'recomputed'} {name}: {told_partitions} ({len(partitions)})")
    if done.verdicts and not done.restored and not done.recomputed:
        print("nothing comes back: no rule, SQL or reference that rejects these rows was fixed; nothing was changed")
    for error in done.errors:
        print(f"failed: {error}")


def _print_letter(found: dict[str, Any]) -> None:
    from etl_resources.dead_letters.index import printable

    print(f"{found['asset']} {found['partition']}: {printable(found['reason'])}  [{found['status']}]")
    place = f"{found['source']}" + (f", row {found['source_row']}" if found["source_row"] is not None else "")
    print(f"  letter   {found['letter']}, key {printable(found['key'])}")
    print(f"  from     {printable(place)}")
    for told in json.loads(found["reasons"]):
        value = "NULL" if told["value"] is None else printable(told["value"])
        print(f"  rule     {told['rule']}{' of ' + told['column_name'] if told['column_name'] else ''}: {value}")
    print(f"  attempt  {found['attempt']}, epoch {found['epoch']}, run {found['run_id']}")
    print(
        f"  seen     {found['seen']} times, first {found['first_seen']:%Y-%m-%d %H:%M}, "
        f"last {found['last_seen']:%Y-%m-%d %H:%M} UTC"
    )
    print(f"  payload  {printable(found['payload'])}")


def _sample(sample: Any) -> str:
    from etl_resources.dead_letters.index import printable

    value = sample.get("value")
    return printable(f"{sample.get('key')}{'' if value is None else f' {value!r}'}")


def _choice(
    tables: Sequence[str] | None,
    partitions: str | None,
    rule: str | None,
    column: str | None,
    text: str | None,
    since: datetime | None,
    letter: str | None = None,
) -> "Choice":
    from etl_assets.letters.choice import Choice
    from etl_resources.calendar import WHOLE, is_period

    first, colon, last = (partitions or "").partition(":")
    last = last if colon else first
    for name in filter(None, (first, last)):
        if name != WHOLE and not is_period(name):
            message = f"{name!r} is no period such as 2024-05 or 2024-05-17, nor all."
            raise typer.BadParameter(message, param_hint="--partitions")
    return Choice(tables, first or None, last or None, rule, column, text, since, letter)


def _statuses(names: Sequence[str] | None) -> "Sequence[Status]":
    from etl_assets.letters.choice import STATUSES

    wanted = names or ["open"]
    wrong = [n for n in wanted if n not in (*STATUSES, "all")]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is none of {', '.join(STATUSES)}, all.", param_hint="--status")
    return [s for s in STATUSES if s in wanted or "all" in wanted]


def _runner(runtime: "Runtime") -> Any:
    import dagster as dg

    from etl_assets.cli.run_assets import asset_runner
    from etl_assets.graph.keys import table_key

    run = asset_runner(runtime, "data-pipeline/replay")

    def run_assets(assets: Sequence[str], told: str, first: str, last: str) -> tuple[str, Sequence[str]]:
        return run(dg.AssetSelection.keys(*map(table_key, assets)), told, first, last)

    return run_assets


def _runtime() -> "Runtime":
    from etl_assets.graph.runtime import Runtime
    from etl_assets.project import load_project

    return Runtime(load_project())


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
