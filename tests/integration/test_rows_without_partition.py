"""Rows of a Postgres source that no window of its partition column holds: they would be lost without a word (M12)."""

from collections.abc import Iterator

import pytest

from etl_resources.calendar import MONTH
from etl_resources.errors import PermanentError
from etl_resources.extract.postgres import SourceTable, open_source, snapshot_of
from etl_resources.manifest_columns import Column
from etl_resources.manifest_sources import Join, PostgresSource
from etl_resources.partition_sql import Placement
from tests.databases import new_databases, query
from tests.integration.drifting import BEFORE, POSTGRES_TYPES, Make

pytest_plugins = ["tests.lake", "tests.integration.drifting"]

LINES = SourceTable(
    PostgresSource(
        kind="postgres",
        system="erp",
        table="shop.lines",
        key=("order_id", "line"),
        joins=(Join(table="shop.orders", on={"id": "order_id"}, columns={"placed_on": "placed_on"}),),
        columns={n: Column(type=t) for n, t in (("order_id", "bigint"), ("line", "int"), ("placed_on", "date"))},
    ),
    Placement("placed_on"),
)
TABLES = """
create schema shop;
create table shop.orders (id bigint primary key, placed_on date not null);
create table shop.lines (order_id bigint not null, line int not null, primary key (order_id, line));
insert into shop.orders values (1, '2024-05-01');
insert into shop.lines values (1, 1)"""


@pytest.fixture
def shop(stack: object) -> Iterator[str]:
    """DSN of orders and their lines, without a foreign key."""
    with new_databases("shop") as create:
        dsn = create()
        query(dsn, TABLES)
        yield dsn


def prove_placed(dsn: str) -> None:
    with (
        open_source(dsn, setting="SHOP_DSN", timeout_s=10) as connection,
        snapshot_of(connection, dsn, "SHOP_DSN") as snapshot,
    ):
        snapshot.prove_placed(LINES)


def test_a_row_without_a_date_is_refused(make: Make) -> None:
    """It is in no month: every month would balance without it."""
    drift = make("postgres", None)
    drift.deliver(BEFORE)
    drift.statuses()
    drift.lake.erp(f"insert into erp.{drift.name} values (9, null, 1, 'lost')")

    with pytest.raises(
        PermanentError, match=r"erp\.d_\w+: 1 rows have no day, the first is \(9\)\. They are in no part"
    ):
        drift.capture()

    assert drift.published() == [(1, 10, "a"), (2, 20, "b")]
    drift.lake.erp(f"update erp.{drift.name} set day = '2024-02-01' where id = 9")
    assert drift.statuses() == {"2024-01": "pruned", "2024-02": "published"}


def test_a_row_without_its_parent_is_refused(shop: str) -> None:
    """It takes its date from there."""
    prove_placed(shop)
    query(shop, "insert into shop.lines values (7, 1), (7, 2)")

    with pytest.raises(
        PermanentError, match=r"shop\.lines: 2 rows have no placed_on, or no parent in shop\.orders, the fi"
    ):
        prove_placed(shop)


def test_what_the_catalog_promises_is_not_asked_of_the_rows(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign key and `not null` promise it: no run reads all lines for that. One that isn't validated doesn't."""
    monkeypatch.setattr("etl_resources.extract.postgres.select_unplaced", lambda *_: "asked")
    refers = "alter table shop.lines add constraint l foreign key (order_id) references shop.orders"
    query(shop, f"{refers} not valid")
    with pytest.raises(PermanentError, match="asked"):
        prove_placed(shop)

    query(shop, "alter table shop.lines validate constraint l")

    prove_placed(shop)


@pytest.mark.parametrize("day", ["null::date", "date '2024-07-01'", "'2024-05'"])
def test_control_totals_of_another_period_are_refused(shop: str, day: str) -> None:
    """A query that forgets a bound would be a crash without a name, or totals of nobody."""
    with (
        open_source(shop, setting="SHOP_DSN", timeout_s=10) as connection,
        snapshot_of(connection, shop, "SHOP_DSN") as snapshot,
    ):
        totals = snapshot.control_totals(
            "kpi_a/t.sql", "select date '2024-06-01' as month, 1 as n", ["2024-05", "2024-06"], MONTH
        )
        assert totals == {"2024-05": [], "2024-06": [{"month": "2024-06-01", "n": 1}]}
        with pytest.raises(
            PermanentError, match=r"Control totals of kpi_a/t\.sql: a row has the month .* was asked to be"
        ):
            snapshot.control_totals("kpi_a/t.sql", f"select {day} as month, 1 as n", ["2024-05", "2024-06"], MONTH)


@pytest.mark.parametrize("stamp", ["infinity", "-infinity", "0001-12-31 23:59:59+00 BC", "10000-01-01 00:00:00+00"])
def test_a_stamp_of_a_year_that_no_table_holds_is_refused(make: Make, stamp: str) -> None:
    """It would arrive as another one, or end the run as a crash that names no table. Bounds are kept."""
    drift = make("postgres", None)
    drift.columns["seen_at"] = "timestamptz"
    bounds = ("0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00")
    types = POSTGRES_TYPES | {"seen_at": "timestamptz"}
    drift.deliver([{**row, "seen_at": at} for row, at in zip(BEFORE, bounds, strict=True)], types=types)
    drift.statuses()
    assert drift.published("epoch_us(seen_at)") == [(-62135596800000000,), (253402300799999999,)]
    drift.lake.erp(f"update erp.{drift.name} set seen_at = %s where id = 2", stamp)

    with pytest.raises(
        PermanentError, match=r"partition 2024-02: 1 rows have a date outside of the years.* in seen_at: "
    ):
        drift.capture()
