"""A transform's SQL as Spark says it: the same rows, or a refusal that names what doesn't carry over.

sqlglot translates words; what the two engines mean by them is decided in spark_constructs: a construct is listed there
because a test compares the content hashes of both engines, and what isn't listed is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.schema import MappingSchema

from etl_resources.engines.spark_constructs import refusals
from etl_resources.engines.spark_rewrites import rewritten
from etl_resources.errors import PermanentError
from etl_resources.identifiers import quote
from etl_resources.sql_check import SqlProblem, parse_select
from etl_resources.tables.schema import duckdb_type

Relations = Mapping[str, Mapping[str, str]]
"""Relation in SQL ("silver.sales_orders") → its columns → their manifest types."""
_CONDITION = "rows"


@dataclass(frozen=True)
class SparkSql:
    """A statement in Spark's SQL; `problems` instead of it where something doesn't carry over."""

    text: str
    problems: tuple[SqlProblem, ...] = ()


def spark_view(relation: str) -> str:
    """Temporary view of a relation: silver.sales_orders → silver__sales_orders, as views have no schema in Spark."""
    return relation.replace(".", "__")


def portability_problems(sql: str, relations: Relations) -> tuple[SqlProblem, ...]:
    """What of one SELECT doesn't carry over. Nothing is computed; relations: those that it reads."""
    found = _typed(sql, relations)
    return found if isinstance(found, tuple) else tuple(refusals(found))


def to_spark(sql: str, relations: Relations) -> SparkSql:
    """One SELECT in DuckDB's dialect that reads these relations, reading their views instead."""
    typed = _typed(sql, relations)
    problems = typed if isinstance(typed, tuple) else tuple(refusals(typed))
    if isinstance(typed, tuple) or problems:
        return SparkSql("", problems)
    written = rewritten(typed)
    for table in written.find_all(exp.Table):
        if table.db:
            table.set("this", exp.to_identifier(spark_view(f"{table.db}.{table.name}"), quoted=True))
            table.set("db", None)
    return SparkSql(written.sql(dialect="spark", comments=False))


def _typed(sql: str, relations: Relations) -> exp.Expr | tuple[SqlProblem, ...]:
    """The statement with every column's table and every expression's type; or why there is none."""
    query, problems = parse_select(sql)
    if query is None:
        return problems
    schema = MappingSchema(dialect="duckdb", normalize=False)
    for name, columns in relations.items():
        schema.add_table(name, {c: duckdb_type(t) for c, t in columns.items()})
    try:
        qualified = qualify(
            query.copy(), dialect="duckdb", schema=schema, validate_qualify_columns=False, quote_identifiers=False
        )
        return annotate_types(qualified, schema=schema, dialect="duckdb", expression_metadata=_metadata())
    except SqlglotError as e:
        return (SqlProblem(f"can't be carried over to Spark: {e}", 1),)


def spark_condition(expression: str, columns: Mapping[str, str], what: str) -> str:
    """A condition or value over columns (name → manifest type), in Spark's SQL.

    Raises PermanentError, beginning with `what`, where something doesn't carry over.
    """
    found = to_spark(f"select ({expression}\n) as c from {_CONDITION}", {_CONDITION: columns})
    if found.problems:
        raise PermanentError(f"{what} can't be computed by Spark: {found.problems[0].message}.")
    query = parse_spark(found.text)
    for column in query.find_all(exp.Column):
        column.set("table", None)
    return f"({query.selects[0].unalias().sql(dialect='spark')})"


def parse_spark(text: str) -> exp.Query:
    """What was translated, as a tree."""
    import sqlglot

    query = sqlglot.parse_one(text, dialect="spark")
    assert isinstance(query, exp.Query)  # noqa: S101  (it was one)
    return query


def spark_literal(value: str) -> str:
    """A quoted string of Spark, in which a backslash begins an escape."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def spark_type(column_type: str) -> str:
    """Spark's name of a manifest type, as DataFrame.dtypes shows it."""
    return {"timestamptz": "timestamp"}.get(column_type, column_type)


def duckdb_type_of(spark: str) -> str:
    """DuckDB's name of a type of Spark: what a transform gave is judged by one vocabulary."""
    named = {
        "timestamp": "TIMESTAMP WITH TIME ZONE",
        "string": "VARCHAR",
        "int": "INTEGER",
        "timestamp_ntz": "TIMESTAMP",
    }
    return named.get(spark, spark.upper())


def spark_columns(columns: Mapping[str, str], given: Mapping[str, str | None] | None = None) -> str:
    """Select items that give a table's columns their types. given: column → its name there, None: it isn't there."""
    items = []
    for name, kind in columns.items():
        there = given.get(name) if given is not None else name
        value = "null" if there is None else quote(there)
        items.append(f"cast({value} as {spark_type(kind)}) as {quote(name)}")
    return ", ".join(items)


def _metadata() -> dict[Any, Any]:
    """sqlglot's knowledge of types, where DuckDB's decimals need more of it."""

    def as_argument(self: Any, node: exp.Expr) -> exp.Expr:
        self._set_type(node, node.this.type)
        return node

    def number(self: Any, node: exp.Expr) -> exp.Expr:
        kind = "VARCHAR" if node.is_string else "INT" if node.is_int else "DOUBLE" if "e" in node.name.lower() else None
        self._set_type(node, exp.DataType.build(kind or "DECIMAL", dialect="duckdb"))
        return node

    own: dict[Any, Any] = {exp.Literal: {"annotator": number}}
    own |= {c: {"annotator": as_argument} for c in (exp.Round, exp.Floor, exp.Ceil, exp.ArgMax, exp.ArgMin)}
    own |= {c: {"returns": exp.DataType.Type.VARCHAR} for c in (exp.Left, exp.Right, exp.Replace, exp.RegexpReplace)}
    return {**DuckDB.EXPRESSION_METADATA, **own}
