"""Reads SQL without running it: one read-only SELECT, the tables that it names, the columns that it gives.

Which tables and columns are right is for the caller to say (etl_assets.project_checks).
"""

from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError


@dataclass(frozen=True)
class SqlProblem:
    """What is wrong, on which line of the text, counted from 1."""

    message: str
    line: int


@dataclass(frozen=True)
class TableReference:
    """A table that a statement reads, as written, with the line of its first use."""

    name: str
    line: int


def parse_select(sql: str, dialect: str = "duckdb") -> tuple[exp.Query | None, list[SqlProblem]]:
    """The statement of a text that is one SELECT; else None and what is wrong with it."""
    try:
        statements = [s for s in sqlglot.parse(sql, dialect=dialect) if s is not None]
    except ParseError as e:
        return None, [
            SqlProblem(f"column {x['col']}: {x['description']} near {x['highlight']!r}", x["line"] or 1)
            for x in e.errors
        ]
    except TokenError as e:
        return None, [SqlProblem(str(e), 1)]
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        return None, [SqlProblem("must be exactly one SELECT", 1)]
    return statements[0], []


def referenced_tables(query: exp.Query) -> tuple[TableReference, ...]:
    """Tables that are read and are not common table expressions, in order of first use."""
    local = {cte.alias_or_name for cte in query.find_all(exp.CTE)}
    found: dict[str, TableReference] = {}
    tables = [t for t in query.find_all(exp.Table) if isinstance(t.this, exp.Identifier)]
    for table in sorted(tables, key=lambda t: t.this.meta.get("start", 0)):
        name = ".".join(part.name for part in table.parts)
        if table.db or name not in local:
            found.setdefault(name, TableReference(name, table.this.meta.get("line", 1)))
    return tuple(found.values())
