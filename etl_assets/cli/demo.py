"""`data-pipeline demo`: the main job, drawn for a person or as JSON."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etl_assets.cli.demo_picture import kpi_table, picture

if TYPE_CHECKING:
    from etl_assets.demo.run import DemoResult


def register(app: typer.Typer) -> None:
    """Add the verb `demo`."""

    @app.command()
    def demo(
        scale: Annotated[float, typer.Option(help="TPC-H scale of the sources: 1 is 6 million order lines.")] = 0.1,
        months: Annotated[int, typer.Option(help="Newest months to materialize, at most 36.")] = 36,
        as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
        no_ui: Annotated[bool, typer.Option("--no-ui", help="Don't start the Dagster web server and daemon.")] = False,
        size: Annotated[
            str | None, typer.Option(help="Entry of `sizes` in platform.yaml for every dataset; large: on Spark.")
        ] = None,
        recreate_source: Annotated[
            bool, typer.Option("--recreate-source", help="Replace the demo's ERP and CRM, also at another scale.")
        ] = False,
    ) -> None:
        """Start the stack, create the source systems, and publish reconciled KPIs from them through every layer.

        Run it again: every partition is pruned, after the sources were looked at again.
        """
        from etl_assets.demo.run import run_demo

        if size is not None:
            os.environ["ETL_SIZE"] = size
        _draw_progress()
        result = run_demo(
            scale=scale,
            months=months,
            ui=not no_ui,
            recreate_source=recreate_source,
            project_dir=Path.cwd(),
            progress=_line,
        )
        if as_json:
            print(json.dumps(result.as_json(), indent=2))
        else:
            _print(result)
        if not result.success:
            raise typer.Exit(1)


def _line(text: str) -> None:
    print(f"· {text}", file=sys.stderr, flush=True)


def _draw_progress() -> None:
    from etl_resources.progress import LOGGER

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            _line(record.getMessage())

    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.INFO)
    logger.handlers = [Lines()]
    logger.propagate = False


def _print(result: "DemoResult") -> None:
    print("\nseconds by stage")
    for stage, seconds in result.seconds.items():
        print(f"  {stage:<42}{seconds:>12.1f}")
    print(
        f"\npartitions: {result.published} published, {result.unchanged} recomputed with equal content, "
        f"{result.pruned} pruned"
    )
    for proof in result.proofs if result.pruned else ():
        print(f"  {proof}")
    print("\nthe flow, with rows")
    for line in picture(result):
        print(line)
    if result.kpi:
        print("\nthe KPI, the last 12 months (analytics.* in Postgres)")
        for line in kpi_table(result.kpi):
            print(line)
    for error in result.errors:
        print(f"\nfailed: {error}", file=sys.stderr)
    _print_next(result)


def _print_next(result: "DemoResult") -> None:
    print("\nwhat to try next")
    if result.ui_url:
        print(f"  open {result.ui_url} : assets, partitions, checks and runs")
    print("  data-pipeline demo                       again: everything is pruned, with the proof")
    print('  data-pipeline sql "from kpi.kpi_net_revenue order by month desc limit 5"')
    print("  data-pipeline verify                     reread all stores and compare their content")
    print("  data-pipeline down                       stop the servers, keep the data")
