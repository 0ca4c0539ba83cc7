"""Roles, databases and rights inside the embedded Postgres. Every statement may run again."""

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from etl_resources.stack.ports import LOOPBACK
from etl_resources.stack.state import ServerRecord

if TYPE_CHECKING:
    import psycopg

SUPERUSER = "etl_superuser"
PLATFORM_ROLE, PLATFORM_DATABASE = "etl", "platform"
"""Ledger, Iceberg catalog, Dagster's storage and the serving schema."""
ERP_ADMIN_ROLE, ERP_READER_ROLE, ERP_DATABASE = "erp_admin", "erp_reader", "erp"
"""The system of record that demos and tests play; sources read it as the reader."""
DATABASE_ROLES = {
    PLATFORM_ROLE: PLATFORM_DATABASE,
    ERP_ADMIN_ROLE: ERP_DATABASE,
    ERP_READER_ROLE: ERP_DATABASE,
}


def dsn(record: ServerRecord, role: str, database: str) -> str:
    """The address of a role with its password."""
    password = quote(record.secrets[role], safe="")
    return f"postgresql://{role}:{password}@{LOOPBACK}:{record.ports['sql']}/{database}"


def provision(connection: "psycopg.Connection[Any]", record: ServerRecord) -> None:
    """Make what is missing and set every password to the recorded one. `connection` is the superuser's."""
    for role in DATABASE_ROLES:
        _make_role(connection, role, record.secrets[role])
    connection.execute(f"ALTER ROLE {ERP_READER_ROLE} SET default_transaction_read_only = on")
    # watermarks need min(xact_start) of all sessions
    connection.execute(f"GRANT pg_read_all_stats TO {ERP_READER_ROLE}")
    for database, owner in ((PLATFORM_DATABASE, PLATFORM_ROLE), (ERP_DATABASE, ERP_ADMIN_ROLE)):
        _make_database(connection, database, owner)
    connection.execute(f"GRANT CONNECT ON DATABASE {ERP_DATABASE} TO {ERP_READER_ROLE}")
    _grant_future_tables(record)


def _make_role(connection: "psycopg.Connection[Any]", role: str, password: str) -> None:
    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
        connection.execute(f"CREATE ROLE {role} LOGIN")
    # the verifier is computed here, so the password is in no statement and no server log
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    connection.execute(f"ALTER ROLE {role} LOGIN PASSWORD '{verifier}'")


def _make_database(connection: "psycopg.Connection[Any]", database: str, owner: str) -> None:
    if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
        connection.execute(f"CREATE DATABASE {database} OWNER {owner}")
    connection.execute(f"ALTER DATABASE {database} OWNER TO {owner}")
    connection.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")


def _grant_future_tables(record: ServerRecord) -> None:
    """The reader sees everything that the admin creates, also in a schema that is dropped and made again."""
    from etl_resources.ledger.connection import connect

    with connect(dsn(record, SUPERUSER, ERP_DATABASE), setting="embedded Postgres", timeout_s=5) as erp:
        future = f"ALTER DEFAULT PRIVILEGES FOR ROLE {ERP_ADMIN_ROLE}"
        for rights in ("USAGE ON SCHEMAS", "SELECT ON TABLES", "SELECT ON SEQUENCES"):
            erp.execute(f"{future} GRANT {rights} TO {ERP_READER_ROLE}")
