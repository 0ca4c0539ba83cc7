"""The project as the graph sees it: order, contracts, controls, and all problems at once."""

from pathlib import Path

import pytest
from project_edits import GDP_SQL, KPI, LINES, ORDERS, PLATFORM, edit, errors_of, project

from etl_assets.project import load_project
from tests.projects import SALES

__all__ = ["project"]  # a fixture is used by its name


def test_tables_come_after_what_they_read() -> None:
    """The graph is built in one pass over tables."""
    loaded = load_project(SALES)
    seen: set[str] = set()
    for name, table in loaded.tables.items():
        assert set(table.inputs) <= seen
        assert table.name == name
        seen.add(name)
    assert {"bronze.sales_lines", "silver.sales_orders", "gdp.gdp_sales", "kpi.kpi_net_revenue"} <= seen


def test_inputs_come_in_order_of_first_use() -> None:
    """The first input is the one that a reader of the SQL sees first."""
    assert load_project(SALES).tables["gdp.gdp_sales"].inputs == ("silver.sales_lines", "silver.sales_orders")


def test_bronze_requires_only_what_identifies_and_places_a_row() -> None:
    """Bronze is as delivered: a null elsewhere is for silver to judge."""
    contract = load_project(SALES).tables["bronze.sales_lines"].contract
    required = {c.name for c in contract.columns if not c.nullable}
    assert required == {"order_id", "line_number", "order_date"}
    assert contract.names[:3] == ("order_id", "line_number", "order_date")
    assert contract.partition_column == "order_date"


def test_silver_inherits_types_of_the_source() -> None:
    """A type is written once."""
    columns = {c.name: c for c in load_project(SALES).tables["silver.sales_lines"].contract.columns}
    assert columns["quantity"].type == "decimal(15,2)"
    assert columns["quantity"].unit == "pieces"


def test_serving_takes_the_key_of_the_last_layer() -> None:
    """A target says only what differs."""
    (serving,) = load_project(SALES).serving
    assert serving.name == "postgres.analytics.kpi_net_revenue"
    assert serving.key == ("month", "nation", "currency")


def test_controls_are_found_by_system() -> None:
    """The capture of a system takes exactly its own control totals."""
    loaded = load_project(SALES)
    assert list(loaded.controls("erp", "month")) == ["kpi_net_revenue"]
    assert "%(start)s" in loaded.controls("erp", "month")["kpi_net_revenue"]
    assert loaded.controls("crm", "month") == loaded.controls("erp", "day") == {}


def test_all_problems_of_all_files_come_at_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who fixes a list is done in one go; one error per run takes as many runs."""
    monkeypatch.chdir(project)
    edit(project / ORDERS, "tenant: acme", "tenant: other")
    edit(project / LINES, "system: erp", "system: crm")
    edit(project / KPI, "tenant: acme", "tennant: acme")
    edit(project / GDP_SQL, "l.part_id", "l.part")
    found = errors_of(project)
    files = [e.split(":")[0].removeprefix("datasets/") for e in found]
    assert list(dict.fromkeys(files)) == [
        "gdp_sales/gdp_sales.sql",
        "kpi_net_revenue/manifest.yaml",
        "sales_lines/manifest.yaml",
        "sales_orders/manifest.yaml",
    ]


def test_a_file_that_cannot_be_read_makes_no_errors_elsewhere(project: Path) -> None:
    """One mistake is one line, even when others read the broken dataset."""
    edit(project / LINES, "tenant: acme\n", "")
    (only,) = errors_of(project)
    assert only.endswith(
        "sales_lines/manifest.yaml:1: tenant is missing: give a name: lower case letters, digits and _"
    )


def test_a_broken_platform_file_is_reported_with_broken_manifests(project: Path) -> None:
    """Nothing can be checked against a platform that can't be read, but files are still read."""
    edit(project / PLATFORM, "fiscal_year_start: 1 ", "fiscal_year_start: 13 ")
    edit(project / ORDERS, "tenant: acme\n", "")
    found = errors_of(project)
    assert len(found) == 2
    assert found[1].endswith(
        "calendar.fiscal_year_start: 13 is not valid; expected a whole number, at least 1, at most 12"
    )


def test_a_dataset_is_declared_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copied folder whose name was not changed inside would take over the original's tables."""
    monkeypatch.chdir(project)
    (project / "datasets" / "sales_orders_2").mkdir()
    (project / "datasets" / "sales_orders_2" / "manifest.yaml").write_text((project / ORDERS).read_text())
    assert errors_of(project) == [
        "datasets/sales_orders_2/manifest.yaml:1: dataset 'sales_orders' is also declared in "
        "datasets/sales_orders/manifest.yaml: a name is given once"
    ]


def test_a_folder_without_manifest_is_an_error(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forgotten file must not make a dataset vanish."""
    monkeypatch.chdir(project)
    (project / "datasets" / "customers").mkdir()
    assert errors_of(project) == ["datasets/customers/manifest.yaml: can't be read: No such file or directory"]


def test_a_missing_project_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong path is said, not taken for an empty project."""
    monkeypatch.chdir(tmp_path)
    assert errors_of(tmp_path) == ["platform.yaml: can't be read: No such file or directory"]
