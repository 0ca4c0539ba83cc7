"""The whole example on real servers: three sources, euros to the cent, and what a change of a source changes."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal

import pytest

from etl_assets.demo.run import SEARCH
from etl_assets.verify import verify
from etl_resources.calendar import WHOLE
from tests.integration.example import MONTHS, Example
from tests.integration.oracle_eur import Group, Line, Revenue, net_revenue_eur, sum_of
from tests.lake import Run

pytest_plugins = ["tests.lake", "tests.integration.example"]

NO_RATE = "no exchange rate at most 10 days before the order"
CUSTOMERS, RATES, SALES, ORDERS = "silver/customers", "silver/currency_rates", "gdp/gdp_sales", "gdp/gdp_orders"
FEATURES, REVENUE, GROWTH = "gdp/customer_features", "kpi/kpi_net_revenue", "kpi/kpi_revenue_growth"
SHIPPING, TOP = "kpi/kpi_on_time_shipping", "kpi/kpi_top_customers"
CUSTOMER_MONTHS = "gdp/gdp_customer_months"
JANUARY, FEBRUARY = MONTHS[1], MONTHS[2]


def published_revenue(example: Example) -> dict[Group, Revenue]:
    rows = example.lake.platform(
        "select month, segment, nation, currency, orders, lines, net_revenue, net_revenue_eur "
        "from analytics.kpi_net_revenue"
    )
    return {Group(*row[:4]): Revenue(*row[4:]) for row in rows}


def without_rate(example: Example) -> dict[str, tuple[int, Decimal]]:
    """Month → lines and net amounts of the dead letters of gdp_sales."""
    rows = example.lake.dead_letters(
        "partition, count(*), sum((payload ->> '$.net_amount')::decimal(38,10))",
        f"asset = 'gdp.gdp_sales' and reason = '{NO_RATE}' group by 1",
    )
    return {month: (count, net) for month, count, net in rows}


def prove_equal_to_the_oracle(example: Example) -> None:
    """Every month, segment, nation and currency; what isn't published has no rate and is set aside, to the cent."""
    lines = example.oracle()
    assert published_revenue(example) == net_revenue_eur(lines)
    missed = [line for line in lines if line.eur is None]
    assert without_rate(example) == {
        month: (len(found), sum_of(x.net for x in found))
        for month in MONTHS
        if (found := [x for x in missed if f"{x.group.month:%Y-%m}" == month])
    }
    report = verify(example.lake.runtime, (), (), lambda _: None)
    assert report.equal, "\n".join(report.lines())


def best_customers(lines: Iterable[Line]) -> list[tuple[int, Decimal]]:
    """The ten who spent most euros."""
    spent: dict[int, Decimal] = defaultdict(Decimal)
    for line in lines:
        spent[line.customer_id] += line.eur or 0
    return sorted(spent.items(), key=lambda item: (-item[1], item[0]))[:10]


def changed(run: Run) -> dict[str, set[str]]:
    """Asset → partitions of which the run published new content; bronze and served copies left out."""
    tables = (CUSTOMERS, RATES, SALES, ORDERS, CUSTOMER_MONTHS, FEATURES, REVENUE, GROWTH, SHIPPING, TOP)
    return {asset: run.published(asset) for asset in tables if run.published(asset)}


def test_the_kpi_in_euros_is_the_oracles_to_the_cent(example: Example) -> None:
    """Three sources, one number: against SQL in the ERP and the bank's own file, without any code of the product."""
    prove_equal_to_the_oracle(example)
    missed = {line.group.currency for line in example.oracle() if line.eur is None}
    assert missed == {"RUB"}


def test_the_other_kpis_are_the_oracles(example: Example) -> None:
    """Growth, shipping and the best customers come from the same lines."""
    lines = [line for line in example.oracle() if line.eur is not None]
    months = sorted({line.group.month for line in lines})
    of_month = {month: [line for line in lines if line.group.month == month] for month in months}
    euros = [sum_of(line.eur for line in of_month[month]) for month in months]
    shipped = [(len(found), sum(line.on_time for line in found)) for found in of_month.values()]

    assert example.lake.platform(
        "select month, sum(net_revenue_eur), sum(previous_net_revenue_eur) from analytics.kpi_revenue_growth "
        "group by 1 order by 1"
    ) == list(zip(months, euros, [None, *euros[:-1]], strict=True))
    assert (
        example.lake.platform(
            "select sum(lines), sum(on_time_lines) from analytics.kpi_on_time_shipping group by month order by month"
        )
        == shipped
    )
    for covered, month in enumerate(months, start=1):
        assert example.lake.platform(
            "select customer_id, net_revenue_eur, months_covered from analytics.kpi_top_customers "
            "where month = %s order by rank",
            month,
        ) == [(*best, covered) for best in best_customers(line for line in lines if line.group.month <= month)]


