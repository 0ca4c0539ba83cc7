"""Rollback through the whole flow: pinned partitions stay, dependants follow, unpinning recomputes exactly them."""

import pytest

from etl_assets.verify import verify
from etl_assets.versions import list_pins, roll_back, unpin
from tests.invariants import prove_serving, prove_tables, prove_whole
from tests.lake import GDP, KPI, LINES, ORDERS, SERVED, SILVER_LINES, SILVER_ORDERS, Lake

pytest_plugins = ["tests.lake"]

MONTHS = ("2024-03", "2024-04", "2024-05")
REASON = "prices of March are disputed"


@pytest.fixture
def published(lake: Lake) -> Lake:
    """Three months, then one change of prices in the first two: versions 1 and 2 of everything that has prices."""
    first = lake.materialize(MONTHS[0], MONTHS[-1])
    assert first.success, first.error
    raise_prices(lake, MONTHS[0], MONTHS[1])
    second = lake.materialize(MONTHS[0], MONTHS[-1])
    assert second.success, second.error
    return lake


def raise_prices(lake: Lake, *months: str) -> None:
    lake.erp(
        "update erp.order_lines l set extended_price = extended_price + 100 from erp.orders o "
        "where o.order_id = l.order_id and to_char(o.order_date, 'YYYY-MM') = any(%s)",
        list(months),
    )


def content(lake: Lake, asset: str) -> dict[str, str]:
    """Partition → version of the published content."""
    rows = lake.platform(
        "select partition, version from etl.current_versions where asset = %s", asset.replace("/", ".")
    )
    return dict(rows)


def prove_consistent(lake: Lake) -> None:
    """Everything that the platform promises but to follow the source: `verify` rereads every store."""
    prove_tables(lake)
    prove_serving(lake)
    report = verify(lake.runtime, (), (), lambda _: None)
    assert report.equal, "\n".join(report.lines())


def test_dependants_follow_a_rollback_and_the_pin_survives_runs(published: Lake) -> None:
    """The purpose: yesterday's content is served again today, and tonight's run doesn't put today's back."""
    lake = published
    before = {a: content(lake, a) for a in (SILVER_LINES, GDP, KPI, SERVED)}
    old_kpi = lake.oracle("2024-03")

    done = roll_back(lake.runtime, "silver.sales_lines", "1", ["2024-03"], REASON, dry_run=False)

    assert done.outcome is not None
    assert (done.plan.version.number, done.outcome.published.number) == (1, 3)
    assert dict(done.stale) == {
        "gdp.gdp_sales": ["2024-03"],
        "kpi.kpi_net_revenue": ["2024-03"],
        "postgres.analytics.kpi_net_revenue": ["2024-03"],
    }
    for _ in range(2):
        run = lake.materialize(MONTHS[0], MONTHS[-1])
        assert run.success, run.error
        assert run.published(SILVER_LINES) == set()
        proof = str(run.materializations(SILVER_LINES)["2024-03"].metadata["proof"].value)
        assert f"pinned to version 1 of silver.sales_lines by rollback ({REASON})" in proof
        assert "data-pipeline unpin silver.sales_lines --partition 2024-03" in proof
    changed = {a: {p for p, v in content(lake, a).items() if v != before[a][p]} for a in before}
    assert all(partitions == {"2024-03"} for partitions in changed.values()), changed
    assert lake.published_kpi("2024-03") != old_kpi
    assert lake.published_kpi("2024-04", "2024-05") == lake.oracle("2024-04", "2024-05")
    prove_consistent(lake)

    raise_prices(lake, "2024-03")
    assert lake.materialize("2024-03").success
    assert content(lake, SILVER_LINES)["2024-03"] != before[SILVER_LINES]["2024-03"]

    assert unpin(lake.runtime, "silver.sales_lines", (), dry_run=False) == ["2024-03"]
    freed = lake.materialize(MONTHS[0], MONTHS[-1])

    assert freed.success, freed.error
    assert freed.published(SILVER_LINES) == freed.published(GDP) == freed.published(SERVED) == {"2024-03"}
    assert list_pins(lake.runtime) == []
    prove_whole(lake)


def months_of(lake: Lake, asset: str, order: int) -> set[str]:
    return lake.months_of(asset, f"order_id = {order}")


def test_a_row_that_would_leave_a_pinned_partition_is_held_back_in_every_layer(lake: Lake) -> None:
    """An order moves from a pinned March to May: in May alone it would count twice, and nowhere if May were first."""
    march, may = "2024-03", "2024-05"
    first = lake.materialize(march, may)
    assert first.success, first.error
    raise_prices(lake, march)
    assert lake.materialize(march).success
    ((order,),) = lake.erp("select min(order_id) from erp.orders where to_char(order_date, 'YYYY-MM') = %s", march)
    roll_back(lake.runtime, "bronze.sales_lines", "1", [march], REASON, dry_run=False)
    roll_back(lake.runtime, "silver.sales_orders", "1", (), REASON, dry_run=False)  # equal content: nothing to pin
    pinned = {(p.asset, p.partition) for p in list_pins(lake.runtime)}
    assert pinned == {("bronze.sales_lines", march)}

    lake.erp("update erp.orders set order_date = '2024-05-15' where order_id = %s", order)
    raise_prices(lake, "2024-04")
    held = lake.materialize(march, may)

    assert not held.success
    assert "bronze.sales_orders: 1 of 3 partitions failed" not in held.error
    assert "partition 2024-05 exchanged rows with a partition that is pinned" in held.error
    assert "data-pipeline unpin bronze.sales_lines --partition 2024-03" in held.error
    for asset in (ORDERS, LINES, SILVER_ORDERS, SILVER_LINES, GDP):
        assert months_of(lake, asset, order) == {march}, asset
    assert held.published(LINES) == {"2024-04"}, "what has nothing to do with it goes on"

    unpin(lake.runtime, "bronze.sales_lines", [march], dry_run=False)
    roll_back(lake.runtime, "silver.sales_lines", "1", [march], REASON, dry_run=False)
    held = lake.materialize(march, may)

    assert not held.success
    assert months_of(lake, LINES, order) == {may}
    assert months_of(lake, SILVER_LINES, order) == {march}
    assert (
        f"silver.sales_lines, partition {may} exchanged rows with {march}, which is pinned to version 1" in held.error
    )

    unpin(lake.runtime, "silver.sales_lines", [march], dry_run=False)
    freed = lake.materialize(march, may)

    assert freed.success, freed.error
    for asset in (ORDERS, LINES, SILVER_ORDERS, SILVER_LINES, GDP):
        assert months_of(lake, asset, order) == {may}, asset
    prove_whole(lake)
