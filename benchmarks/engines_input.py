"""The silver tables that benchmarks.engines consolidates: TPC-H at any scale within the example's 36 months.

All of TPC-H's orders lie in them: its 2,406 days are laid over the calendar's 1,096. Rows go from the generator's files
through DuckDB into files on S3, one month at a time, and are published by the platform's own committer, so that what
reads them plans with real versions. Sources and bronze are left out: what they cost is measured by other benchmarks.
Orders in roubles, which have no rate, are in dollars here: a hand-written statement keeps no dead letters.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import duckdb

from benchmarks.harness import tell
from etl_assets.demo.currencies import FALLBACK_CURRENCY, NATION_CURRENCIES
from etl_assets.demo.rates import published_rates
from etl_assets.demo.tpch import generate
from etl_assets.graph.runtime import Runtime
from etl_resources.calendar import WHOLE, bounds, keys_between
from etl_resources.conventions import staged_folder
from etl_resources.engines.embedded import connect
from etl_resources.identifiers import literal, quote
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.records import IntendedPartition
from etl_resources.quality.audit import read_back
from etl_resources.tables.input_tables import parquet_scan
from etl_resources.tables.schema import duckdb_type, field_ids, read_schema
from etl_resources.tables.stage import StagedPartition
from etl_resources.tables.table_store import WrittenPartition

TPCH_FIRST, TPCH_DAYS = "1992-01-01", 2406
NO_RATE = "RUB"
MEMORY_MB = 3000
STAMP = "timestamptz '2026-08-01 00:00:00+00'"


def make_input(runtime: Runtime, scale: float, work: Path) -> dict[str, int]:
    """Publish the four silver tables of gdp_sales. Table → rows."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        generate(scale, work)
        tell(f"generated TPC-H at scale {scale:g}")
        engine = connect(runtime.settings, threads=2, memory_mb=MEMORY_MB)
        _months(runtime, engine, work)
        months = keys_between(runtime.project.platform.calendar.start, runtime.project.platform.calendar.end)
        rows = {}
        for table, partitions in {
            "silver.sales_lines": months,
            "silver.sales_orders": months,
            "silver.customers": [WHOLE],
            "silver.currency_rates": [WHOLE],
        }.items():
            rows[table] = _publish(runtime, engine, table, partitions, work)
            tell(f"published {rows[table]:,} rows of {table}")
        engine.close()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return rows


def _months(runtime: Runtime, engine: duckdb.DuckDBPyConnection, work: Path) -> None:
    """Lines and orders as silver has them, in a local folder for each month."""
    first, end = runtime.project.platform.calendar.span
    day = f"date '{first}' + ((o_orderdate - date '{TPCH_FIRST}') * {(end - first).days} // {TPCH_DAYS})::int"
    for table in ("region", "nation", "customer", "orders", "lineitem"):
        engine.execute(f"create view {table} as from read_parquet('{work}/{table}.parquet')")
    codes = ", ".join(f"({literal(n)}, {literal(c)})" for n, c in NATION_CURRENCIES.items() if c != NO_RATE)
    engine.execute(f"create view codes as from (values {codes}) as codes(nation, currency)")
    engine.execute(
        f"create table days as select o_orderkey as order_id, {day} as order_date, "
        f"({day}) - o_orderdate as moved from orders"
    )
    orders = (
        "select o_orderkey as order_id, o_custkey as customer_id, n_name as nation, order_date, "
        "o_orderstatus as status, regexp_replace(o_orderpriority, '^[0-9]-', '') as priority, "
        f"coalesce(currency, '{FALLBACK_CURRENCY}') as currency, o_totalprice as total_price, {STAMP} as updated_at "
        "from orders join days on order_id = o_orderkey join customer on c_custkey = o_custkey "
        "join nation on n_nationkey = c_nationkey left join codes on nation = n_name"
    )
    lines = (
        "select order_id, l_linenumber as line_number, order_date, l_partkey as part_id, l_quantity as quantity, "
        "l_extendedprice as extended_price, l_discount as discount, l_tax as tax, l_returnflag as return_flag, "
        "l_shipdate + moved::int as ship_date, l_commitdate + moved::int as commit_date, l_shipmode as ship_mode, "
        f"{STAMP} as updated_at from lineitem join days on order_id = l_orderkey"
    )
    for name, query in (("sales_orders", orders), ("sales_lines", lines)):
        engine.execute(
            f"copy (select *, strftime(order_date, '%Y-%m') as month from ({query})) to '{work}/{name}' "
            "(format parquet, compression zstd, partition_by (month))"
        )
    engine.execute("drop table days")


def _publish(
    runtime: Runtime, engine: duckdb.DuckDBPyConnection, name: str, partitions: Sequence[str], work: Path
) -> int:
    address = runtime.addresses[name]
    schema = runtime.store.ensure(address).schema()
    columns = ", ".join(f"{quote(c.name)}::{duckdb_type(c.type)} as {quote(c.name)}" for c in address.contract.columns)
    order, run = ", ".join(map(quote, address.contract.key)), uuid4().hex
    written, rows = [], 0
    with Ledger.open(runtime.settings) as ledger:
        attempt = ledger.open_attempt(name, run)
        for partition in partitions:
            epoch, token = ledger.draw_epoch(), uuid4().hex * 2
            ledger.intend(attempt, [IntendedPartition(partition, epoch, token)])
            path = f"{staged_folder(address.location, partition, epoch, token)}/part-0.parquet"
            engine.execute(
                f"copy (select {columns} from ({_rows(runtime, name, partition, work)}) order by {order}) to "
                f"{literal(path)} (format parquet, compression zstd, field_ids {field_ids(schema, address.columns)})"
            )
            stored = read_back(engine, address.contract, parquet_scan([path], read_schema(schema)))
            assert stored.rows == stored.keys, f"{name}, {partition}"
            rows += stored.rows
            staged = StagedPartition(partition, token, epoch, stored.version, stored.rows)
            written.append(WrittenPartition(staged, (path,), {"counts": {}, "linked": [], "stage_s": 0.0}))
        runtime.store.stage(ledger, address, attempt, run, written).publish()
    return rows


def _rows(runtime: Runtime, name: str, partition: str, work: Path) -> str:
    dataset = name.partition(".")[2]
    if partition != WHOLE:
        return f"from read_parquet('{work}/{dataset}/month={partition}/*.parquet')"
    if dataset == "currency_rates":
        first, end = runtime.project.platform.calendar.span
        found = published_rates(work / "none").between(bounds(f"{first:%Y-%m}")[0], end)
        values = ", ".join(f"('{d}', '{c}', '{r}')" for d, rates in found.items() for c, r in rates.items())
        return f"from (values {values}) as rates(rate_date, currency, rate)"
    return (
        "select c_custkey as customer_id, date '2023-01-01' as valid_from, c_name as name, c_mktsegment as segment, "
        "n_name as nation, r_name as region from customer join nation on n_nationkey = c_nationkey "
        "join region on r_regionkey = n_regionkey"
    )