def test_orders_and_customers_are_found_in_elasticsearch(example: Example) -> None:
    """A document per order and one per customer, with the euros of the oracle; verify rereads their content."""
    if not example.searched:
        pytest.skip("no Elasticsearch")
    orders = {line.order_id for line in example.oracle() if line.eur is not None}
    sinks = {
        n.name: example.lake.runtime.search_sink(n) for n in example.lake.runtime.project.serving if SEARCH in n.name
    }
    client = sinks["elasticsearch.orders"].client
    assert client.count(index="orders")["count"] == len(orders)
    assert client.count(index="customers")["count"] == len(example.lake.rows(CUSTOMERS, "distinct customer_id"))


def test_a_second_run_looks_at_three_sources_and_changes_nothing(example: Example) -> None:
    """Unpartitioned tables, lookups and windows prune as months do."""
    run = example.run()
    assert {s for statuses in run.statuses.values() for s in statuses.values()} == {"pruned"}


def test_a_customer_without_orders_reaches_only_the_customers(example: Example) -> None:
    """Months depend on the customers that they looked up: an unrelated one recomputes none of them."""
    example.drop_customers("new.jsonl.gz", example.customer(1, customer_id=10_000_000, name="New"))

    run = example.run()

    assert changed(run) == {CUSTOMERS: {WHOLE}, FEATURES: {WHOLE}}
    assert run.partitions(SALES, "pruned") == set(MONTHS)
    assert example.lake.rows(FEATURES, "name, orders", "customer_id = 10000000") == [("New", 0)]
    prove_equal_to_the_oracle(example)


def test_a_customer_who_moves_changes_the_orders_from_that_day(example: Example) -> None:
    """As of the order date: January keeps what held in January, in the warehouse as in the books."""
    ((customer,),) = example.lake.erp(
        "select min(a.customer_id) from erp.orders a join erp.orders b using (customer_id) "
        "where a.currency = 'USD' and to_char(a.order_date, 'YYYY-MM') = %s and to_char(b.order_date, 'YYYY-MM') = %s",
        JANUARY,
        FEBRUARY,
    )
    before = published_revenue(example)
    example.drop_customers("moved.jsonl.gz", example.customer(customer, segment="SPACE", valid_from="2024-02-01"))

    run = example.run()

    assert changed(run) == {
        CUSTOMERS: {WHOLE}, FEATURES: {WHOLE}, SALES: {FEBRUARY}, ORDERS: {FEBRUARY}, REVENUE: {FEBRUARY},
        CUSTOMER_MONTHS: {FEBRUARY}, GROWTH: {FEBRUARY},
    } | {asset: run.published(asset) for asset in (TOP,) if run.published(asset)}  # fmt: skip
    assert run.partitions(SHIPPING, "unchanged") == {FEBRUARY}
    after = published_revenue(example)
    assert {g.month for g in before.keys() ^ after.keys()} == {date(2024, 2, 1)}
    assert {g.segment for g in after.keys() - before.keys()} == {"SPACE"}
    assert sum_of(r.eur for r in after.values()) == sum_of(r.eur for r in before.values())
    example.remove_customers("moved.jsonl.gz")
    example.run()
    prove_equal_to_the_oracle(example)


def test_a_rate_brings_back_the_orders_that_missed_it(example: Example) -> None:
    """Nothing is lost by waiting: dead letters turn into sales by themselves, in their month only."""
    missed = without_rate(example)
    ((day,),) = example.lake.erp(
        "select min(order_date) from erp.orders "
        "where currency = 'RUB' and order_date between '2024-01-05' and '2024-01-20'"
    )
    example.add_rate(day - timedelta(days=2), "RUB", "98.75")

    run = example.run()

    assert changed(run).items() >= {
        RATES: {WHOLE}, SALES: {JANUARY}, ORDERS: {JANUARY}, CUSTOMER_MONTHS: {JANUARY}, REVENUE: {JANUARY},
        GROWTH: {JANUARY, FEBRUARY},
    }.items()  # fmt: skip
    assert run.partitions(SALES, "pruned") == {MONTHS[0], FEBRUARY}
    assert without_rate(example).get(JANUARY, (0,))[0] < missed[JANUARY][0]
    prove_equal_to_the_oracle(example)


def test_a_rate_that_nobody_needs_recomputes_nothing(example: Example) -> None:
    """The bank publishes thirty currencies a day; the sales need ten of them."""
    example.add_rate(date(2024, 1, 6), "CHF", "0.95")

    run = example.run()

    assert changed(run) == {RATES: {WHOLE}}
