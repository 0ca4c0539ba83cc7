"""`data-pipeline lineage`: where a column comes from, and what is made of it."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from etl_assets.column_lineage import Column, ColumnLineage


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(lineage)


def lineage(
    column: Annotated[str, typer.Argument(help="E.g. kpi.kpi_net_revenue.net_revenue_eur or erp.orders.currency.")],
    downstream: Annotated[bool, typer.Option("--downstream", help="What is made of it instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the columns as JSON.")] = False,
) -> None:
    """Follow a column through all SQL to the systems of record, or to what is served. Touches no data."""
    from etl_assets.column_lineage import ColumnLineage
    from etl_assets.project import load_project

    columns = ColumnLineage(load_project())
    start = columns.column(column)
    if as_json:
        found = [_plain(columns, c) for c in _reached(columns, start, downstream)]
        direction = "downstream" if downstream else "upstream"
        print(json.dumps({"column": str(start), "direction": direction, "columns": found}, indent=2))
        return
    for line in drawing(columns, start, downstream=downstream):
        print(line)


def drawing(columns: "ColumnLineage", column: "Column", *, downstream: bool) -> Iterator[str]:
    """Lines of a column and below it what it is made of, or what is made of it; a repeated part only once."""
    return _tree(columns, column, downstream, "", "", set())


def _tree(
    columns: "ColumnLineage", column: "Column", downstream: bool, first: str, rest: str, seen: "set[Column]"
) -> Iterator[str]:
    made, following = columns.made(column), _next(columns, column, downstream)
    expression = f" = {made.expression}" if made.expression else ""
    repeated = column in seen and following
    hidden = f"  [sensitive: {mark}]" if (mark := columns.sensitive(column)) else ""
    yield f"{first}{column}{expression}{hidden}{'  (see above)' if repeated else ''}"
    for table, condition in {} if repeated else made.found_by.items():
        yield f"{rest}{'│  ' if following else '   '}{table} looked up: {condition}"
    seen.add(column)
    for i, other in enumerate(() if repeated else following):
        last = i == len(following) - 1
        yield from _tree(
            columns, other, downstream, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "), seen
        )


def _reached(columns: "ColumnLineage", start: "Column", downstream: bool) -> "list[Column]":
    """The column and all that it leads to, the nearest first."""
    found = {start: None}
    waiting = [start]
    for column in waiting:
        for other in _next(columns, column, downstream):
            if other not in found:
                found[other] = None
                waiting.append(other)
    return list(found)


def _next(columns: "ColumnLineage", column: "Column", downstream: bool) -> "tuple[Column, ...]":
    return columns.users(column) if downstream else columns.made(column).sources


def _plain(columns: "ColumnLineage", column: "Column") -> dict[str, Any]:
    made = columns.made(column)
    return {
        "column": str(column),
        "sources": [str(s) for s in made.sources],
        "expression": made.expression,
        "looked_up": dict(made.found_by),
        "sensitive": columns.sensitive(column),
    }
