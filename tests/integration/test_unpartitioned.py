"""Tables without partitions beside monthly ones, in one job and one run: source, silver, gdp, Postgres, verify."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_assets.verify import verify
from etl_resources.calendar import WHOLE
from tests.lake import Lake, new_lake
from tests.projects import NATIONS

pytest_plugins = ["tests.lake"]

MONTHS = ("2024-03", "2024-04")
WHOLE_ASSETS = ("bronze/nations", "silver/nations", "gdp/gdp_nations", "postgres/analytics/gdp_nations")
MONTHLY_ASSETS = ("bronze/orders", "silver/orders", "gdp/gdp_orders", "postgres/analytics/gdp_orders")
EVERYTHING = {**{a: {WHOLE} for a in WHOLE_ASSETS}, **{a: set(MONTHS) for a in MONTHLY_ASSETS}}
"""Asset → its partitions."""


@pytest.fixture
def lake(stack: object, tmp_path: Path) -> Iterator[Lake]:
    with new_lake(tmp_path, project=NATIONS) as made:
        yield made


@pytest.fixture
def published(lake: Lake) -> Lake:
    """Two months, and the table of nations."""
    run = lake.materialize(*MONTHS)
    assert run.success, run.error
    assert {a: run.published(a) for a in EVERYTHING} == EVERYTHING
    return lake


def prove_right(lake: Lake) -> None:
    """What is served is what the source says, and every store holds what was published."""
    assert lake.platform("select nation_id, nation from analytics.gdp_nations order by 1") == lake.erp(
        "select nation_id, name from erp.nations order by 1"
    )
    assert lake.platform("select order_id, nation from analytics.gdp_orders order by 1") == lake.erp(
        "select order_id, n.name from erp.orders join erp.customers using (customer_id) join erp.nations n "
        "using (nation_id) where to_char(order_date, 'YYYY-MM') = any(%s) order by 1",
        list(MONTHS),
    )
    report = verify(lake.runtime, (), (), lambda _: None)
    assert report.equal, "\n".join(report.lines())


def test_a_run_of_a_range_publishes_whole_tables_once_and_months_each(published: Lake) -> None:
    """The same run, asked for again, prunes everything: a whole table has a token and a version like any partition."""
    prove_right(published)
    again = published.materialize(*MONTHS)
    assert again.success, again.error
    assert {a: again.partitions(a, "pruned") for a in EVERYTHING} == EVERYTHING


def test_a_change_of_a_whole_table_reaches_every_month_that_reads_it(published: Lake) -> None:
    """A month reads the whole table, so its token holds the whole table's version; rows that vanish, vanish."""
    published.erp("update erp.nations set name = 'CATHAY' where name = 'CHINA'")
    run = published.materialize(*MONTHS)
    assert run.success, run.error
    assert run.published("gdp/gdp_nations") == {WHOLE}
    assert run.published("gdp/gdp_orders") == set(MONTHS)
    assert run.partitions("bronze/orders", "pruned") == set(MONTHS)
    prove_right(published)
