"""What benchmarks.engines compares with: the same tables by hand, in DuckDB and in Spark, by one statement each.

    python -m benchmarks.engines_bare duckdb|spark MEMORY_MB

Lookups are joins, written as somebody would who knows the engine; rows without customer or rate are left out. Nothing
is judged, hashed, read back or proved, and no reader is kept from half a table by DuckDB's files.
"""

import sys
from typing import Any

from etl_assets.graph.runtime import Runtime
from etl_assets.project import load_project
from etl_resources.engines.embedded import connect
from etl_resources.engines.spark_session import spark_session
from etl_resources.engines.spark_sql import spark_view, to_spark
from etl_resources.identifiers import literal, quote
from etl_resources.ledger.ledger import Ledger
from etl_resources.tables.catalog import CATALOG_NAME

INPUTS = ("silver.sales_lines", "silver.sales_orders", "silver.customers", "silver.currency_rates")
TABLES = ("gdp.gdp_sales", "kpi.kpi_on_time_shipping")
WANTED = "select * from ({sql}) where segment is not null and eur_rate is not null"
DUCKDB_LOOKUPS = {
    "lookup.customers": "select o.customer_id, o.order_date, f.segment, f.nation, f.region from "
    "(select distinct customer_id, order_date from silver.sales_orders) as o join (select *, coalesce(lead(valid_from) "
    "over (partition by customer_id order by valid_from), 'infinity') as until from silver.customers) as f "
    "on f.customer_id = o.customer_id and o.order_date >= f.valid_from and o.order_date < f.until",
    "lookup.currency_rates": "select o.currency, o.order_date, f.rate from "
    "(select distinct currency, order_date from silver.sales_orders) as o asof join silver.currency_rates as f "
    "on f.currency = o.currency and o.order_date >= f.rate_date where f.rate_date >= o.order_date - interval 10 day",
}
SPARK_LOOKUPS = {
    "lookup.customers": "select customer_id, order_date, segment, nation, region from (select o.customer_id, "
    "o.order_date, f.segment, f.nation, f.region, row_number() over (partition by o.customer_id, o.order_date "
    "order by f.valid_from desc) as n from (select distinct customer_id, order_date from silver__sales_orders) as o "
    "join silver__customers as f on f.customer_id = o.customer_id and o.order_date >= f.valid_from) where n = 1",
    "lookup.currency_rates": "select currency, order_date, rate from (select o.currency, o.order_date, f.rate, "
    "row_number() over (partition by o.currency, o.order_date order by f.rate_date desc) as n from "
    "(select distinct currency, order_date from silver__sales_orders) as o join silver__currency_rates as f "
    "on f.currency = o.currency and f.rate_date between o.order_date - interval 10 day and o.order_date) where n = 1",
}
LOOKUP_COLUMNS = {
    "lookup.customers": {
        "customer_id": "bigint",
        "order_date": "date",
        "segment": "string",
        "nation": "string",
        "region": "string",
    },
    "lookup.currency_rates": {"currency": "string", "order_date": "date", "rate": "decimal(18,6)"},
}


def main() -> None:
    engine, memory_mb = sys.argv[1], int(sys.argv[2])
    runtime = Runtime(load_project())
    if engine == "duckdb":
        by_duckdb(runtime, memory_mb)
    else:
        by_spark(runtime)


def by_duckdb(runtime: Runtime, memory_mb: int) -> None:
    """COPY of a join of the files on S3, to a folder for each month. memory_mb: 0 for that of the size."""
    node = runtime.project.tables[TABLES[0]]
    size = runtime.size(node)
    engine = connect(runtime.settings, threads=size.threads, memory_mb=memory_mb or size.memory_mb)
    engine.execute("create schema silver; create schema lookup; create schema gdp; create schema kpi")
    with Ledger.open(runtime.settings) as ledger:
        for name in INPUTS:
            table = runtime.store.pin(ledger, runtime.addresses[name])
            files = ", ".join(literal(path) for head in table.heads.values() for path in head.data_paths)
            engine.execute(f"create view {name} as from read_parquet([{files}])")
    for name, query in DUCKDB_LOOKUPS.items():
        engine.execute(f"create view {name} as {query}")
    for name in TABLES:
        contract, place = runtime.project.tables[name].contract, f"s3://{runtime.bucket}/bare/{name}"
        day = contract.partition_column or ""
        sql = str(runtime.project.tables[name].sql)
        made = WANTED.format(sql=sql) if name == TABLES[0] else sql
        engine.execute(
            f"copy (select *, date_trunc('month', {quote(day)}) as partition from ({made})) to {literal(place)} "
            "(format parquet, compression zstd, partition_by (partition), overwrite_or_ignore)"
        )
        engine.execute(f"create view {name} as from read_parquet('{place}/*/*.parquet', hive_partitioning = false)")


def by_spark(runtime: Runtime) -> None:
    """INSERT OVERWRITE of a join of the tables into Iceberg tables by month, which are there."""
    size = runtime.spark_size(runtime.project.tables[TABLES[0]])
    assert size is not None
    with spark_session(runtime.settings, size) as spark:
        relations: dict[str, Any] = {}
        for name in INPUTS:
            spark.table(_place(runtime, name)).createOrReplaceTempView(spark_view(name))
            relations[name] = {c.name: c.type for c in runtime.addresses[name].contract.columns}
        for name, query in SPARK_LOOKUPS.items():
            spark.sql(query).createOrReplaceTempView(spark_view(name))
            relations[name] = LOOKUP_COLUMNS[name]
        for name in TABLES:
            sql, place = to_spark(str(runtime.project.tables[name].sql), relations), f"{_place(runtime, name)}_bare"
            made = WANTED.format(sql=sql.text) if name == TABLES[0] else sql.text
            spark.sql(f"insert overwrite {place} {made}")
            spark.table(place).createOrReplaceTempView(spark_view(name))
            relations[name] = {c.name: c.type for c in runtime.addresses[name].contract.columns}


def _place(runtime: Runtime, name: str) -> str:
    """Identifier in Spark."""
    return f"{CATALOG_NAME}.{runtime.addresses[name].identifier}"


if __name__ == "__main__":
    main()
