"""Loading Postgres: what was read is what is stored, whatever the values, and what breaks leaves nothing behind."""

import secrets
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from etl_resources.calendar import WHOLE
from etl_resources.contract import Contract
from etl_resources.errors import PermanentError
from etl_resources.quality.content_hash import content_hash, version_of
from etl_resources.settings import load_settings
from etl_resources.sinks.postgres_sink import PostgresSink
from etl_resources.sinks.postgres_tables import COMMITS, STAGING_TABLES
from etl_resources.tables.stage import StagedPartition
from tests.property.test_content_hash import CONTRACT, ROWS, SCHEMA, Row

MONTH = "2024-05"


def new_sink(load: str = "replace", contract: Contract = CONTRACT) -> PostgresSink:
    name = f"analytics.load_{secrets.token_hex(4)}"
    return PostgresSink(load_settings(), name, load, contract.key, contract, f"postgres.{name}")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def sink(stack: object) -> PostgresSink:
    """A sink whose target exists."""
    made = new_sink()
    made.ensure()
    return made


@pytest.fixture
def attempt(sink: PostgresSink) -> Iterator[str]:
    """An attempt with its staging table, which is dropped afterwards."""
    name = f"run-{secrets.token_hex(6)}"
    sink.begin(name, 1)
    yield name
    with sink.connection() as connection:
        connection.execute(f"drop table if exists {sink.staging_table(name)}".encode())


def engine_with(rows: list[Row]) -> duckdb.DuckDBPyConnection:
    """An engine whose table `source` has the rows, for its cursors as well."""
    engine = duckdb.connect()
    columns = [[row[i] for row in rows] for i in range(len(SCHEMA))]
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
    engine.execute("set timezone = 'UTC'")
    engine.register("given", table)
    engine.execute("create table source as from given")
    return engine


def write(sink: PostgresSink, attempt: str, engine: duckdb.DuckDBPyConnection, partition: str = MONTH) -> Any:
    planned: Any = SimpleNamespace(partition=partition)
    ledger: Any = None
    return sink.write(engine, ledger, attempt, planned, "source")


def expected(engine: duckdb.DuckDBPyConnection) -> str:
    found = engine.execute(f"select count(*), {content_hash(CONTRACT, 'duckdb')} from source").fetchone()
    assert found is not None
    return version_of(found[0], found[1])


def staged(sink: PostgresSink, attempt: str) -> int:
    with sink.connection() as connection:
        found = connection.execute(f"select count(*) from {sink.staging_table(attempt)}".encode()).fetchone()
    assert found is not None
    return int(found[0])


