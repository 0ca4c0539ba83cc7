"""Reads SQL without running it: one read-only SELECT, the tables that it names, the columns that it gives.

Which tables and columns are right is for the caller to say (etl_assets.project_sql_checks).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import OptimizeError, ParseError, TokenError
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.qualify_tables import qualify_tables
from sqlglot.optimizer.scope import Scope, traverse_scope
from sqlglot.schema import MappingSchema

from etl_resources.sql_functions import forbidden_functions
from etl_resources.suggest import hint

Schema = Mapping[str, tuple[str, ...]]
"""Columns by table ("silver.sales_orders"), all in lower case, as a manifest's names are."""
REMEMBERED_TEXTS = 256
"""Statements whose reading is remembered: those of a large project."""

CONTROL_PARAMETERS = ("start", "end")
_NOT_READING = (
    exp.Insert,
    exp.Update,
    exp.Delete,
    exp.Merge,
    exp.Create,
    exp.Drop,
    exp.Command,
    exp.Copy,
    exp.Pragma,
    exp.Attach,
    exp.Set,
    exp.Into,
    exp.Lock,
    exp.Describe,
    exp.Summarize,
    exp.Show,
    exp.TableSample,
    exp.Parameter,
    exp.Placeholder,
)
_PARAMETER = re.compile(r"%(?:%|\((\w*)\)s)?")
_TABLE_FUNCTIONS = (exp.GenerateSeries,)


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


@dataclass(frozen=True)
class OutputColumn:
    """A column of a statement's result, "" without a name, with its line."""

    name: str
    line: int


@lru_cache(maxsize=REMEMBERED_TEXTS)
def parse_select(sql: str, dialect: str = "duckdb") -> tuple[exp.Query | None, tuple[SqlProblem, ...]]:
    """The statement of a text that is one SELECT; None, and why, for anything else.

    Remembered, so that a project is read again in a fraction of the time: who changes the statement copies it before.
    """
    try:
        statements = [s for s in sqlglot.parse(sql, dialect=dialect) if s is not None]
    except ParseError as e:
        return None, tuple(_parse_problem(x) for x in e.errors)
    except TokenError as e:
        return None, (SqlProblem(f"can't be read as {dialect} SQL: {e}", 1),)
    if len(statements) != 1:
        return None, (SqlProblem(f"{len(statements)} statements, must be exactly one SELECT", 1),)
    statement = statements[0]
    if not isinstance(statement.unnest(), (exp.Select, exp.SetOperation)):
        kind = type(statement).__name__.upper()
        return None, (SqlProblem(f"this is {kind}, must be exactly one SELECT", line_of(statement)),)
    assert isinstance(statement, exp.Query)  # noqa: S101  (narrowed above)
    return statement, ()


def parse_control(sql: str) -> tuple[exp.Query | None, list[SqlProblem]]:
    """A SELECT for Postgres with the parameters %(start)s and %(end)s, as psycopg reads them."""
    problems, used = [], set()
    for found in _PARAMETER.finditer(sql):
        line = sql.count("\n", 0, found.start()) + 1
        used.add(found[1])
        if found[0] == "%":
            problems.append(SqlProblem("a lone % must be written %%: % begins a parameter", line))
        elif found[1] not in (None, *CONTROL_PARAMETERS):
            problems.append(SqlProblem(f"unknown parameter {found[0]}; valid: %(start)s, %(end)s", line))
    missing = [f"%({p})s" for p in CONTROL_PARAMETERS if p not in used]
    if missing:
        problems.append(SqlProblem(f"doesn't use {' and '.join(missing)}: it must be limited to one period", 1))
    literal = _PARAMETER.sub(lambda m: "%" if m[0] in ("%", "%%") else "DATE '2000-01-01'", sql)
    query, errors = parse_select(literal, "postgres")
    return query, [*problems, *errors]


def read_only_problems(query: exp.Query, sql: str, dialect: str = "duckdb") -> list[SqlProblem]:
    """What a SELECT does beyond reading its tables: writing, reading outside, being different each time."""
    problems = [
        SqlProblem(f"{type(n).__name__.upper()} isn't allowed: a transform only reads tables", line_of(n))
        for n in query.find_all(*_NOT_READING)
    ]
    named = forbidden_functions(sql, dialect)
    problems += [SqlProblem(f.message, f.line) for f in named]
    lines = {f.line for f in named}
    for table in query.find_all(exp.Table):
        if not isinstance(table.this, (exp.Identifier, *_TABLE_FUNCTIONS)) and line_of(table) not in lines:
            message = "reads from a function; valid: tables, range, generate_series, unnest"
            problems.append(SqlProblem(message, line_of(table)))
    return problems


def referenced_tables(query: exp.Query) -> tuple[TableReference, ...]:
    """Tables that are read and are not common table expressions, in order of first use."""
    local = {cte.alias_or_name.lower() for cte in query.find_all(exp.CTE)}
    found: dict[str, TableReference] = {}
    tables = [t for t in query.find_all(exp.Table) if isinstance(t.this, exp.Identifier)]
    for table in sorted(tables, key=lambda t: t.this.meta.get("start", 0)):
        name = ".".join(part.name.lower() for part in table.parts)
        if table.db or name not in local:
            found.setdefault(name, TableReference(name, line_of(table)))
    return tuple(found.values())


def output_columns(query: exp.Query) -> tuple[OutputColumn, ...]:
    """The result's columns as far as the text itself names them; "*" for a star."""
    return tuple(OutputColumn(s.output_name.lower() or "", line_of(s)) for s in query.selects)


