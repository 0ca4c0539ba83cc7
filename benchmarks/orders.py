"""TPC-H's orders, as the benchmarks of the serving stores load them."""

from pathlib import Path

import duckdb

from etl_assets.demo.tpch import generate
from etl_resources.contract import Contract, ContractColumn
from etl_resources.tables.schema import duckdb_type

CONTRACT = Contract(
    tuple(
        ContractColumn(name, kind, nullable=name != "order_id")
        for name, kind in {
            "order_id": "bigint",
            "customer_id": "bigint",
            "status": "string",
            "total_price": "decimal(15,2)",
            "order_date": "date",
            "priority": "string",
            "clerk": "string",
            "ship_priority": "int",
            "note": "string",
        }.items()
    ),
    ("order_id",),
    "order_date",
)


def orders(folder: Path, scale: float) -> duckdb.DuckDBPyConnection:
    """An engine with the table `orders` of the contract's columns; scale 1 is 1.5 million rows."""
    generate(scale, folder, ["orders"])
    source = ", ".join(f"#{i}::{duckdb_type(c.type)} as {c.name}" for i, c in enumerate(CONTRACT.columns, start=1))
    engine = duckdb.connect()
    engine.execute(f"create table orders as select {source} from read_parquet('{folder}/orders.parquet')")
    return engine


def count_orders(folder: Path) -> int:
    found = duckdb.sql(f"select count(*) from read_parquet('{folder}/orders.parquet')").fetchone()
    assert found is not None
    return int(found[0])
