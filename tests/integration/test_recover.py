"""`recover` puts back what the ledger lost and removes what crashed runs left; a dry run only tells."""

from collections.abc import Mapping
from typing import Any

import pytest

from etl_assets.recover import recover
from etl_assets.recovery_report import Recovery
from etl_assets.verify import verify
from etl_resources.errors import PermanentError
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import assets_to_settle
from etl_resources.object_store import ObjectStore
from tests.invariants import prove_whole
from tests.lake import ALL_ASSETS, Lake

pytest_plugins = ["tests.lake"]

FIRST, LAST = "2024-01", "2024-03"
GDP, KPI, SERVED = "gdp.gdp_sales", "kpi.kpi_net_revenue", "postgres.analytics.kpi_net_revenue"
TABLES = ("publishes", "captures", "control_totals", "dead_letter_files", "dead_letter_reasons", "versions")
DAMAGES = {
    "the schema is gone": "drop schema etl cascade",
    "every row is gone": "truncate etl.publishes, etl.intents, etl.dead_letter_files, etl.captures cascade",
    "intents and publishes are gone": "truncate etl.publishes, etl.intents cascade",
    "only publishes are gone": "truncate etl.publishes",
    "only dead letters are gone": "truncate etl.dead_letter_files cascade",
}


@pytest.fixture(scope="module")
def published(module_lake: Lake) -> Lake:
    """Two captures, the second with rows that moved."""
    (bad,) = module_lake.erp("select min(order_id) from erp.orders where to_char(order_date, 'YYYY-MM') = '2024-03'")
    module_lake.erp("delete from erp.order_lines where order_id = %s", *bad)  # so that no KPI misses it
    module_lake.erp("update erp.orders set total_price = -1 where order_id = %s", *bad)
    first = module_lake.materialize(FIRST, LAST)
    assert first.success, first.error
    module_lake.erp(
        "update erp.orders set order_date = order_date + 31 where order_id in (select order_id from erp.orders "
        "where order_date >= '2024-01-05' and order_date < '2024-01-20' order by 1 limit 3)"
    )
    second = module_lake.materialize(FIRST, LAST)
    assert second.success, second.error
    return module_lake


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lost_ledger_is_rebuilt_from_the_stores(published: Lake, damage: str) -> None:
    """The next run prunes everything, verify is equal, and the rows are those that were lost."""
    before = ledger_rows(published)
    assert before["publishes"]
    assert before["dead_letter_reasons"]
    assert before["control_totals"]
    published.platform(DAMAGES[damage])

    told = run(published, dry_run=True)
    done = run(published)

    assert done.unsettled == []
    assert done.actions == told.actions
    after = ledger_rows(published)
    for table in TABLES:
        assert after[table] == before[table], table
    assert run(published).actions == []
    rerun = published.materialize(FIRST, LAST)
    assert rerun.success, rerun.error
    for asset in ALL_ASSETS:
        assert set(rerun.statuses[asset].values()) == {"pruned"}, asset
    report = verify(published.runtime, (), (), lambda _: None)
    assert not report.differences
    prove_whole(published)


def test_after_a_rebuild_a_change_flows_and_is_reconciled(published: Lake) -> None:
    """Lineage and control totals were rebuilt too: a changed KPI month is accepted against its capture."""
    published.platform("drop schema etl cascade")
    assert run(published).unsettled == []
    epochs = published.platform("select max(epoch) from etl.publishes")
    published.erp(
        "update erp.order_lines set extended_price = extended_price + 1 where order_id in "
        "(select order_id from erp.orders where order_date >= '2024-02-01' and order_date < '2024-02-10')"
    )
    changed = published.materialize(LAST[:-1] + "2")
    assert changed.success, changed.error
    assert published.platform("select min(epoch) from etl.publishes where run_id = %s", changed.run_id) > epochs
    prove_whole(published)


