"""Reaching the ERP's Postgres: sessions, and its failures as errors that say what to do. No tables here."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from etl_resources.errors import DataPipelineError, PermanentError, SettingsError, TransientError

if TYPE_CHECKING:
    import psycopg

ADMIN_DSN = "ERP_ADMIN_DSN"
CONNECT_TIMEOUT_S = 10
_LOAD_OPTIONS = "-c synchronous_commit=off -c maintenance_work_mem=256MB -c statement_timeout=0"
_LOST_CONNECTION = (
    "terminating connection",
    "closed the connection",
    "no connection to",
    "Unable to connect",
)
"""How libpq says it inside an error of the loading engine, which has no class for it."""


def loading_conninfo(admin_dsn: str) -> str:
    """`admin_dsn` with the options of a bulk load: a crash loses the staging schema anyway."""
    from psycopg.conninfo import make_conninfo

    parts = _parts(admin_dsn)
    options = f"{parts.get('options', '')} {_LOAD_OPTIONS}".strip()
    return make_conninfo(admin_dsn, options=options, connect_timeout=parts.get("connect_timeout", CONNECT_TIMEOUT_S))


def server_name(admin_dsn: str) -> str:
    """host:port/database of `admin_dsn`, fit for messages: no user, no password."""
    parts = _parts(admin_dsn)
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    return f"{host}:{parts.get('port', 5432)}/{parts.get('dbname') or parts.get('user', '')}"


def connect(admin_dsn: str, *, autocommit: bool) -> "psycopg.Connection[tuple[Any, ...]]":
    """A session for DDL. Raises SettingsError naming ERP_ADMIN_DSN, host and port when it can't be opened."""
    import psycopg

    server = server_name(admin_dsn)
    try:
        return psycopg.connect(loading_conninfo(admin_dsn), autocommit=autocommit)
    except psycopg.Error as e:
        reason = without_password(str(e), admin_dsn)
    raise SettingsError(
        f"{ADMIN_DSN} doesn't open a session at {server}: {reason}. "
        "Check that the server runs there, and the user and password of the DSN."
    )


@contextmanager
def server_errors(admin_dsn: str) -> Iterator[None]:
    """Turns failures of Postgres or of the loading engine inside the block into this product's errors."""
    import duckdb
    import psycopg

    server = server_name(admin_dsn)
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as e:
        raise SettingsError(
            f"The user of {ADMIN_DSN} may not build the demo at {server}: {_line(e)}. "
            "Make it the owner of the database, or use a superuser."
        ) from e
    except (psycopg.Error, duckdb.Error) as e:
        raise _server_error(e, server, without_password(str(e), admin_dsn)) from None


def without_password(text: str, admin_dsn: str) -> str:
    """`text` on one line, without the password of `admin_dsn`, stack trace and closing mark."""
    password = _parts(admin_dsn).get("password")
    line = " ".join(text.partition("Stack Trace:")[0].split()).rstrip(".?")
    return line.replace(str(password), "***") if password else line


def _server_error(error: Exception, server: str, reason: str) -> DataPipelineError:
    import psycopg

    if isinstance(error, psycopg.errors.DiskFull) or "No space left on device" in reason:
        return PermanentError(
            f"The disk is full at {server}: {reason}. Nothing was published. "
            "Free some space or use a smaller scale, then run again."
        )
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return TransientError(
            f"Another session holds the demo's ERP at {server}: {reason}. Wait until it ends, then run again."
        )
    if isinstance(error, psycopg.OperationalError) or any(sign in reason for sign in _LOST_CONNECTION):
        return TransientError(f"The connection to {server} was lost: {reason}. Nothing was published: run again.")
    return PermanentError(f"Building the demo's ERP at {server} failed: {reason}. Nothing was published.")


def _parts(admin_dsn: str) -> dict[str, Any]:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        return dict(conninfo_to_dict(admin_dsn))
    except psycopg.ProgrammingError:  # its message quotes the DSN, password included
        pass
    raise SettingsError(f"{ADMIN_DSN} is not a Postgres DSN. Use postgresql://user:password@host:port/database.")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
