"""`sql` and `tables` show exactly what is published, to a person and to a script, and can change nothing."""

import csv
import io
import json
from decimal import Decimal

import pytest

from etl_assets.published_tables import list_tables
from etl_assets.query import DEAD_LETTERS, LEDGER_VIEWS, queryable, run_query
from etl_resources.errors import PermanentError
from tests.integration.published import PublishedDemo

pytest_plugins = ["tests.lake", "tests.integration.published"]


def rows(demo: PublishedDemo, sql: str) -> list[tuple[object, ...]]:
    with run_query(demo.lake.runtime, sql) as result:
        return [row for batch in result.batches for row in batch]


def test_every_published_row_of_the_kpi_is_the_oracles(published_demo: PublishedDemo) -> None:
    """Decimals arrive as they are: a float on the way would differ in the last cent."""
    wanted = published_demo.lake.oracle()
    for table in ("kpi.kpi_net_revenue", "postgres.analytics.kpi_net_revenue"):
        found = rows(published_demo, f"from {table} order by month, nation, currency")
        assert found == sorted(wanted), table
    assert isinstance(wanted[0][5], Decimal)


def test_layers_and_stores_join_in_one_statement(published_demo: PublishedDemo) -> None:
    """All tables means all at once: Iceberg with Iceberg, with Postgres and with the ledger."""
    ((lines, matched),) = rows(
        published_demo,
        "select count(*), count(o.order_id) from silver.sales_lines l left join silver.sales_orders o using (order_id)",
    )
    assert lines == matched != 0
    different = rows(published_demo, "(from kpi.kpi_net_revenue except from postgres.analytics.kpi_net_revenue)")
    assert different == []
    counted = (
        "with files as (select strftime(order_date, '%Y-%m') as partition, count(*) as n "
        "from gdp.gdp_sales group by 1) "
        "select count(*) from files join ledger.current_versions v using (partition) "
        "where v.asset = 'gdp.gdp_sales' and v.rows = files.n"
    )
    assert rows(published_demo, counted) == [(36,)]


def test_a_query_sees_one_publish_and_no_staged_row(published_demo: PublishedDemo) -> None:
    """A branch of an attempt holds rows that were not audited; nobody may read them."""
    lake = published_demo.lake
    catalog, identifier = lake.runtime.store.catalog, lake.runtime.addresses["kpi.kpi_net_revenue"].identifier
    table, before = catalog.load_table(identifier), rows(published_demo, "select count(*) from kpi.kpi_net_revenue")
    head = table.current_snapshot()
    assert head is not None
    table.manage_snapshots().create_branch(head.snapshot_id, "wap-staged").commit()
    try:
        table = catalog.load_table(identifier)
        table.append(table.scan(limit=5).to_arrow(), branch="wap-staged")
        assert rows(published_demo, "select count(*) from kpi.kpi_net_revenue") == before
    finally:
        catalog.load_table(identifier).manage_snapshots().remove_branch("wap-staged").commit()


def test_the_table_shows_nulls_and_says_that_it_was_cut(published_demo: PublishedDemo) -> None:
    shown = published_demo.cli("sql", "from kpi.kpi_net_revenue order by month, nation limit 5")
    assert shown.returncode == 0
    heading, _, *lines = shown.stdout.splitlines()
    assert heading.split() == list(published_demo.lake.runtime.addresses["kpi.kpi_net_revenue"].contract.names)
    assert len(lines) == 5
    assert shown.stderr == ""
    cut = published_demo.cli("sql", "select null as nothing, * from gdp.gdp_sales")
    assert len(cut.stdout.splitlines()) == 2 + 50
    assert cut.stdout.splitlines()[2].split()[0] == "NULL"
    assert "cut after 50 rows" in cut.stderr