@given(rows=ROWS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_value_is_stored_as_it_was_read(sink: PostgresSink, attempt: str, rows: list[Row]) -> None:
    """Quotes, tabs, empty strings beside nulls, all digits, years 1 to 9999; and written again, it replaces."""
    engine = engine_with(rows)
    found = write(sink, attempt, engine)
    assert (found.rows, found.version) == (len(rows), expected(engine))
    assert found.keys == len({row[0] for row in rows})
    assert staged(sink, attempt) == len(rows)


SPECIAL = (
    *("", "\\.", "\\N", '"', '""', ",", "a,b", "\t", "\n", "\r", "\r\n", "NULL", "null", "'", "\\"),
    *("é日本\N{FACE PALM}", " ", "\x01"),
)


@pytest.mark.parametrize("text", SPECIAL, ids=repr)
def test_text_that_means_something_to_copy_is_stored_as_text(sink: PostgresSink, attempt: str, text: str) -> None:
    r"""`\.` alone ends a COPY, `\N` is its null, and an empty field is one in CSV."""
    row = (1, 2, text, date(2024, 5, 1), datetime(1, 1, 1, tzinfo=UTC), True, *[Decimal(0)] * 4, None)
    engine = engine_with([row, (2, *[None] * (len(SCHEMA) - 1))])
    assert write(sink, attempt, engine).version == expected(engine)


def test_what_postgres_cannot_store_is_an_error_and_leaves_nothing(sink: PostgresSink, attempt: str) -> None:
    """A zero byte in text: the whole partition is refused, named, and the attempt goes on with the others."""
    write(sink, attempt, engine_with([(1, *[None] * (len(SCHEMA) - 1))]), "2024-04")
    bad = engine_with([(1, 2, "a\0b", *[None] * (len(SCHEMA) - 3))])
    with pytest.raises(PermanentError, match=f"{sink.target}.*column text of the row with key .* has a NUL"):
        write(sink, attempt, bad)
    assert staged(sink, attempt) == 1


def test_rows_that_cannot_be_read_any_more_leave_nothing(sink: PostgresSink, attempt: str) -> None:
    """The engine fails in the middle of a COPY: what was sent is rolled back, and the next try begins anew."""
    engine = duckdb.connect()
    engine.execute(
        "create view source as select i as big, i::int as small, "
        "case when i > 90000 then error('lost') else 'x' end as text, "
        "null::date as day, null::timestamptz as stamp, null::boolean as flag, null::decimal(15,2) as money, "
        "null::decimal(6,6) as share, null::decimal(38,10) as wide, null::decimal(20,0) as whole, "
        "null::varchar as label from range(100000) as r(i)"
    )
    with pytest.raises(duckdb.Error, match=r"lost|Interrupted"):
        write(sink, attempt, engine)
    assert staged(sink, attempt) == 0
    good = engine_with([(1, *[None] * (len(SCHEMA) - 1))])
    assert write(sink, attempt, good).rows == 1
    assert staged(sink, attempt) == 1


def test_a_fenced_attempt_writes_no_more(sink: PostgresSink, attempt: str) -> None:
    """Recovery drops the staging table: a writer that wakes up afterwards finds nothing to write into."""
    write(sink, attempt, engine_with([]))
    with sink.connection() as connection:
        connection.execute(f"drop table {sink.staging_table(attempt)}".encode())
        left = connection.execute(f"select count(*) from ({STAGING_TABLES}) t where relname like %s", [f"%{attempt}"])
        assert left.fetchone() == (0,)
    with pytest.raises(PermanentError, match="does not exist"):
        write(sink, attempt, engine_with([]))


def test_a_target_forgets_the_partitions_that_it_had_by_another_grain(sink: PostgresSink) -> None:
    """No run writes them again: `verify` would miss the rows of weeks in a table by month for ever."""
    former = ("week-2024-05-13", "quarter-2024-04", WHOLE)
    with sink.connection() as connection:
        for partition in (MONTH, "2024-06", *former):
            connection.execute(
                f"insert into {COMMITS} (target, partition, epoch) values (%s, %s, 1)", (sink.target, partition)
            )
        staged: Any = StagedPartition(MONTH, "token", 2, "version", 0)
        batch: Any = SimpleNamespace(attempt="run-a", run_id="run")
        sink._record_commits(connection, batch, [staged], {MONTH: "{}"})
    assert sink.published_epochs() == {MONTH: 2, "2024-06": 1}


def test_an_upsert_touches_what_changed_only(stack: object) -> None:
    """Rewriting equal rows would cost a table's whole size in dead rows and log, each night."""
    sink = new_sink("upsert")
    sink.ensure()
    rows = [(n, 0, "same", date(2024, 5, 1), *[None] * (len(SCHEMA) - 4)) for n in range(10)]

    def publish(epoch: int) -> set[int]:
        name = f"run-{secrets.token_hex(6)}"
        sink.begin(name, epoch)
        write(sink, name, engine_with(rows))
        with sink.connection() as connection, connection.transaction():
            sink._fill(connection, name, [MONTH])
            connection.execute(f"drop table {sink.staging_table(name)}".encode())
            mine = connection.execute(f"select big from {sink.target} where xmin = pg_current_xact_id()::xid".encode())
            return {big for (big,) in mine.fetchall()}

    assert publish(1) == set(range(10))
    rows[3] = (3, 0, "changed", *rows[3][3:])
    rows[4] = (4, 0, None, *rows[4][3:])
    assert publish(2) == {3, 4}
    assert publish(3) == set()
