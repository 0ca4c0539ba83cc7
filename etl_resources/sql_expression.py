"""Reads a boolean SQL expression over one row's columns, without running it."""

import re
from collections.abc import Collection, Iterator

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError

from etl_resources.sql_functions import forbidden_functions
from etl_resources.suggest import hint

_NOT_OF_ONE_ROW = {
    exp.Query: "a subquery",
    exp.AggFunc: "an aggregate",
    exp.Window: "a window",
    exp.Star: "a star",
    exp.Unnest: "unnest",
    exp.Parameter: "a parameter",
    exp.Placeholder: "a parameter",
}


def expression_problems(text: str, columns: Collection[str]) -> Iterator[str]:
    """What is wrong in an expression: it must judge one row by these columns and nothing else."""
    try:
        parsed = [s for s in sqlglot.parse(text, dialect="duckdb") if s is not None]
    except (ParseError, TokenError) as e:
        reason = re.sub(r"<class '[\w.]*?(\w+)'>", r"\1", str(e).splitlines()[0])
        yield f"can't be read as DuckDB's SQL: {reason}"
        return
    if len(parsed) != 1 or not isinstance(parsed[0], exp.Condition):
        yield "must be one expression that is true or false, e.g. ship_date >= order_date"
        return
    for kind, name in _NOT_OF_ONE_ROW.items():
        if parsed[0].find(kind):
            yield f"{name} can't be used: a rule judges one row by its own columns"
    yield from (f.message for f in forbidden_functions(text, "duckdb"))
    for column in parsed[0].find_all(exp.Column):
        if column.table:
            yield f"{column.sql()!r} names a table; write the column alone"
        elif column.name.lower() not in columns:
            yield f"unknown column {column.name!r}; {hint(column.name.lower(), columns)}"
    if not parsed[0].find(exp.Column):
        yield "reads no column"
