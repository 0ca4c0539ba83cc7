"""Functions that a transform may not call: what they read isn't in its inputs, or differs at every call.

Looked for in the tokens, so that no way of writing a call escapes: x(), "x"(), main.x(), y.x().
"""

from dataclasses import dataclass
from functools import lru_cache

from sqlglot import Dialect, Token, TokenType

OUTSIDE_PREFIXES = (
    "read_",
    "iceberg_",
    "delta_",
    "postgres_",
    "sqlite_",
    "mysql_",
    "duckdb_",
    "pragma_",
    "parquet_",
    "arrow_",
    "pg_",
    "dblink",
    "lo_",
)
OUTSIDE = frozenset(
    {
        "glob",
        "sniff_csv",
        "getenv",
        "getvariable",
        "query",
        "query_table",
        "query_to_xml",
        "table_to_xml",
        "current_setting",
        "set_config",
        "nextval",
        "setval",
        "currval",
        "lastval",
        "which_secret",
        "st_read",
        "seq_scan",
        "attach",
        "copy",
    }
)
NON_DETERMINISTIC = frozenset(
    {
        "random",
        "rand",
        "setseed",
        "uuid",
        "uuidv4",
        "uuidv7",
        "gen_random_uuid",
        "now",
        "today",
        "current_date",
        "current_time",
        "current_timestamp",
        "current_localtime",
        "current_localtimestamp",
        "localtime",
        "localtimestamp",
        "get_current_time",
        "get_current_timestamp",
        "transaction_timestamp",
        "statement_timestamp",
        "clock_timestamp",
        "timeofday",
        "txid_current",
        "current_user",
        "session_user",
        "current_database",
        "current_schema",
        "version",
    }
)
WITHOUT_PARENTHESES = frozenset(
    {
        TokenType.CURRENT_DATE,
        TokenType.CURRENT_TIME,
        TokenType.CURRENT_TIMESTAMP,
        TokenType.CURRENT_USER,
        TokenType.CURRENT_DATETIME,
        TokenType.LOCALTIME,
        TokenType.LOCALTIMESTAMP,
    }
)


@dataclass(frozen=True)
class ForbiddenFunction:
    """A call that isn't allowed, with its line."""

    name: str
    line: int
    message: str


@lru_cache(maxsize=256)
def forbidden_functions(sql: str, dialect: str) -> tuple[ForbiddenFunction, ...]:
    """All forbidden calls of a text, in its order; remembered by text."""
    tokens = Dialect.get_or_raise(dialect).tokenize(sql)
    found = []
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        name = token.text.lower()
        message = _why(name) if _is_call(token, following) else None
        if message:
            found.append(ForbiddenFunction(name, token.line, message))
    return tuple(found)


def _is_call(token: Token, following: Token | None) -> bool:
    if token.token_type in WITHOUT_PARENTHESES:
        return True
    if token.token_type == TokenType.STRING:
        return False
    return following is not None and following.token_type == TokenType.L_PAREN


def _why(name: str) -> str | None:
    if name in NON_DETERMINISTIC:
        return f"{name} isn't allowed: it differs at every run, so a rerun would not give the same rows"
    if name in OUTSIDE or name.startswith(OUTSIDE_PREFIXES):
        return f"{name} isn't allowed: a transform reads only tables such as silver.orders"
    return None
