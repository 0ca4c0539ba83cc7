"""`data-pipeline versions`, `release`, `diff`, `rollback`, `pins`, `unpin`: the history of a table, and its use."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from etl_assets.graph.runtime import Runtime

ROWS_SHOWN = 20
Table = Annotated[str, typer.Argument(help="A table, e.g. gdp.gdp_sales.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell what would be done, change nothing.")]
Partitions = Annotated[list[str] | None, typer.Option("--partition", help="Only this partition, e.g. 2024-05.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (versions, release, diff, rollback, pins, unpin):
        app.command()(verb)


def versions(
    table: Table,
    partition: Annotated[str | None, typer.Option(help="Only versions that changed this partition.")] = None,
    as_json: Json = False,
) -> None:
    """List the versions of a table that can be read, newest first: when, by which run, what they changed."""
    from etl_assets.cli import versions_report as told
    from etl_assets.versions import list_versions

    found = list_versions(_runtime(), table, partition)
    if as_json:
        _print_json(told.listing_json(found))
    else:
        told.print_listing(found, partition, sys.stdout)


def release(
    table: Table,
    as_name: Annotated[str, typer.Option("--as", help="Name of the release, e.g. close-2026-06.", show_default=False)],
    version: Annotated[str, typer.Option(help="Version number or release; omitted: the current one.")] = "current",
    dry_run: DryRun = False,
) -> None:
    """Name a version. It is an Iceberg tag: maintenance keeps a named version for ever, other engines can read it."""
    from etl_assets.versions import name_release

    named = name_release(_runtime(), table, as_name, version, dry_run=dry_run)
    print(f"{'would name' if dry_run else 'named'} version {named.number} of {table}: {as_name}")


def diff(
    table: Table,
    before: Annotated[str, typer.Argument(metavar="A", help="Version number, release, or current.")],
    after: Annotated[str, typer.Argument(metavar="B", help="Version number, release, or current.")],
    limit: Annotated[int, typer.Option(min=0, help="Rows to print.")] = ROWS_SHOWN,
    as_json: Json = False,
) -> None:
    """Compare two versions by key within each partition: added, removed and changed rows, from A to B."""
    from etl_assets.cli import versions_report as told
    from etl_assets.versions import compare

    found = compare(_runtime(), table, before, after, limit)
    if as_json:
        _print_json(told.diff_json(table, found))
    else:
        told.print_diff(table, found, sys.stdout)


def rollback(
    table: Table,
    to: Annotated[str, typer.Option(help="Version number or release to go back to.", show_default=False)],
    partition: Partitions = None,
    reason: Annotated[str, typer.Option(help="Why; shown wherever the pin is.")] = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Put an older version's content back as a new version, and pin it: runs leave it alone until `unpin`.

    Only partitions that differ are touched. Dependants follow at their next run; the commands are printed.
    """
    from etl_assets.cli import versions_report as told
    from etl_assets.versions import roll_back

    runtime = _runtime()
    done = roll_back(runtime, table, to, partition or (), reason, dry_run=dry_run)
    outcome = done.outcome
    if outcome is not None:
        from etl_assets.cli.dagster_told import tell
        from etl_assets.graph.runless_events import tell_rollback

        tell(runtime, table, lambda instance: tell_rollback(instance, runtime, table, outcome, reason))
    if as_json:
        _print_json(told.rollback_json(done))
    else:
        told.print_rollback(done, sys.stdout)


def pins(
    table: Annotated[str | None, typer.Argument(help="Only this table.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """List the partitions that a rollback pinned."""
    from etl_assets.cli import versions_report as told
    from etl_assets.versions import list_pins

    found = list_pins(_runtime(), table)
    if as_json:
        _print_json([told.pin_json(p) for p in found])
    else:
        told.print_pins(found, sys.stdout)


def unpin(table: Table, partition: Partitions = None, dry_run: DryRun = False) -> None:
    """Let pinned partitions follow their inputs again; omitted partitions: all that are pinned in the table."""
    from etl_assets.versions import to_follow
    from etl_assets.versions import unpin as remove

    runtime = _runtime()
    freed = remove(runtime, table, partition or (), dry_run=dry_run)
    if not freed:
        print(f"{table} has no pinned partition")
        return
    print(f"{'would unpin' if dry_run else 'unpinned'} {table}: {', '.join(freed)}")
    print("recompute:", *to_follow(runtime, table, freed), sep="\n  ")


def _runtime() -> "Runtime":
    from etl_assets.graph.runtime import Runtime
    from etl_assets.project import load_project

    return Runtime(load_project())


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
