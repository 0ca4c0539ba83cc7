"""The content hash in Postgres equals the one in DuckDB: how a served table is verified without moving its rows."""

from collections.abc import Iterator
from typing import Any

import duckdb
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl_resources.contract import Contract, ContractColumn
from etl_resources.ledger.connection import connect
from etl_resources.quality.content_hash import content_hash
from etl_resources.settings import load_settings
from etl_resources.tables.schema import postgres_type
from tests.property.test_content_hash import CONTRACT, ROWS, Row, reference

DDL = ", ".join(f'"{c.name}" {postgres_type(c.type)}' for c in CONTRACT.columns)
Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def table(stack: object) -> Iterator[Connection]:
    """A session with an empty table `rows` of the contract's columns."""
    dsn = load_settings().require_postgres()
    with connect(dsn, setting="ETL_POSTGRES_DSN") as connection:
        connection.execute(f"create temp table rows ({DDL})")
        yield connection


def hash_of(connection: Connection, rows: list[Row]) -> str:
    connection.execute("truncate rows")
    with connection.cursor() as cursor, cursor.copy("copy rows from stdin") as copy:
        for row in rows:
            copy.write_row(row)
    found = connection.execute(f"select {content_hash(CONTRACT, 'postgres')} from rows").fetchone()
    assert found is not None
    return str(found[0])


@given(
    rows=ROWS,
    date_style=st.sampled_from(["ISO, YMD", "German", "SQL, MDY"]),
    zone=st.sampled_from(["UTC", "Asia/Kathmandu", "America/New_York"]),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_postgres_gives_what_the_documentation_says(
    table: Connection, rows: list[Row], date_style: str, zone: str
) -> None:
    """Whatever the target's database or role sets: how a session renders dates is not content."""
    found = hash_of(table, rows)
    table.execute(f"set datestyle = '{date_style}'")
    table.execute(f"set timezone = '{zone}'")
    try:
        again = table.execute(f"select {content_hash(CONTRACT, 'postgres')} from rows").fetchone()
    finally:
        table.execute("reset datestyle")
        table.execute("reset timezone")
    assert again == (found,) == (reference(rows),)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("date", "date '0044-03-15' - 36525"),
        ("date", "date '9999-12-31' + 400000"),
        ("timestamptz", "timestamptz '0001-01-01 00:00:00+00' - interval 1000 day"),
        ("decimal(2,2)", "-0.05"),
        ("decimal(38,38)", "0.5"),
        ("decimal(38,0)", "99999999999999999999999999999999999999"),
    ],
)
def test_the_edges_of_types_hash_alike(table: Connection, kind: str, value: str) -> None:
    """Years before Christ and fractions without a whole part are rendered differently by the two servers."""
    contract = Contract((ContractColumn("x", kind),), ("x",), "x")
    in_postgres = value.replace("interval 1000 day", "interval '1000 days'")
    served = table.execute(
        f"select {content_hash(contract, 'postgres')} from (select ({in_postgres})::{postgres_type(kind)} as x) t"
    ).fetchone()
    stored = duckdb.execute(
        f"select {content_hash(contract, 'duckdb')} from (select ({value})::{kind} as x)"
    ).fetchone()
    assert served == stored
