"""`data-pipeline verify`, `sql` and `tables`: look at what is published, and prove it."""

import json
import sys
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated

import typer

from etl_resources.errors import PermanentError

if TYPE_CHECKING:
    from etl_assets.graph.runtime import Runtime

ROWS_SHOWN = 50
EXPLAINED = ["explain_key", "explain_value"]
"""Columns of EXPLAIN: the plan is a drawing, not a row."""


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(verify)
    app.command()(sql)
    app.command()(tables)


def verify(
    asset: Annotated[
        list[str] | None, typer.Option(help="Only this table or target, e.g. kpi.kpi_net_revenue.")
    ] = None,
    partition: Annotated[list[str] | None, typer.Option(help="Only this partition, e.g. 2024-05.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Reread every store and compare content, ledger and served rows; exit code 1 when they differ."""
    from etl_assets.verify import verify as run_verify

    report = run_verify(_runtime(), asset or (), partition or (), _tell)
    if as_json:
        print(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
    else:
        print("\n".join(report.lines()))
    if not report.equal:
        raise typer.Exit(1)


def sql(
    statement: Annotated[str, typer.Argument(help='One query, e.g. "from kpi.kpi_net_revenue limit 5".')],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per row, all rows.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a heading, all rows.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help=f"Rows to print; omitted: {ROWS_SHOWN} of a table, all of --json and --csv."),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(help="A release, or version number, of the tables; e.g. close-2024-05: as it was closed."),
    ] = None,
) -> None:
    """Query the published tables, what is served in both stores, and the ledger, in DuckDB's SQL. Reads only.

    Tables are named bronze.*, silver.*, gdp.*, kpi.*, postgres.analytics.*, elasticsearch.* and ledger.*: see
    `data-pipeline tables`. Documents are copied before the query runs, all of a target.
    """
    from etl_assets.cli.rows import write_csv, write_json, write_table
    from etl_assets.query import run_query

    if as_json and as_csv:
        raise PermanentError("--json and --csv exclude each other. Give one of them.")
    if limit is None and not (as_json or as_csv):
        limit = ROWS_SHOWN
    with run_query(_runtime(), statement, as_of) as result:
        every = chain.from_iterable(result.batches)
        rows = islice(every, limit)
        if as_json:
            write_json(result.columns, rows, sys.stdout)
        elif as_csv:
            write_csv(result.columns, rows, sys.stdout)
        elif list(result.columns) == EXPLAINED:
            print("\n".join(plan for _, plan in rows))
        else:
            write_table(result.columns, result.types, rows, sys.stdout)
        if limit is not None and next(every, None) is not None:
            _tell(f"cut after {limit} rows; --limit N shows more")


def tables(as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False) -> None:
    """List what can be queried: partitions, rows and newest publish of every table."""
    from etl_assets.cli.rows import write_table
    from etl_assets.published_tables import list_tables

    found = list_tables(_runtime())
    if as_json:
        print(json.dumps([t.as_json() for t in found], indent=2))
        return
    columns = ("table", "partitions", "rows", "newest publish", "columns", "location")
    types = ("VARCHAR", "BIGINT", "BIGINT", "VARCHAR", "BIGINT", "VARCHAR")
    rows = (
        (t.name, f"{t.partitions:,}", f"{t.rows:,}", f"{t.published_at:%Y-%m-%d %H:%M:%S}" if t.published_at else "—",
         t.columns, t.location)
        for t in found
    )  # fmt: skip
    write_table(columns, types, rows, sys.stdout)


def _runtime() -> "Runtime":
    from etl_assets.graph.runtime import Runtime
    from etl_assets.project import load_project

    return Runtime(load_project())


def _tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