def test_scripts_get_all_rows_without_losing_a_digit(published_demo: PublishedDemo) -> None:
    """JSON numbers are doubles to most readers, so decimals are text; csv has all rows as well."""
    query = "select month, nation, currency, net_revenue, orders from kpi.kpi_net_revenue"
    wanted = sorted(
        (f"{m}", n, c, str(revenue), orders) for m, n, c, orders, _, revenue, _ in published_demo.lake.oracle()
    )
    as_json = published_demo.cli("sql", query, "--json").stdout
    assert sorted(tuple(json.loads(line).values()) for line in as_json.splitlines()) == wanted
    as_csv = list(csv.reader(io.StringIO(published_demo.cli("sql", query, "--csv").stdout)))
    assert as_csv[0] == ["month", "nation", "currency", "net_revenue", "orders"]
    assert sorted((*row[:4], int(row[4])) for row in as_csv[1:]) == wanted
    assert len(published_demo.cli("sql", query, "--csv", "--limit", "7").stdout.splitlines()) == 8


def test_every_name_that_is_offered_can_be_queried(published_demo: PublishedDemo) -> None:
    names = [name for (name,) in rows(published_demo, "show tables")]
    assert names == queryable(published_demo.lake.runtime)
    for name in names:
        assert rows(published_demo, f"describe {name}"), name
        rows(published_demo, f"from {name} limit 1")


def test_an_unknown_table_says_what_was_meant(published_demo: PublishedDemo) -> None:
    result = published_demo.cli("sql", "from kpi_net_revenue")
    assert result.returncode == 1
    assert result.stderr.startswith("error: Unknown table 'kpi_net_revenue'; did you mean 'kpi.kpi_net_revenue'?")
    assert "Traceback" not in result.stderr
    wrong = published_demo.cli("sql", "select nope from kpi.kpi_net_revenue")
    assert wrong.returncode == 1
    assert 'Referenced column "nope" not found' in wrong.stderr


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_text('/etc/hostname')",
        "select * from postgres_query('postgres', 'select 1')",
        "copy (select 1) to '/tmp/out.csv'",
        "attach '/tmp/other.db'",
        "set lock_configuration = false",
        "drop view kpi.kpi_net_revenue",
        "insert into postgres.analytics.kpi_net_revenue from kpi.kpi_net_revenue",
    ],
)
def test_the_engine_refuses_what_the_check_of_the_text_would_miss(
    published_demo: PublishedDemo, sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two locks: with the first one open, the second still holds or the statement isn't one query."""
    from etl_assets import query

    statement = query.Statement(sql, ("kpi.kpi_net_revenue", "postgres.analytics.kpi_net_revenue"))
    monkeypatch.setattr(query, "check_statement", lambda _: statement)
    if "postgres_query" in sql:
        assert rows(published_demo, sql) == [(1,)], "only the text check keeps SQL from Postgres: it is read-only there"
        return
    with pytest.raises(PermanentError):
        rows(published_demo, sql)


def test_tables_lists_what_the_ledger_knows(published_demo: PublishedDemo) -> None:
    found = {t.name: t for t in list_tables(published_demo.lake.runtime)}
    assert set(found) == set(queryable(published_demo.lake.runtime)) - {*LEDGER_VIEWS, DEAD_LETTERS}
    kpi = found["kpi.kpi_net_revenue"]
    assert (kpi.partitions, kpi.rows, kpi.columns) == (36, len(published_demo.lake.oracle()), 7)
    assert kpi.location == f"s3://{published_demo.lake.runtime.bucket}/gold/kpi_net_revenue"
    shown = published_demo.cli("tables")
    assert "kpi.kpi_net_revenue" in shown.stdout
    assert {t["name"] for t in json.loads(published_demo.cli("tables", "--json").stdout)} == set(found)


def test_an_unpublished_table_says_so(lake: object) -> None:
    """An empty platform: nothing is there to read, and nothing is wrong."""
    from tests.lake import Lake

    assert isinstance(lake, Lake)
    for table in ("kpi.kpi_net_revenue", "postgres.analytics.kpi_net_revenue"):
        with pytest.raises(PermanentError, match="is not published yet"), run_query(lake.runtime, f"from {table}"):
            pass
    assert all((t.partitions, t.rows) == (0, 0) for t in list_tables(lake.runtime))


def test_verify_of_an_empty_platform_is_equal(lake: object) -> None:
    from etl_assets.verify import verify
    from tests.lake import Lake

    assert isinstance(lake, Lake)
    report = verify(lake.runtime, (), (), lambda _: None)
    assert report.equal
    assert {a.verdict() for a in report.assets} == {"nothing published"}
