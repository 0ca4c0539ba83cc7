"""What SELECTION means: names, layers, datasets, and what is upstream or downstream of them."""

import pytest

from etl_assets.backfill.closure_nodes import closure_nodes, datasets_of
from etl_assets.backfill.selection import select
from etl_assets.project import Project, load_project
from etl_resources.errors import PermanentError


@pytest.fixture(scope="module")
def project() -> Project:
    return load_project()


def chosen(project: Project, *terms: str) -> set[str]:
    return set(select(closure_nodes(project), datasets_of(project), terms))


def test_names_layers_and_datasets(project: Project) -> None:
    """What people call things."""
    assert chosen(project, "gdp.gdp_sales") == chosen(project, "gdp/gdp_sales") == {"gdp.gdp_sales"}
    assert chosen(project, "sales_orders") == {"bronze.sales_orders", "silver.sales_orders"}
    assert chosen(project, "gdp_orders") == {"gdp.gdp_orders", "elasticsearch.orders"}
    assert chosen(project, "kpi") == {n for n in project.tables if n.startswith("kpi.")}
    assert chosen(project, "serving") == {n.name for n in project.serving}
    assert chosen(project, "*") == chosen(project, "all") == {*project.tables, *(n.name for n in project.serving)}
    assert chosen(project, "gdp.gdp_sales,sales_orders") == chosen(project, "gdp.gdp_sales", "sales_orders")


def test_upstream_and_downstream(project: Project) -> None:
    """As Dagster writes it, lookups included."""
    upstream = chosen(project, "+gdp.gdp_sales")
    assert {"bronze.sales_orders", "silver.currency_rates", "bronze.customers"} <= upstream
    assert not any(n.startswith("kpi.") for n in upstream)
    downstream = chosen(project, "gdp.gdp_sales+")
    assert {"kpi.kpi_net_revenue", "postgres.analytics.kpi_net_revenue"} <= downstream
    assert "silver.sales_orders" not in downstream
    assert chosen(project, "+gdp.gdp_sales+") == upstream | downstream
    assert chosen(project, "1+silver.sales_orders") == {"bronze.sales_orders", "silver.sales_orders"}
    assert chosen(project, "0+silver.sales_orders") == {"silver.sales_orders"}


def test_inputs_come_first(project: Project) -> None:
    """The order in which they are computed."""
    order = select(closure_nodes(project), datasets_of(project), ["*"])
    position = {name: i for i, name in enumerate(order)}
    assert all(position[u] < position[n.name] for n in closure_nodes(project) for u in n.upstream)


@pytest.mark.parametrize(
    ("term", "told"),
    [("gdp.gdp_sale", "did you mean 'gdp.gdp_sales'"), ("a++b", "is no selection"), (" ", "Nothing is selected")],
)
def test_what_is_not_there_is_told(project: Project, term: str, told: str) -> None:
    """A selection that silently selects nothing computes nothing."""
    with pytest.raises(PermanentError, match=told):
        chosen(project, term)
