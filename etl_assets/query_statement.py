"""What `data-pipeline sql` accepts: one reading statement over named tables. Decided from the text alone.

The engine's own sandbox (etl_assets.query) is the second lock: no files, no other databases, no changed settings.
"""

import re
from dataclasses import dataclass

from sqlglot import Dialect, Token, exp
from sqlglot.errors import TokenError

from etl_resources.errors import PermanentError
from etl_resources.sql_check import parse_select, referenced_tables
from etl_resources.sql_functions import NON_DETERMINISTIC, forbidden_functions

PREFIXES = frozenset({"EXPLAIN", "ANALYZE", "DESCRIBE", "DESC", "SUMMARIZE", "SHOW"})
"""Words that may stand before a query or, as in DESCRIBE kpi.kpi_net_revenue, a table's name."""
LISTS = (["TABLES"], ["ALL", "TABLES"])
QUERY_WORDS = frozenset({"SELECT", "FROM", "WITH", "TABLE", "("})
_NAME = re.compile(r'\s*[\w".]+\s*')
_TABLE_FUNCTIONS = (exp.GenerateSeries,)
_NOT_READING = (exp.Into, exp.Lock, exp.Parameter, exp.Placeholder)
ALLOWED = "Allowed: one SELECT, FROM, WITH, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN"


class QueryRefusedError(PermanentError):
    """The statement does something else than reading the platform's tables."""


@dataclass(frozen=True)
class Statement:
    """A checked statement: the text to run, and the tables it names. `lists_tables`: there is nothing to run."""

    sql: str
    tables: tuple[str, ...] = ()
    lists_tables: bool = False


def check_statement(sql: str) -> Statement:
    """The statement, if it only reads tables. Raises QueryRefusedError saying what is refused and what is allowed."""
    body = sql = _without_end(sql)
    words: list[str] = []
    while (token := next(iter(_tokens(body)), None)) and token.text.upper() in PREFIXES:
        words.append(token.text.upper())
        body = body[token.end + 1 :]  # read anew: sqlglot takes what follows EXPLAIN as one string
    if words == ["SHOW"] and body.split() and body.upper().split() in LISTS:
        return Statement(sql, lists_tables=True)
    query = _parse(f"from {body}" if words and _NAME.fullmatch(body) else body)
    _refuse_forbidden(query, body)
    return Statement(sql, tuple(r.name for r in referenced_tables(query)))


def _tokens(sql: str) -> list[Token]:
    try:
        return Dialect.get_or_raise("duckdb").tokenize(sql)
    except TokenError as e:
        raise QueryRefusedError(f"The statement can't be read: {e}. {ALLOWED}.") from e


def _without_end(sql: str) -> str:
    tokens = _tokens(sql)
    if tokens and tokens[-1].text == ";":
        return sql[: tokens[-1].start]
    return sql


def _parse(body: str) -> exp.Query:
    tokens = _tokens(body)
    if not tokens:
        raise QueryRefusedError(f"There is no statement to run. {ALLOWED}.")
    if tokens[0].text.upper() not in QUERY_WORDS:
        raise QueryRefusedError(f"{tokens[0].text.upper()} isn't allowed. {ALLOWED}.")
    query, problems = parse_select(body)
    if query is None:
        raise QueryRefusedError(f"{'; '.join(p.message for p in problems)}. {ALLOWED}.")
    return query


def _refuse_forbidden(query: exp.Query, body: str) -> None:
    refused = [f.name for f in forbidden_functions(body, "duckdb") if f.name not in NON_DETERMINISTIC]
    refused += [type(n).__name__.upper() for n in query.find_all(*_NOT_READING)]
    refused += [
        table.this.sql("duckdb")
        for table in query.find_all(exp.Table)
        if not isinstance(table.this, (exp.Identifier, *_TABLE_FUNCTIONS)) and not refused
    ]
    if refused:
        names = ", ".join(dict.fromkeys(refused))
        raise QueryRefusedError(f"{names} isn't allowed: a query reads the platform's tables only. {ALLOWED}.")