def resolve_columns(sql: str, schema: Schema) -> tuple[tuple[OutputColumn, ...], tuple[SqlProblem, ...]]:
    """The result's columns, stars expanded, and every column in the statement that no table has.

    sql: one SELECT. schema: the tables that it names. Remembered for each text and its columns, as it is slow.
    """
    return _resolve_columns(sql, tuple(schema.items()))


@lru_cache(maxsize=REMEMBERED_TEXTS)
def _resolve_columns(
    sql: str, tables: tuple[tuple[str, tuple[str, ...]], ...]
) -> tuple[tuple[OutputColumn, ...], tuple[SqlProblem, ...]]:
    query, problems = parse_select(sql)
    if query is None:
        return (), problems
    schema = dict(tables)
    normal = qualify_tables(normalize_identifiers(query.copy(), dialect="duckdb"), dialect="duckdb")
    unknown = [p for scope in traverse_scope(normal) for p in _unknown_qualified(scope, schema)]
    if unknown:
        return (), tuple(dict.fromkeys(unknown))
    try:
        qualified = qualify(
            normal,
            dialect="duckdb",
            schema=_mapping_schema(schema),
            validate_qualify_columns=False,
            quote_identifiers=False,
        )
    except OptimizeError as e:
        return (), (SqlProblem(str(e), 1),)
    assert isinstance(qualified, exp.Query)  # noqa: S101  (qualify keeps the kind)
    unknown = [p for scope in traverse_scope(qualified) for p in _unknown_unqualified(scope, schema)]
    return _named(query, qualified), tuple(unknown)


def _mapping_schema(schema: Schema) -> MappingSchema:
    """As sqlglot wants it: schema, table, column, type, the last of which nothing asks for."""
    nested: dict[str, object] = {}
    for name, columns in schema.items():
        place, _, table = name.partition(".")
        tables = nested.setdefault(place, {})
        assert isinstance(tables, dict)  # noqa: S101  (made above)
        tables[table] = dict.fromkeys(columns, "varchar")
    return MappingSchema(nested, dialect="duckdb", normalize=False)


def _named(query: exp.Query, qualified: exp.Query) -> tuple[OutputColumn, ...]:
    """Names from the qualified statement, lines from the written one, unless a star made more of them."""
    written = output_columns(query)
    if len(written) == len(qualified.selects):
        lines = [w.line for w in written]
        unnamed = [not w.name for w in written]
    else:
        lines = [min((w.line for w in written), default=1)] * len(qualified.selects)
        unnamed = [False] * len(qualified.selects)
    names = ["" if no_name else s.output_name for s, no_name in zip(qualified.selects, unnamed, strict=True)]
    return tuple(OutputColumn(n, line) for n, line in zip(names, lines, strict=True))


def _unknown_qualified(scope: Scope, schema: Schema) -> Iterator[SqlProblem]:
    """`o.colum` where the table behind `o` has no such column."""
    for column in scope.columns:
        source = scope.sources.get(column.table) if column.table else None
        valid = _columns_of(source, schema)
        if valid and column.name not in valid:
            message = f"unknown column {column.sql()!r}; {hint(column.name, valid)}"
            yield SqlProblem(message, line_of(column))


def _unknown_unqualified(scope: Scope, schema: Schema) -> Iterator[SqlProblem]:
    """`colum`, or `x.column` where nothing is called x; a subquery's own are reported by what encloses it."""
    if scope.is_subquery or scope.is_udtf or not isinstance(scope.expression, exp.Select):
        return
    aliases = {alias: _columns_of(source, schema) for alias, source in scope.sources.items()}
    for column in scope.external_columns:
        line = line_of(column)
        if column.table:
            message = f"unknown table {column.table!r} in {column.sql()!r}"
            yield SqlProblem(f"{message}; {hint(column.table, aliases)}", line)
            continue
        owners = [f"{alias}.{column.name}" for alias, names in aliases.items() if column.name in names]
        if len(owners) > 1:
            yield SqlProblem(f"column {column.name!r} is ambiguous; valid: {', '.join(owners)}", line)
        else:
            valid = dict.fromkeys(name for names in aliases.values() for name in names)
            yield SqlProblem(f"unknown column {column.name!r}; {hint(column.name, valid)}", line)


def _columns_of(source: object, schema: Schema) -> tuple[str, ...]:
    """Columns of a table or subquery; () where they aren't known."""
    if isinstance(source, exp.Table):
        return tuple(schema.get(".".join(part.name for part in source.parts), ()))
    if isinstance(source, Scope) and isinstance(source.expression, exp.Query):
        aliases = list(source.outer_columns)
        names = aliases or source.expression.named_selects
        return () if "*" in names or source.expression.is_star else tuple(n for n in names if n)
    return ()


def _parse_problem(error: dict[str, object]) -> SqlProblem:
    description = re.sub(r"<class '[\w.]*?(\w+)'>", r"\1", str(error["description"]))
    description = re.sub(r" but got <Token .*>", "", description)
    line = error["line"] if isinstance(error["line"], int) else 1
    return SqlProblem(f"column {error['col']}: {description} near {str(error['highlight'])!r}", line)


def line_of(node: exp.Expr) -> int:
    """First line that the node or what is in it was read from."""
    lines = (n.meta["line"] for n in node.walk() if "line" in n.meta)
    below = min(lines, default=0)
    if below or node.parent is None:
        return below or 1
    return line_of(node.parent)