def test_one_table_is_rebuilt_with_what_it_was_made_from(published: Lake) -> None:
    """Recovering the KPI alone restores the publishes that its lineage walks."""
    published.platform("truncate etl.publishes, etl.intents, etl.captures cascade")
    done = run(published, KPI)
    assert {a.table for a in done.actions} >= {KPI, GDP, "bronze.sales_orders"}
    assert SERVED not in {a.table for a in done.actions}
    assert run(published).unsettled == []
    prove_whole(published)


def test_publishes_without_evidence_are_told(published: Lake) -> None:
    """Tables from before evidence was kept: recovery says what to do, and repairs the rest."""
    address = published.runtime.addresses[KPI]
    store = ObjectStore.of(published.runtime.store.catalog, address.location)
    kept = {o.path: store.read(o.path) for o in store.list("evidence")}
    before = ledger_rows(published)
    store.delete(kept)
    published.platform("truncate etl.publishes, etl.intents cascade")
    try:
        found = run(published)
        assert [u.table for u in found.unsettled] == [KPI]
        assert "Materialize the asset again" in found.unsettled[0].problem
    finally:
        io = published.runtime.store.catalog.load_table(address.identifier).io
        for path, content in kept.items():
            with io.new_output(path).create(overwrite=True) as stream:
                stream.write(content)
    assert run(published).unsettled == []
    after = ledger_rows(published)["publishes"]
    assert [r for r in before["publishes"] if r not in after] == []
    assert [r for r in after if r not in before["publishes"]] == []


def test_an_unknown_table_is_refused_with_a_hint(published: Lake) -> None:
    """Nothing is recovered under a wrong name."""
    with pytest.raises(PermanentError, match=r"gdp\.gdp_sales"):
        run(published, "gdp.gdp_sale")


def test_settling_a_clean_lake_says_nothing(published: Lake) -> None:
    """What `up` and the sensor call."""
    assert assets_to_settle(published.settings) == frozenset()


def test_settling_without_a_ledger_makes_none(lake: Lake) -> None:
    """`up` on new servers."""
    assert assets_to_settle(lake.settings) == frozenset()
    assert lake.platform("select to_regnamespace('etl')") == [(None,)]


def run(lake: Lake, *tables: str, dry_run: bool = False) -> Recovery:
    """A dry run must leave everything as it is."""
    if not dry_run:
        return recover(lake.runtime, tables)
    before = everything(lake)
    found = recover(lake.runtime, tables, dry_run=True)
    assert everything(lake) == before
    return found


def everything(lake: Lake) -> Mapping[str, Any]:
    """Table metadata, ledger, serving commits and every object of the bucket."""
    catalog = lake.runtime.store.catalog
    objects = [
        (o.path, o.size_bytes, o.modified_at)
        for address in lake.runtime.addresses.values()
        for folder in ("data", "metadata", "evidence")
        for o in ObjectStore.of(catalog, address.location).list(folder)
    ]
    tables = [catalog.load_table(a.identifier).metadata for a in lake.runtime.addresses.values()]
    names = lake.platform("select schemaname || '.' || tablename from pg_tables where schemaname ~ '^etl' order by 1")
    rows = {n: lake.platform(f"select to_jsonb(t) from {n} t order by 1") for (n,) in names if "etl_staging" not in n}
    return {"objects": objects, "tables": tables, "names": names, "rows": rows}


def ledger_rows(lake: Lake) -> Mapping[str, list[Any]]:
    """Rows that must come back, without what only tells when they were written or counted."""
    with Ledger.open(lake.settings) as ledger:
        return {
            table: ledger.connection.execute(
                f"select row from (select to_jsonb(t) - 'written_at' - 'published_at' as row "
                f"from {_source(table)} t) r order by row"
            ).fetchall()
            for table in TABLES
        }


def _source(table: str) -> str:
    """What the stores remember: of a serving table only what is current."""
    if table == "publishes":
        return (
            "(select * from etl.publishes where asset not like 'postgres.%' union all "
            "select * from etl.current_versions where asset like 'postgres.%')"
        )
    if table == "captures":  # one that found nothing changed proves nothing
        return "(select * from etl.captures where epoch in (select epoch from etl.publishes))"
    return f"etl.{table}"
