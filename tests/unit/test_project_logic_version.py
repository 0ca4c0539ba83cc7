"""U5: a logic version changes when the logic does, and only then."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from project_edits import CONTROL, GDP, GDP_SQL, KPI, LINES, ORDERS, PLATFORM, edit, project

from etl_assets.project import Project, load_project
from etl_assets.project_resolve import resolve_contract
from etl_resources.logic_version import table_logic
from etl_resources.manifest import Calendar, Dataset
from etl_resources.manifest_file import parse_manifest
from tests.projects import SALES

__all__ = ["project"]  # a fixture is used by its name

SAME = {
    "owner": (ORDERS, "team:sales-data", "team:other"),
    "description": (ORDERS, "Order headers of the ERP", "Headers"),
    "description of a column": (GDP, "Day of the order", "Date"),
    "unit": (KPI, "unit: lines", "unit: rows"),
    "runner": (ORDERS, "runner: {class: managed_etl, size: medium, network_profile: private_vpc}\n", ""),
    "secret": (PLATFORM, "env:ERP_DSN", "env:OTHER_DSN"),
    "last partition": (PLATFORM, "end: 2026-07", "end: 2027-07"),
    "first partition of a dataset": (ORDERS, "every: month}", "every: month, start: 2024-01}"),
    "default written out": (GDP, "  version: 1\n", ""),
    "order of values": (ORDERS, "[O, F, P]", "[P, O, F]"),
    "line ends": (GDP_SQL, "l.order_id,\n", "l.order_id,  \r\n"),
}
# fmt: off
OTHER = {
    "sql": (GDP_SQL, "l.discount), 2)::", "l.discount), 3)::", {"gdp.gdp_sales"}),
    "rule": (ORDERS, "check: {ge: 0}", "check: {ge: 1}", {"silver.sales_orders"}),
    "nullable": (GDP, "status: {type: string, nullable: false", "status: {type: string", {"gdp.gdp_sales"}),
    "version": (KPI, "version: 1", "version: 2", {"kpi.kpi_net_revenue"}),
    "key": (GDP, "key: [order_id, line_number]", "key: [order_id]", {"gdp.gdp_sales"}),
    "check": (LINES, '{le: "0.05"}', '{le: "0.06"}', {"silver.sales_lines"}),
    "tolerance": (KPI, 'net_revenue: "0.00"', 'net_revenue: "0.01"', {"kpi.kpi_net_revenue"}),
    "control": (CONTROL, "discount), 2)", "discount), 3)", {"kpi.kpi_net_revenue"}),
    "inherited type": (
        ORDERS, "total_price: decimal(15,2)", "total_price: decimal(16,2)",
        {"bronze.sales_orders", "silver.sales_orders"},
    ),
    "source column": (ORDERS, "    clerk: string\n", "", {"bronze.sales_orders"}),
    "join": (ORDERS, "columns: {nation: name}", "columns: {nation: comment}", {"bronze.sales_orders"}),
}
# fmt: on


def versions(loaded: Project) -> dict[str, str]:
    return {t.name: t.logic_version for t in loaded.tables.values()}


@pytest.mark.parametrize("case", SAME.values(), ids=SAME)
def test_what_decides_nothing_changes_nothing(project: Path, case: tuple[str, str, str]) -> None:
    """A better description must not recompute three years."""
    edit(project / case[0], case[1], case[2])
    after = load_project(project)
    assert versions(after) == versions(PROJECT)
    assert after.serving[0].logic_version == PROJECT.serving[0].logic_version


@pytest.mark.parametrize("case", OTHER.values(), ids=OTHER)
def test_what_decides_a_table_changes_that_table_only(project: Path, case: tuple[str, str, str, set[str]]) -> None:
    """Dependants learn of it through the version of their input, not through their own logic."""
    before = versions(PROJECT)
    edit(project / case[0], case[1], case[2])
    after = versions(load_project(project))
    assert {name for name in after if after[name] != before[name]} == case[3]


@pytest.mark.parametrize(
    "old_new",
    [("time_zone: UTC", "time_zone: Europe/Berlin"), ("fiscal_year_start: 1 ", "fiscal_year_start: 4 ")],
)
def test_the_calendar_decides_every_table(project: Path, old_new: tuple[str, str]) -> None:
    """Another time zone moves rows between partitions."""
    before = versions(PROJECT)
    edit(project / PLATFORM, *old_new)
    after = versions(load_project(project))
    assert all(after[name] != before[name] for name in before)


PROJECT = load_project(SALES)
BRONZE_DIGEST = "a1e9fe887ba531f801e912d8bcc765699334e8aacbca5761b1e3070c6d4cbf23"
SILVER_DIGEST = "dd22169b108e28471d9e269122e6891528e2e6d847963318ecc8ef71cb907449"
CALENDAR = Calendar(start="2024-01", end="2024-12")


def small_version(dataset: Dataset, layer: str) -> str:
    contract = resolve_contract(dataset, layer, CALENDAR)
    return table_logic(layer, dataset, contract, CALENDAR, sql="select 1\n", control_sql=None).version


def test_an_upgrade_of_the_product_keeps_versions() -> None:
    """Other digests make every user recompute everything: that is done on purpose, by raising FORMAT."""
    dataset = parse_manifest(SMALL_MANIFEST, Path("m.yaml"), Dataset).model
    assert small_version(dataset, "bronze") == BRONZE_DIGEST
    assert small_version(dataset, "silver") == SILVER_DIGEST


SMALL_MANIFEST = """
dataset: orders
owner: team:a
tenant: acme
description: Orders.
partitions: {by: day, every: month}
source:
  kind: postgres
  system: erp
  table: erp.orders
  key: [id]
  joins: [{table: erp.days, on: {id: id, k: id}, columns: {day: day}}]
  columns: {id: bigint, day: date, price: "decimal(15,2)"}
bronze: {}
silver:
  key: [id]
  columns:
    id: {nullable: false}
    day: {nullable: false}
    price: {check: {ge: 0, le: "10.5"}}
  checks: [{rejected_share: {le: "0.05"}}, {rows: {ge: 1}}]
"""


def shuffled(value: Any, random: Random) -> Any:
    """The same mappings with their keys in another order, except where order is the contract's."""
    if isinstance(value, dict):
        names = random.sample(list(value), len(value))
        return {n: shuffled(value[n], random) if n != "columns" else value[n] for n in names}
    return [shuffled(v, random) for v in value] if isinstance(value, list) else value


def test_the_order_of_fields_decides_nothing() -> None:
    """Tidying up a manifest is no change; the order of columns is, as content hashes follow it."""
    written = yaml.safe_load(SMALL_MANIFEST.replace(", on:", ', "on":'))
    for seed in range(20):
        plain = shuffled(written, Random(seed))
        dataset = parse_manifest(json.dumps(plain), Path("m.yaml"), Dataset).model
        assert small_version(dataset, "bronze") == BRONZE_DIGEST
        assert small_version(dataset, "silver") == SILVER_DIGEST
