"""Rows that change their month, vanish or come back: never twice, never lost, in any layer."""

import pytest

from tests.invariants import prove_whole
from tests.lake import GDP, KPI, LINES, ORDERS, SERVED, SILVER_LINES, SILVER_ORDERS, Lake

pytest_plugins = ["tests.lake"]

MONTHS = ("2024-03", "2024-04", "2024-05")
LAYERS = (ORDERS, LINES, SILVER_ORDERS, SILVER_LINES, GDP)


@pytest.fixture(scope="module")
def published(module_lake: Lake) -> Lake:
    run = module_lake.materialize(MONTHS[0], MONTHS[-1])
    assert run.success, run.error
    return module_lake


def an_order(lake: Lake, month: str) -> int:
    """An order with several lines."""
    ((order,),) = lake.erp(
        "select order_id from erp.order_lines join erp.orders o using (order_id) "
        "where to_char(o.order_date, 'YYYY-MM') = %s group by 1 having count(*) > 2 order by 1 limit 1",
        month,
    )
    return int(order)


def move(lake: Lake, order: int, month: str) -> None:
    lake.erp("update erp.orders set order_date = (%s || '-15')::date where order_id = %s", month, order)


@pytest.mark.parametrize(
    ("requested", "what"),
    [
        pytest.param(("2024-05",), "only the new month", id="new"),
        pytest.param(("2024-03",), "only the old month", id="old"),
        pytest.param(("2024-03", "2024-05"), "both", id="both"),
    ],
)
def test_an_order_that_moves_is_in_one_month_in_every_layer(
    published: Lake, requested: tuple[str, ...], what: str
) -> None:
    """Reading by month alone would leave the old copy and count the revenue twice, or drop it."""
    order = an_order(published, "2024-03")
    move(published, order, "2024-05")

    run = published.materialize(requested[0], requested[-1])

    assert run.success, run.error
    for layer in LAYERS:
        assert published.months_of(layer, f"order_id = {order}") == {"2024-05"}, f"{layer}, requested {what}"
    assert run.published(SERVED) == {"2024-03", "2024-05"}
    prove_whole(published)


def test_a_deleted_order_disappears_from_every_layer(published: Lake) -> None:
    """Nothing marks a delete in the source: only reading its month again shows it."""
    order = an_order(published, "2024-04")
    published.erp("delete from erp.orders where order_id = %s", order)

    run = published.materialize("2024-04")

    assert run.success, run.error
    for layer in LAYERS:
        assert published.months_of(layer, f"order_id = {order}") == set(), layer
    prove_whole(published)


def test_a_month_that_empties_is_served_empty_and_can_be_refilled(published: Lake) -> None:
    """A month without rows has no data file, and must still be known as published, with its epoch."""
    published.erp("create table erp.away as select order_id, order_date from erp.orders "
                  "where to_char(order_date, 'YYYY-MM') = '2024-04'")  # fmt: skip
    published.erp("update erp.orders set order_date = '2026-12-01' where order_id in (select order_id from erp.away)")
    emptied = published.materialize("2024-04")
    assert emptied.success, emptied.error
    assert published.published_kpi("2024-04") == []
    assert published.materialize("2024-04").partitions(KPI, "pruned") == {"2024-04"}
    prove_whole(published)

    published.erp("update erp.orders o set order_date = a.order_date from erp.away a where a.order_id = o.order_id")
    refilled = published.materialize("2024-04")

    assert refilled.success, refilled.error
    assert published.published_kpi("2024-04")
    prove_whole(published)


def test_a_customer_that_changes_nation_recomputes_the_months_of_its_orders(published: Lake) -> None:
    """The nation comes from another table: neither the order nor its stamp changes with it."""
    ((customer, nation, months),) = published.erp(
        "select customer_id, min(nation_id), array_agg(distinct to_char(order_date, 'YYYY-MM')) "
        "from erp.orders join erp.customers using (customer_id) "
        "where to_char(order_date, 'YYYY-MM') = any(%s) group by 1 "
        "having count(distinct to_char(order_date, 'YYYY-MM')) = 2 order by 1 limit 1",
        list(MONTHS),
    )
    published.erp("update erp.customers set nation_id = %s where customer_id = %s", (nation + 1) % 25, customer)

    run = published.materialize(MONTHS[0], MONTHS[-1])

    assert run.success, run.error
    for asset in (ORDERS, SILVER_ORDERS, GDP, KPI, SERVED):
        assert run.published(asset) == set(months), asset
    assert run.published(LINES) == set()
    prove_whole(published)
