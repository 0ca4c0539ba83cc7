"""Columns of a contract that are renamed, taken away and put back: no reader finds nulls in place of values."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lake import Lake, new_lake
from tests.projects import NATIONS

pytest_plugins = ["tests.lake"]

MONTHS = ("2024-03", "2024-04")
ORDERS, NAMES = "gdp/gdp_orders", "gdp/gdp_nations"


@pytest.fixture(scope="module")
def lake(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Two months and the tables without partitions, by the manifests as they are."""
    with new_lake(tmp_path_factory.mktemp("lake"), project=NATIONS) as lake:
        run = lake.materialize(*MONTHS)
        assert run.success, run.error
        yield lake


def changed(lake: Lake, name: str, file: str, before: str, after: str) -> str:
    """Folder of a copy of the project in which a file of a dataset is another."""
    folder = lake.home / name
    if not folder.exists():
        shutil.copytree(NATIONS, folder)
    path = Path(folder, "datasets", file)
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    return str(folder)


def test_a_renamed_column_has_its_values_under_the_new_name(lake: Lake) -> None:
    """The rows are the same, text for text; only rows that are written again are found under the new name."""
    changed(lake, "renamed", "gdp_nations/manifest.yaml", "    nation: {", "    english: {")
    project = changed(lake, "renamed", "gdp_nations/gdp_nations.sql", "as nation", "as english")
    wanted = lake.erp("select nation_id, name from erp.nations order by 1")
    lake.platform("alter table analytics.gdp_nations alter column nation drop not null")

    run = lake.materialize(MONTHS[0], selection=[NAMES, "postgres/analytics/gdp_nations"], ETL_PROJECT=project)

    assert run.success, run.error
    assert run.statuses[NAMES] == {"all": "published"}
    assert lake.platform("select nation_id, english from analytics.gdp_nations order by 1") == wanted


def swapped(lake: Lake, first: str, second: str) -> str:
    """A project in which the first column is the order's number and the second its negative; gdp reads `plus`."""
    price = "case when o.plus > 0 then o.total_price end as total_price"
    folder = Path(changed(lake, first, "gdp_orders/gdp_orders.sql", "o.total_price", price))
    sql = f"select order_id, nation_id, order_date, total_price, order_id as {first}, -order_id as {second}"
    (folder / "datasets/orders/silver.sql").write_text(f"{sql} from bronze.orders")
    manifest = folder / "datasets/orders/manifest.yaml"
    columns = "".join(f"    {name}: {{type: bigint, description: x}}\n" for name in (first, second))
    text = manifest.read_text().rstrip().replace("silver:\n", "silver:\n  sql: silver.sql\n")
    manifest.write_text(f"{text}\n{columns}")
    return str(folder)


def test_two_columns_that_swap_their_names_reach_those_that_read_them(lake: Lake) -> None:
    """The reader's SQL is the same and so are all values, but not what they are called."""
    chosen = ["silver/orders", ORDERS]
    before = lake.materialize(*MONTHS, selection=chosen, ETL_PROJECT=swapped(lake, "plus", "minus"))
    assert before.success, before.error

    run = lake.materialize(*MONTHS, selection=chosen, ETL_PROJECT=swapped(lake, "minus", "plus"))

    assert run.success, run.error
    assert run.published("silver/orders") == set(MONTHS)
    assert run.published(ORDERS) == set(MONTHS)
    assert lake.dead_letters("count(*)", "asset = 'gdp.gdp_orders'") != [(0,)]


def test_a_column_that_is_put_back_has_its_values_in_partitions_that_were_not_computed_meanwhile(lake: Lake) -> None:
    """A manifest is deployed without it, one month is run, and the manifest is set back: the others are current."""
    assert lake.materialize(*MONTHS).success
    without = changed(
        lake, "without", "gdp_orders/manifest.yaml",
        '    total_price: {type: "decimal(15,2)", nullable: false, description: Price}\n', "",
    )  # fmt: skip
    changed(lake, "without", "gdp_orders/gdp_orders.sql", ", o.total_price", "")
    assert lake.materialize(MONTHS[0], selection=[ORDERS], ETL_PROJECT=without).success

    run = lake.materialize(*MONTHS, selection=[ORDERS])

    assert run.success, run.error
    assert run.statuses[ORDERS] == {MONTHS[0]: "published", MONTHS[1]: "pruned"}
    months = "to_char(order_date, 'YYYY-MM') = any(%s)"
    assert sorted(lake.rows(ORDERS, "order_id, total_price")) == lake.erp(
        f"select order_id, total_price from erp.orders where {months} order by 1", list(MONTHS)
    )
