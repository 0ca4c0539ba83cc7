"""`data-pipeline schema-changes`: what became of the columns of a source since it was first captured."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from etl_resources.tables.source_schema import RecordedChange


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("schema-changes")(schema_changes)


def schema_changes(
    dataset: Annotated[str, typer.Argument(help="Dataset with a source, e.g. sales_orders.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON, with the columns of the source.")] = False,
) -> None:
    """Tell which columns a source added, widened, changed, renamed or lost, and what was made of it."""
    from etl_assets.graph.runtime import Runtime
    from etl_assets.project import load_project
    from etl_assets.schema_history import schema_history

    history = schema_history(Runtime(load_project()), dataset)
    if as_json:
        told = {
            "dataset": dataset,
            "mode": history.mode,
            "source": history.record.seen,
            "evolved": history.record.evolved,
            "changes": [asdict(c) for c in history.record.changes],
        }
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return
    print(f"{dataset}: schema_evolution: {history.mode or 'omitted'}")
    for change in history.record.changes:
        print(f"  {_line(change)}")
    if not history.record.changes:
        print("  no change of the source's columns so far")


def _line(change: "RecordedChange") -> str:
    types = " → ".join(t for t in (change.before, change.after) if t)
    note = f" ({change.note})" if change.note else ""
    mode = change.mode or "omitted"
    return (
        f"{change.at} {change.column} {change.kind}: {types}: {change.action}{note}; mode {mode}, run {change.run_id}"
    )
