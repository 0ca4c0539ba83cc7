"""Connections to Postgres with bounded waits and typed errors, and the ledger's versioned migrations."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any

from etl_resources.classify import answer_lost, classify
from etl_resources.errors import PermanentError, RestartError, SettingsError, TransientError
from etl_resources.retries import retry_transient

if TYPE_CHECKING:
    import psycopg

APPLICATION_NAME = "data-pipeline"
_MIGRATION_LOCK = 7_201_536_001


def connect(dsn: str, *, setting: str, timeout_s: int = 10, **options: Any) -> "psycopg.Connection[Any]":
    """An autocommit connection. Raises SettingsError or TransientError naming the setting, host and port only."""
    import psycopg

    try:
        return psycopg.connect(
            dsn,
            autocommit=True,
            connect_timeout=timeout_s,
            application_name=APPLICATION_NAME,
            keepalives_idle=30,
            **options,
        )
    except psycopg.OperationalError as e:
        raise _connection_error(dsn, setting, e) from e
    except psycopg.ProgrammingError as e:
        raise SettingsError(f"{setting} is not a valid Postgres DSN: postgresql://user:password@host:port/db.") from e


def connect_again(dsn: str, *, setting: str, timeout_s: int = 10, **options: Any) -> "psycopg.Connection[Any]":
    """As connect, tried again while the server is away or starting."""
    return retry_transient(lambda: connect(dsn, setting=setting, timeout_s=timeout_s, **options), setting)


@contextmanager
def typed_errors(what: str) -> Iterator[None]:
    """Turn psycopg's errors into ours. A lost session asks for a new start: what it held and locked is gone."""
    import psycopg

    try:
        yield
    except psycopg.errors.DiskFull as e:
        raise PermanentError(f"{what}: the database's disk is full. Free space and run again.") from e
    except psycopg.Error as e:
        kind = RestartError if answer_lost(e) else type(classify(e) or PermanentError())
        raise kind(f"{what}: {_first_line(e)}") from e


def migrate(connection: "psycopg.Connection[Any]") -> list[str]:
    """Apply the migrations that are missing, each in its transaction. Names of those applied.

    Raises PermanentError when an applied migration was edited afterwards.
    """
    files = sorted(
        (f for f in resources.files("etl_resources.ledger").joinpath("migrations").iterdir()),
        key=lambda f: f.name,
    )
    wanted = {f.name: f.read_text() for f in files if f.name.endswith(".sql")}
    known = _applied(connection)
    if known is not None and set(known) >= set(wanted):
        _prove_unchanged(known, wanted)
        return []
    connection.execute("select pg_advisory_lock(%s)", (_MIGRATION_LOCK,))
    try:
        connection.execute("create schema if not exists etl")
        connection.execute(
            "create table if not exists etl.migrations "
            "(name text primary key, sha256 text not null, applied_at timestamptz not null default now())"
        )
        known = _applied(connection) or {}
        _prove_unchanged(known, wanted)
        missing = [name for name in wanted if name not in known]
        for name in missing:
            with connection.transaction():
                connection.execute(wanted[name].encode())
                connection.execute(
                    "insert into etl.migrations (name, sha256) values (%s, %s)", (name, _digest(wanted[name]))
                )
        return missing
    finally:
        connection.execute("select pg_advisory_unlock(%s)", (_MIGRATION_LOCK,))


def _applied(connection: "psycopg.Connection[Any]") -> dict[str, str] | None:
    exists = connection.execute("select to_regclass('etl.migrations')").fetchone()
    if exists is None or exists[0] is None:
        return None
    return dict(connection.execute("select name, sha256 from etl.migrations").fetchall())


def _prove_unchanged(known: dict[str, str], wanted: dict[str, str]) -> None:
    for name, digest in known.items():
        if name in wanted and _digest(wanted[name]) != digest:
            raise PermanentError(f"Ledger migration {name} was changed after it was applied. Add a new one instead.")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _connection_error(dsn: str, setting: str, error: Exception) -> Exception:
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(dsn)
    where = f"{parts.get('host') or 'localhost'}:{parts.get('port') or 5432}/{parts.get('dbname') or ''}"
    if isinstance(classify(error), SettingsError):
        reason = f"Check user, password, database and TLS ({_reason(error)})."
        return SettingsError(f"{setting}: {where} refused user {parts.get('user')!r}. {reason}")
    return TransientError(f"{setting}: no connection to {where} ({_first_line(error)}). Is the server running?")


def _reason(error: Exception) -> str:
    """Why the server, or libpq, said no: the end of a line that begins with the address."""
    line = _first_line(error)
    return line.rpartition("FATAL:")[2].strip() if "FATAL:" in line else line


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
