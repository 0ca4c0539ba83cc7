"""Rows that break the contract: kept with their reason, never counted, and never hidden behind a published KPI."""

import json
from typing import Any

import psycopg
import pytest

from etl_assets.graph.audits import audit_declared
from etl_assets.letters.choice import Choice
from etl_assets.letters.listing import list_groups
from etl_resources.quality.audit import CheckResult
from tests.invariants import prove_nothing_left, prove_serving, prove_tables, prove_whole
from tests.lake import GDP, KPI, SERVED, SILVER_LINES, SILVER_ORDERS, Lake

pytest_plugins = ["tests.lake"]

MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04")


@pytest.fixture(scope="module")
def published(module_lake: Lake) -> Lake:
    run = module_lake.materialize(MONTHS[0], MONTHS[-1])
    assert run.success, run.error
    return module_lake


def orders_of(lake: Lake, month: str, count: int) -> list[int]:
    return [
        order
        for (order,) in lake.erp(
            "select order_id from erp.orders where to_char(order_date, 'YYYY-MM') = %s order by 1 limit %s",
            month,
            count,
        )
    ]


def dead_letters(lake: Lake, asset: str) -> list[tuple[str, int, str, dict[str, object]]]:
    """(partition, order, reason, payload) of what is visible."""
    return [
        (partition, json.loads(key)["order_id"], reason, json.loads(payload))
        for partition, key, reason, payload in lake.dead_letters(
            "partition, key, reason, payload", f"asset = '{asset}'"
        )
    ]


def test_a_bad_order_is_kept_as_dead_letter_and_holds_its_months_kpi_back(published: Lake) -> None:
    """A wrong KPI is worse than an old one: the month waits until the source is corrected, the others go on."""
    (negative,), (status,), (currency,) = (orders_of(published, m, 1) for m in MONTHS[:3])
    lines = dict(published.erp("select order_id, count(*) from erp.order_lines group by 1"))
    ((price, old_status, old_currency),) = published.erp(
        "select (select total_price from erp.orders where order_id = %s), "
        "(select status from erp.orders where order_id = %s), (select currency from erp.orders where order_id = %s)",
        negative, status, currency,
    )  # fmt: skip
    before = published.published_kpi(*MONTHS[:3])
    published.erp("update erp.orders set total_price = -1 where order_id = %s", negative)
    published.erp("update erp.orders set status = 'X' where order_id = %s", status)
    published.erp("update erp.orders set currency = 'EURO' where order_id = %s", currency)
    published.erp(
        "update erp.order_lines set extended_price = extended_price + 1 where order_id = %s",
        orders_of(published, MONTHS[3], 1)[0],
    )

    run = published.materialize(MONTHS[0], MONTHS[-1])

    assert not run.success
    assert "kpi.kpi_net_revenue: 3 of 4 partitions failed" in run.error
    assert "2024-01: kpi.kpi_net_revenue, partition 2024-01 failed its audit: reconciled" in run.error
    assert run.published(KPI) == {MONTHS[3]}
    assert published.published_kpi(*MONTHS[:3]) == before
    found = dead_letters(published, "silver.sales_orders")
    assert [(p, o, r) for p, o, r, _ in found] == [
        ("2024-01", negative, "total_price is not >= 0"),
        ("2024-02", status, "status is not one of O, F, P"),
        ("2024-03", currency, "currency does not match [A-Z]{3}"),
    ]
    assert found[0][3]["total_price"] == -1
    assert found[1][3]["status"] == "X"
    orphans = dead_letters(published, "gdp.gdp_sales")
    assert [o for _, o, *_ in orphans] == [o for o in (negative, status, currency) for _ in range(lines[o])]
    assert all("customer_id is null" in reason for _, _, reason, _ in orphans)
    prove_tables(published)

    good = published.materialize(MONTHS[3])
    assert good.success, good.error
    assert good.published(SERVED) == {MONTHS[3]}
    assert published.published_kpi(MONTHS[3]) == published.oracle(MONTHS[3])

    published.erp("update erp.orders set total_price = %s where order_id = %s", price, negative)
    published.erp("update erp.orders set status = %s where order_id = %s", old_status, status)
    published.erp("update erp.orders set currency = %s where order_id = %s", old_currency, currency)
    corrected = published.materialize(MONTHS[0], MONTHS[-1])
    assert corrected.success, corrected.error
    assert dead_letters(published, "silver.sales_orders") == []
    assert dead_letters(published, "gdp.gdp_sales") == []
    prove_whole(published)


