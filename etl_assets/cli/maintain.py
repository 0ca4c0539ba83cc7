"""`data-pipeline maintain`: compaction, expiry, deletion and Dagster's old events, at once."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(maintain)


def maintain(
    table: Annotated[list[str] | None, typer.Argument(help="Only these tables, e.g. gdp.gdp_sales.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done, change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Put small files together, expire old versions, delete what nothing references; exit code 1 if a table failed.

    Runs beside readers and writers. What is kept: the ETL_MAINTAIN_* settings. With TABLE, Dagster's events are left.
    """
    import dagster as dg

    from etl_assets.definitions import build_definitions
    from etl_assets.graph.runtime import Runtime
    from etl_assets.maintain import maintain as run_maintenance
    from etl_assets.project import load_project
    from etl_resources.stack.dagster_servers import write_dagster_home

    project = load_project()
    runtime = Runtime(project)
    if table:
        report = run_maintenance(runtime, table, _tell, dry_run=dry_run)
    else:
        checks = list(build_definitions(project).resolve_asset_graph().asset_check_keys)
        home = write_dagster_home(runtime.settings.home, Path.cwd())
        os.environ.setdefault("DAGSTER_HOME", str(home))
        with dg.DagsterInstance.get() as instance:
            report = run_maintenance(runtime, (), _tell, instance=instance, checks=checks, dry_run=dry_run)
    if as_json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        print("\n".join(report.lines()))
    if report.failed:
        raise typer.Exit(1)


def _tell(message: str) -> None:
    print(f"· {message}", file=sys.stderr, flush=True)
