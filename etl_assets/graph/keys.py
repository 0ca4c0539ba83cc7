"""Asset keys, groups and column schema, computed from layer and dataset."""

from collections.abc import Mapping

import dagster as dg

from etl_resources.calendar import Every
from etl_resources.contract import Contract
from etl_resources.ledger.lineage import delivered_asset, source_asset
from etl_resources.manifest import Dataset
from etl_resources.manifest_sources import PostgresSource

SOURCES, SERVING = "sources", "serving"


def table_key(name: str) -> dg.AssetKey:
    """silver.sales_orders → silver/sales_orders."""
    return dg.AssetKey(name.split("."))


def serving_key(name: str) -> dg.AssetKey:
    """postgres.analytics.kpi_net_revenue → postgres/analytics/kpi_net_revenue."""
    return dg.AssetKey(name.split("."))


def asset_key(name: str) -> dg.AssetKey:
    """Of a table or a target."""
    return dg.AssetKey(name.split("."))


def source_key(system: str, table: str) -> dg.AssetKey:
    """erp, erp.orders → erp/orders."""
    return dg.AssetKey([system, table.split(".")[-1]])


def source_input(dataset: Dataset) -> str:
    """Name of a dataset's source as an input: erp/erp.orders, or crm:customers where it is delivered by itself.

    Tables of a system with a `/` must come from one capture; deliveries know nothing of each other.
    """
    source = dataset.source
    if source is None:
        raise ValueError(f"{dataset.dataset} has no source.")
    if isinstance(source, PostgresSource):
        return source_asset(source.system, dataset.source_name)
    return delivered_asset(source.system, dataset.source_name)


def capture_step(system: str, every: Every | None) -> str:
    """Name of the step that captures tables of a system together: those of one grain, or without partitions."""
    ends: Mapping[Every | None, str] = {"month": "", None: "_whole"}
    return f"capture_{system}" + ends.get(every, f"_by_{every}")


def column_schema(contract: Contract, sensitive: Mapping[str, str]) -> dg.TableSchema:
    """The contract as the web UI shows it. sensitive: column → how it is made of sensitive ones, for a tag."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                c.name,
                type=c.type,
                description=" ".join(filter(None, [c.description, f"[{c.unit}]" if c.unit else None])) or None,
                constraints=dg.TableColumnConstraints(nullable=c.nullable, unique=contract.key == (c.name,)),
                tags={"sensitive": sensitive[c.name].replace(" ", "_")} if c.name in sensitive else None,
            )
            for c in contract.columns
        ]
    )