def test_a_month_with_too_many_bad_rows_fails_before_it_is_published(published: Lake) -> None:
    """5 % of rejected rows is no data quality problem but a broken source: the old content stays."""
    published.erp("create table erp.kept as select order_id, status from erp.orders "
                  "where to_char(order_date, 'YYYY-MM') = '2024-02'")  # fmt: skip
    published.erp("update erp.orders set status = '?' where order_id in (select order_id from erp.kept where "
                  "order_id %% 5 = 0)".replace("%%", "%"))  # fmt: skip

    run = published.materialize("2024-02", "2024-03")

    assert not run.success
    assert "silver.sales_orders, partition 2024-02 failed its audit: rejected_share" in run.error
    assert "dead-letters list silver.sales_orders --status refused" in run.error
    (refused,) = list_groups(published.runtime, Choice(["silver.sales_orders"]), ["refused"], 10, by_partition=True)
    assert (refused.partition, refused.rule, refused.column) == ("2024-02", "isin", "status")
    assert dead_letters(published, "silver.sales_orders") == [], "what is published rejected none"
    assert "2024-02" not in run.statuses[SILVER_ORDERS]
    assert run.partitions(SILVER_ORDERS, "pruned") == {"2024-03"}
    assert run.partitions(SILVER_LINES, "pruned") == {"2024-02", "2024-03"}
    assert GDP not in run.statuses
    prove_tables(published)
    prove_serving(published)
    prove_nothing_left(published)

    published.erp("update erp.orders o set status = k.status from erp.kept k where k.order_id = o.order_id")
    repaired = published.materialize("2024-02", "2024-03")
    assert repaired.success, repaired.error
    prove_whole(published)


def test_an_error_of_a_library_concerns_its_partition_alone(published: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """One value that a database can't hold must not keep the other months from being published."""
    orders = [orders_of(published, month, 1)[0] for month in MONTHS[:2]]
    change = "update erp.orders set total_price = total_price + %s where order_id = any(%s)"
    published.erp(change, 1, orders)

    def audited(*arguments: Any) -> list[CheckResult]:
        _, _, node, partition, *_ = arguments
        if (node.name, partition) == ("silver.sales_orders", MONTHS[0]):
            raise psycopg.errors.UntranslatableCharacter("unsupported Unicode escape sequence")
        return audit_declared(*arguments)

    with monkeypatch.context() as m:
        m.setattr("etl_assets.graph.table_step.audit_declared", audited)
        run = published.materialize(*MONTHS[:2])

    assert not run.success
    assert "silver.sales_orders: 1 of 2 partitions failed, the others are published. 2024-01: " in run.error
    assert run.published(SILVER_ORDERS) == {MONTHS[1]}
    published.erp(change, -1, orders)
    again = published.materialize(*MONTHS[:2])
    assert again.success, again.error
    prove_whole(published)


@pytest.mark.parametrize(
    ("breaks", "repairs", "expected"),
    [
        pytest.param(
            "alter table erp.order_lines alter extended_price type numeric",
            "alter table erp.order_lines alter extended_price type numeric(15,2)",
            "erp.order_lines: extended_price is numeric without precision in the source and decimal(15,2) in the "
            "manifest",
            id="numeric without precision",
        ),
        pytest.param(
            "alter table erp.orders disable trigger user; update erp.orders set updated_at = 'infinity' where "
            "order_id = (select min(order_id) from erp.orders where to_char(order_date, 'YYYY-MM') = '2024-03')",
            "update erp.orders set updated_at = now() where updated_at = 'infinity'; "
            "alter table erp.orders enable trigger user",
            "erp.orders, partition 2024-03: 1 rows have a date outside of the years 1 to 9999, or a number that is "
            "NaN, in updated_at:",
            id="infinite stamp",
        ),
        pytest.param(
            "create table erp.kept_lines as select * from erp.order_lines where order_id = (select min(order_id) from "
            "erp.orders where to_char(order_date, 'YYYY-MM') = '2024-03'); "
            "update erp.order_lines l set extended_price = 'NaN' from erp.kept_lines k where l.order_id = k.order_id",
            "update erp.order_lines l set extended_price = k.extended_price from erp.kept_lines k "
            "where (l.order_id, l.line_number) = (k.order_id, k.line_number); drop table erp.kept_lines",
            "a number that is NaN, in extended_price: no table holds them",
            id="NaN",
        ),
    ],
)  # fmt: skip
def test_a_source_value_that_would_silently_change_is_refused(
    published: Lake, breaks: str, repairs: str, expected: str
) -> None:
    """They arrive as something else without a word: a double that loses cents, the year 9999, and 0."""
    published.erp(breaks)
    try:
        run = published.materialize("2024-03")
    finally:
        published.erp(repairs)

    assert not run.success
    assert expected in run.errors[0]
    assert "\n" not in run.errors[0]
    again = published.materialize("2024-03")
    assert again.success, again.error
    prove_whole(published)
