"""Databases of a test's own on the stack's server."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from etl_resources.settings import load_settings, resolve_secret


@contextmanager
def new_databases(prefix: str) -> Iterator[Callable[[], str]]:
    """Makes empty databases on the stack's server, owned by the ERP's admin, and drops them; gives their DSNs."""
    server, admin = server_dsn(), resolve_secret("env:ERP_ADMIN_DSN")
    owner = conninfo_to_dict(admin)["user"]
    names: list[str] = []

    def create() -> str:
        names.append(f"{prefix}_{uuid4().hex[:12]}")
        query(server, f'create database {names[-1]} owner "{owner}"')
        return make_conninfo(admin, dbname=names[-1])

    yield create
    for name in names:
        query(server, f"drop database {name} with (force)")


def server_dsn() -> str:
    """A role that may create databases: the embedded server's superuser, else the ERP's admin."""
    from etl_resources.stack.provision import SUPERUSER, dsn
    from etl_resources.stack.state import load

    record = load(load_settings().home).servers.get("postgres")
    if record is not None and SUPERUSER in record.secrets:
        return dsn(record, SUPERUSER, "postgres")
    admin = resolve_secret("env:ERP_ADMIN_DSN")
    parts = {k: v for k, v in conninfo_to_dict(admin).items() if k != "dbname"}
    return make_conninfo(make_conninfo("", **parts), dbname="postgres")


def query(dsn: str, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Rows of one statement, in its own connection."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(sql.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []
