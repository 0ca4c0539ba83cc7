"""Connections to the database of serving tables that one step uses again and again."""

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from etl_resources.ledger.connection import connect_again
from etl_resources.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg


@contextmanager
def closing_all() -> "Iterator[list[psycopg.Connection[Any]]]":
    """A list for idle connections; those that are in it at the end are closed."""
    idle: list[psycopg.Connection[Any]] = []
    try:
        yield idle
    finally:
        for connection in idle:
            connection.close()


@contextmanager
def borrowed(settings: Settings, idle: "list[psycopg.Connection[Any]] | None") -> "Iterator[psycopg.Connection[Any]]":
    """An idle connection on which the server still answers, or a new one.

    It goes back to the idle ones; without such a list, and after any error, it is closed.
    """
    connection = _answering(idle) or _new(settings)
    try:
        yield connection
    except BaseException:
        connection.close()
        raise
    if idle is None:
        connection.close()
    else:
        idle.append(connection)


def _answering(idle: "list[psycopg.Connection[Any]] | None") -> "psycopg.Connection[Any] | None":
    import psycopg

    while idle:
        try:
            connection = idle.pop()
        except IndexError:  # the other writer took the last one since
            return None
        try:
            connection.execute("select")
        except psycopg.Error:
            connection.close()
        else:
            return connection
    return None


def _new(settings: Settings) -> "psycopg.Connection[Any]":
    connection = connect_again(
        settings.require_postgres(), setting="ETL_POSTGRES_DSN", timeout_s=settings.postgres_connect_timeout_s
    )
    connection.execute(f"set lock_timeout = '{settings.lock_timeout_s}s'")
    return connection
