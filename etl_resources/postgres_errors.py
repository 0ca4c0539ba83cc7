"""Postgres errors by SQLSTATE: of psycopg, of psycopg2 under SQLAlchemy (catalog, Dagster), and as text in DuckDB."""

import re

from etl_resources.errors import DataPipelineError, PermanentError, SettingsError, TransientError, UnknownCommitError

_TRANSIENT_CLASSES = {"08", "40", "53"}
_TRANSIENT = {
    "25006",  # the server is a standby: a fail-over is under way
    "55006",  # object in use
    "55P03",  # lock not available in time
    "57014",  # statement timed out, or was cancelled
    "57P01",  # administrator shut down
    "57P02",  # crash of another session
    "57P03",  # starting up
    "57P05",  # idle session
}
_UNKNOWN = {"08007", "40003"}
_SETTINGS_CLASSES = {"28", "3D"}
_PERMANENT = {
    "08P01",  # protocol violation
    "53100",  # disk full
    "53400",  # configured limit, such as temp_file_limit
}
_REFUSED = (
    *("authentication failed", "no password supplied", "no pg_hba.conf entry", "certificate verify failed"),
    *("server does not support SSL", "root certificate", "Name or service not known", "invalid sslmode"),
)
_REFUSED_NAME = re.compile(r'(database|role) "[^"]*" does not exist')
_TEXT_TRANSIENT = (
    *("server closed the connection", "terminating connection", "connection to server", "Connection refused"),
    *("the database system is", "could not receive data", "could not send data", "SSL SYSCALL", "SSL connection has"),
    *("invalid snapshot identifier", "could not import the requested snapshot", "deadlock detected", "lock timeout"),
    *("statement timeout", "no connection to the server", "could not serialize", "too many clients"),
    *("remaining connection slots", "snapshot too old", "timeout expired"),
)
_MODULE_OF_DUCKDB = ("Postgres", "postgres_", "libpq", "SSL SYSCALL", "connection to server at")


def sqlstate_of(error: BaseException | None) -> str | None:
    """The server's code; None when it gave none, as for a lost connection."""
    origin = getattr(error, "orig", None) or error
    return getattr(origin, "sqlstate", None) or getattr(origin, "pgcode", None)


def of_postgres(error: BaseException) -> DataPipelineError | None:
    """An error of psycopg, psycopg2 or SQLAlchemy as one of ours; None for a wrong call."""
    origin = getattr(error, "orig", None) or error
    name, text = type(origin).__name__, _first_line(origin)
    state = sqlstate_of(error)
    if type(origin).__module__ == "sqlite3" and name == "OperationalError":  # Dagster's storage before `up`
        return TransientError(f"SQLite: {text}")
    if state is not None:
        return _of_sqlstate(state, text)
    if type(error).__module__.startswith("sqlalchemy") and name == "TimeoutError":
        return TransientError(f"Postgres: no connection is free ({text}).")
    if name == "DagsterPostgresException":
        return of_postgres(error.__cause__) if error.__cause__ else TransientError(f"Dagster's storage: {text}")
    if name in ("OperationalError", "InterfaceError", "ConnectionTimeout", "PoolTimeout"):
        return of_postgres_text(str(origin))
    return None


def of_postgres_text(text: str) -> DataPipelineError:
    """A message without a code, such as libpq's of a failed connection, or DuckDB's of a statement."""
    line = _first_line_of(text)
    if any(mark in text for mark in _REFUSED) or _REFUSED_NAME.search(text):
        return SettingsError(f"Postgres refused the connection: {line}. Check the DSN: host, user, password, database.")
    if any(mark in text for mark in _TEXT_TRANSIENT) or not re.search(r"\bERROR:", text):
        return TransientError(f"Postgres: {line}")
    return PermanentError(f"Postgres: {line}")


def is_about_postgres(text: str) -> bool:
    """Whether a message of DuckDB is one of its Postgres reader."""
    return any(mark in text for mark in _MODULE_OF_DUCKDB)


def _of_sqlstate(state: str, text: str) -> DataPipelineError:
    if state in _UNKNOWN:
        return UnknownCommitError(f"Postgres: {text} [{state}]")
    if state[:2] in _SETTINGS_CLASSES:
        return SettingsError(f"Postgres: {text} [{state}]. Check the DSN: user, password, database.")
    if state in _TRANSIENT or (state[:2] in _TRANSIENT_CLASSES and state not in _PERMANENT):
        return TransientError(f"Postgres: {text} [{state}]")
    return PermanentError(f"Postgres: {text} [{state}]")


def _first_line(error: BaseException) -> str:
    return _first_line_of(str(error)) or type(error).__name__


def _first_line_of(text: str) -> str:
    return text.strip().partition("\n")[0].strip()
