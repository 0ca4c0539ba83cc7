"""The demo's ERP on a real Postgres: equal to TPC-H, stamped by the database, never half made."""

import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from etl_assets.demo import tpch
from etl_assets.demo.currencies import NATION_CURRENCIES
from etl_assets.demo.erp import READER_ROLE, ErpSummary, create_erp
from etl_resources.errors import PermanentError, SettingsError
from tests.databases import new_databases
from tests.integration.oracle import net_revenue

SCALE = 0.01
SMALL_SCALE = 0.001

CHILD = """
import sys
from pathlib import Path
from etl_assets.demo.erp import create_erp

def report(message):
    print(message, flush=True)
    sys.stdin.readline()  # the parent decides whether we go on

create_erp(sys.argv[1], scale=float(sys.argv[2]), work_dir=Path(sys.argv[3]), progress=report)
"""


@dataclass(frozen=True)
class Erp:
    """A complete ERP and TPC-H's own files of the same scale."""

    dsn: str
    tpch_folder: Path
    work_dir: Path

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(sql).fetchall()

    def generated(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect() as engine:
            for table in tpch.TABLES:
                engine.execute(f"CREATE VIEW {table} AS FROM '{self.tpch_folder / table}.parquet'")
            return engine.execute(sql).fetchall()


@pytest.fixture(scope="module")
def new_database(stack: object) -> Iterator[Callable[[], str]]:
    """Makes an empty database of this module's own; its DSN."""
    with new_databases("demo_erp") as create:
        yield create


@pytest.fixture
def empty_dsn(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture(scope="module")
def erp(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Erp:
    """One ERP for the tests that only read it, or whose edits nobody else looks at."""
    dsn, folder, work_dir = new_database(), tmp_path_factory.mktemp("tpch"), tmp_path_factory.mktemp("work")
    tpch.generate(SCALE, folder)
    silently(dsn, SCALE, work_dir)
    return Erp(dsn, folder, work_dir)


def silently(dsn: str, scale: float, work_dir: Path, *, recreate: bool = False) -> ErpSummary:
    """create_erp without anybody listening."""
    return create_erp(dsn, scale=scale, work_dir=work_dir, progress=lambda _: None, recreate=recreate)


def test_tables_have_the_generators_rows(erp: Erp) -> None:
    """A row that is lost or doubled in the load would make every KPI wrong and every reconciliation right."""
    names = {"region": "regions", "nation": "nations", "customer": "customers"}
    names |= {"orders": "orders", "lineitem": "order_lines"}
    for generated, table in names.items():
        assert erp.query(f"SELECT count(*) FROM erp.{table}") == erp.generated(f"SELECT count(*) FROM {generated}")


def test_lines_keep_the_generators_values(erp: Erp) -> None:
    """Amounts travel as exact decimals in the right columns, dates move by 28 years."""
    found = erp.query(
        """SELECT order_id, line_number, quantity, extended_price, discount, tax, ship_mode, ship_date
           FROM erp.order_lines ORDER BY 1, 2"""
    )
    assert found == erp.generated(
        """SELECT l_orderkey, l_linenumber, l_quantity, l_extendedprice, l_discount, l_tax, l_shipmode,
                  CAST(l_shipdate + INTERVAL 28 YEAR AS DATE)
           FROM lineitem ORDER BY 1, 2"""
    )


def test_order_dates_keep_their_weekday(erp: Erp) -> None:
    """Late data is shown on today's calendar: a shift that moved weekdays would move business days."""
    shifted: dict[int, date] = dict(erp.query("SELECT order_id, order_date FROM erp.orders"))
    original: dict[int, date] = dict(erp.generated("SELECT o_orderkey, o_orderdate FROM orders"))
    assert min(shifted.values()) >= date(2020, 1, 1)
    assert max(shifted.values()) <= date(2026, 8, 2)
    assert shifted == {order: day.replace(year=day.year + 28) for order, day in original.items()}
    assert all(shifted[order].weekday() == day.weekday() for order, day in original.items())


def test_orders_are_in_the_currency_of_the_customers_nation(erp: Erp) -> None:
    """Conversion joins rates on this column; one order in a wrong currency is a wrong revenue."""
    found = erp.query(
        """SELECT DISTINCT n.name, o.currency
           FROM erp.orders o JOIN erp.customers USING (customer_id) JOIN erp.nations n USING (nation_id)"""
    )
    assert sorted(found) == sorted(NATION_CURRENCIES.items())
    assert {("FRANCE", "EUR"), ("JAPAN", "JPY"), ("UNITED KINGDOM", "GBP"), ("VIETNAM", "USD")} <= set(found)


@pytest.mark.parametrize("table", ["customers", "orders", "order_lines"])
def test_updated_at_is_the_databases_even_when_a_client_sends_it(erp: Erp, table: str) -> None:
    """A stamp in the past hides a change from the watermark; nobody may write one."""
    with psycopg.connect(erp.dsn) as connection:
        stamped = connection.execute(
            f"""UPDATE erp.{table} SET comment = 'edited', updated_at = '2001-01-01'
                WHERE ctid = (SELECT min(ctid) FROM erp.{table}) RETURNING updated_at = now()"""
        ).fetchall()
    assert stamped == [(True,)]


def test_deleting_an_order_deletes_its_lines(erp: Erp) -> None:
    with psycopg.connect(erp.dsn) as connection:
        connection.execute("DELETE FROM erp.orders WHERE order_id = 1")
        left = connection.execute("SELECT count(*) FROM erp.order_lines WHERE order_id = 1").fetchone()
        connection.rollback()
    assert left == (0,)


def test_the_pipelines_role_may_read_and_nothing_else(erp: Erp) -> None:
    may = erp.query(
        f"""SELECT bool_and(has_table_privilege('{READER_ROLE}', c.oid, 'SELECT')),
                   bool_or(has_table_privilege('{READER_ROLE}', c.oid, 'INSERT,UPDATE,DELETE,TRUNCATE')),
                   has_schema_privilege('{READER_ROLE}', 'erp', 'USAGE')
            FROM pg_class c WHERE c.relnamespace = 'erp'::regnamespace AND c.relkind = 'r'"""
    )
    assert may == [(True, False, True)]


def test_a_second_call_keeps_the_users_edits(erp: Erp) -> None:
    """`up` runs create_erp each time; it must not undo what the user changed to see late data."""
    with psycopg.connect(erp.dsn) as connection:
        connection.execute("UPDATE erp.orders SET clerk = 'me' WHERE order_id = 2")
    summary = silently(erp.dsn, SCALE, erp.work_dir)
    assert not summary.created
    assert summary.rows["orders"] == 15_000
    assert erp.query("SELECT clerk FROM erp.orders WHERE order_id = 2") == [("me",)]


def test_another_scale_is_refused_by_name(erp: Erp) -> None:
    with pytest.raises(PermanentError, match=r"scale 0\.01, not 0\.02.*--recreate-source"):
        silently(erp.dsn, 0.02, erp.work_dir)
    assert erp.query("SELECT scale FROM erp.demo_info") == [(Decimal("0.01"),)]


def test_recreating_replaces_the_scale(empty_dsn: str, tmp_path: Path) -> None:
    silently(empty_dsn, SMALL_SCALE, tmp_path)
    summary = silently(empty_dsn, 0.002, tmp_path, recreate=True)
    assert (summary.created, summary.rows["orders"]) == (True, 3_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("schema", ["erp", "erp_building"])
@pytest.mark.parametrize("recreate", [False, True])
def test_somebody_elses_schema_is_left_alone(empty_dsn: str, tmp_path: Path, schema: str, recreate: bool) -> None:
    """The database may be a real one: a name in common is no right to drop anything."""
    with psycopg.connect(empty_dsn) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"CREATE TABLE {schema}.demo_info (scale numeric)")
        connection.execute(f"INSERT INTO {schema}.demo_info VALUES (0.001)")
    with pytest.raises(PermanentError, match=f"Schema {schema} .* was not made by data-pipeline"):
        silently(empty_dsn, SMALL_SCALE, tmp_path, recreate=recreate)
    with psycopg.connect(empty_dsn) as connection:
        assert connection.execute(f"SELECT * FROM {schema}.demo_info").fetchall() == [(Decimal("0.001"),)]


@pytest.mark.parametrize("killed_after", ["generated", "loaded customers", "loaded order_lines"])
def test_a_killed_build_leaves_nothing_and_a_rerun_completes(empty_dsn: str, tmp_path: Path, killed_after: str) -> None:
    """Half an ERP that looks ready would feed wrong numbers that agree with their source."""
    _kill_build(empty_dsn, tmp_path, killed_after)
    with psycopg.connect(empty_dsn) as connection:
        assert connection.execute("SELECT to_regnamespace('erp')").fetchone() == (None,)
    summary = silently(empty_dsn, SMALL_SCALE, tmp_path)
    assert summary.created
    assert (summary.rows["customers"], summary.rows["orders"]) == (150, 1_500)
    with psycopg.connect(empty_dsn) as connection:
        assert connection.execute("SELECT to_regnamespace('erp_building')").fetchone() == (None,)
    assert list(tmp_path.iterdir()) == [], "the killed run's files are cleared"


def _kill_build(dsn: str, work_dir: Path, killed_after: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, dsn, str(SMALL_SCALE), str(work_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        for message in child.stdout:
            if message.startswith(killed_after):
                child.kill()
                break
            child.stdin.write("go on\n")
            child.stdin.flush()
    assert child.returncode == -signal.SIGKILL, f"never said {killed_after!r}"


def test_two_builders_make_one_erp(empty_dsn: str, tmp_path: Path) -> None:
    """Two terminals run `up` at once: one builds, the other waits and finds it made."""
    with ThreadPoolExecutor(2) as pool:
        builds = [pool.submit(silently, empty_dsn, SMALL_SCALE, tmp_path) for _ in range(2)]
    assert sorted(build.result().created for build in builds) == [False, True]


@pytest.mark.parametrize("changed", [{"password": "hunter2"}, {"port": "1"}, {"dbname": "no_such_database"}])
def test_a_bad_dsn_is_named_without_its_password(empty_dsn: str, tmp_path: Path, changed: dict[str, str]) -> None:
    dsn = make_conninfo(empty_dsn, **changed)
    parts = conninfo_to_dict(dsn)
    with pytest.raises(SettingsError, match="ERP_ADMIN_DSN") as raised:
        silently(dsn, SMALL_SCALE, tmp_path)
    assert f"{parts['host']}:{parts['port']}" in str(raised.value)
    assert str(parts["password"]) not in str(raised.value)


def test_the_oracle_agrees_with_decimal_arithmetic(erp: Erp) -> None:
    """The oracle judges the pipeline, so it is itself checked against another way to compute: by hand."""
    lines = erp.query(
        """SELECT o.order_date, n.name, o.currency, o.order_id, l.extended_price, l.discount
           FROM erp.orders o JOIN erp.order_lines l USING (order_id)
           JOIN erp.customers USING (customer_id) JOIN erp.nations n USING (nation_id)"""
    )
    cent, groups = Decimal("0.01"), defaultdict(list)
    for day, nation, currency, order, price, discount in lines:
        if date(2023, 8, 1) <= day <= date(2026, 7, 31):
            revenue = (price * (1 - discount)).quantize(cent, ROUND_HALF_UP)
            groups[day.replace(day=1), nation, currency].append((order, revenue))
    expected = []
    for key, members in sorted(groups.items()):
        orders, total = len({order for order, _ in members}), sum(revenue for _, revenue in members)
        expected.append((*key, orders, len(members), total, (total / orders).quantize(cent, ROUND_HALF_UP)))
    assert net_revenue(erp.dsn) == expected
    assert len({row[0] for row in expected}) == 36
