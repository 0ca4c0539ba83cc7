"""What each column of a SELECT is made of: columns of the tables that it reads, and the expression over them.

Values are followed, through common table expressions, subqueries, windows and unions. What only chooses rows (joins,
filters) is no part of a column.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import Node, lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope
from sqlglot.schema import MappingSchema

from etl_resources.errors import PermanentError
from etl_resources.sql_check import Schema

DIALECT = "duckdb"
NODES_MAX = 2_000
"""Parts of an expression; a longer one stays as the outermost SELECT has it, over its common table expressions."""
EITHER = "either"
"""In an expression, as a function: what the parts of a union give."""

ColumnName = tuple[str, str]
"""Table as the SQL names it, and column."""


@dataclass(frozen=True)
class MadeColumn:
    """A column of the result."""

    sources: tuple[ColumnName, ...]
    """In order of name; none for a constant or a count of rows."""
    expression: str
    """Over the columns of those tables; with the table where the name alone could be of another."""


def made_columns(sql: str, schema: Schema) -> dict[str, MadeColumn]:
    """Each column of the result of one valid SELECT. schema: the tables that it reads.

    Raises PermanentError for SQL that the engine may understand and sqlglot can't follow.
    """
    known = MappingSchema(dialect=DIALECT)
    for table, columns in schema.items():
        known.add_table(table, dict.fromkeys(columns, "varchar"))
    query = qualify(
        sqlglot.parse_one(sql, dialect=DIALECT), dialect=DIALECT, schema=known,
        validate_qualify_columns=False, quote_identifiers=False, identify=False,
    )  # fmt: skip
    scope = build_scope(query)
    assert isinstance(scope, Scope)  # noqa: S101  (a SELECT has one)
    expressions = _Expressions()
    try:
        nodes = lineage(None, query, known, dialect=DIALECT, scope=scope, trim_selects=False, copy=False)
    except (SqlglotError, ValueError, RecursionError) as e:
        raise PermanentError(f"Its columns can't be followed: {e}") from e
    return {
        name: MadeColumn(
            tuple(sorted({s for s in _sources(node) if s[0] in schema})),  # no generated rows such as range()
            expressions.text(scope, name),
        )
        for name, node in nodes.items()
    }


def _sources(node: Node) -> Iterator[ColumnName]:
    for leaf in node.walk():
        if isinstance(leaf.expression, exp.Table):
            yield _table_name(leaf.expression), exp.to_column(leaf.name, dialect=DIALECT).name


def _table_name(table: exp.Table) -> str:
    return ".".join(part.name for part in table.parts)


class _Expressions:
    """Expressions of columns, with those of common table expressions put in their place."""

    def text(self, scope: Scope, name: str) -> str:
        try:
            found = self._column(scope, name)
        except _TooLongError:
            found = next(s for s in _selects(scope) if s.alias_or_name == name).unalias().copy()
        return _short(found).sql(dialect=DIALECT, comments=False)

    def _column(self, scope: Scope, name: str) -> exp.Expr:
        names = [s.alias_or_name for s in _selects(scope)]
        return self._nth(scope, names.index(name)) if name in names else exp.column(name)

    def _nth(self, scope: Scope, index: int) -> exp.Expr:
        """The expression of a column by its place, which is what the parts of a union share."""
        if scope.set_operation_scopes:
            return exp.Anonymous(this=EITHER, expressions=[self._nth(s, index) for s in scope.set_operation_scopes])
        if isinstance(scope.expression, exp.Subquery):
            return self._nth(scope.subquery_scopes[0], index)
        made = _selects(scope)[index].unalias().copy()
        if isinstance(made, exp.Subquery):
            made.set("alias", None)
        for column in list(made.find_all(exp.Column)):
            replaced = self._source(scope, column)
            if replaced is not None and column is made:
                made = replaced
            elif replaced is not None:
                column.replace(exp.paren(replaced) if isinstance(replaced, exp.Binary) else replaced)
        if sum(1 for _ in made.walk()) > NODES_MAX:
            raise _TooLongError
        return made

    def _source(self, scope: Scope, column: exp.Column) -> exp.Expr | None:
        source = scope.sources.get(column.table)
        if isinstance(source, Scope):
            return self._column(source, column.name)
        return exp.column(column.name, *reversed([p.name for p in source.parts])) if source else None


def _selects(scope: Scope) -> list[exp.Expr]:
    """Columns of a SELECT; none of what isn't one, such as a table function."""
    return scope.expression.selects if isinstance(scope.expression, exp.Selectable) else []


def _short(expression: exp.Expr) -> exp.Expr:
    """Columns without their table, where the expression has no other column of the name."""
    columns = list(expression.find_all(exp.Column))
    for column in columns:
        if all(_owner(other) == _owner(column) for other in columns if other.name == column.name):
            column.meta["short"] = True
    for column in columns:
        if column.meta.pop("short", False):
            column.set("table", None)
            column.set("db", None)
    return expression


def _owner(column: exp.Column) -> tuple[str, str]:
    return column.db, column.table


class _TooLongError(Exception):
    """The expression has more than NODES_MAX parts."""
