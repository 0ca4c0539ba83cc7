"""Tables split by bucket, from a manifest to its readers: a layout, by both engines, that changes no row or token."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.expressions import And, EqualTo
from typer.testing import CliRunner

from etl_assets.cli.main import app
from etl_resources.conventions import parse_bucket
from etl_resources.engines.spark_session import spark_session
from etl_resources.engines.spark_sql import spark_literal, spark_type
from etl_resources.ledger.ledger import Ledger
from etl_resources.tables.catalog import CATALOG_NAME
from etl_resources.tables.head import read_head
from etl_resources.tables.partitioning import Bucketing
from etl_resources.tables.schema import arrow_type
from tests.fault.sources import raise_prices
from tests.integration.test_bucket_commits import VALUES
from tests.integration.test_spark_parity import SIZE
from tests.invariants import await_sessions_gone, prove_whole
from tests.lake import GDP, SILVER_ORDERS, Lake, new_lake
from tests.projects import SALES

FIRST, LAST = "2024-04", "2024-05"
COUNT = 8
BUCKETED = ("silver.sales_orders", "gdp.gdp_sales")


class Shop:
    """A lake whose manifests a test may change."""

    def __init__(self, lake: Lake, project: Path) -> None:
        self.lake, self.project = lake, project

    def declare(self, count: int | None) -> None:
        """Buckets of orders and golden sales by customer, from now on."""
        for name, layer in (("sales_orders", "silver"), ("gdp_sales", "gdp")):
            path = self.project / "datasets" / name / "manifest.yaml"
            kept = re.sub(r"\n  buckets: .*", "", path.read_text())
            line = f"\n  buckets: {{of: customer_id, count: {count}}}" if count else ""
            path.write_text(re.sub(rf"(?m)^({layer}:)$", rf"\1{line}", kept))
        self.lake.__dict__.pop("runtime", None)

    def table(self, name: str) -> Any:
        return self.lake.runtime.store.catalog.load_table(self.lake.runtime.addresses[name].identifier)

    def files(self, name: str, partition: str) -> list[Any]:
        return [f for f in read_head(self.table(name))[partition].files if f.record_count]

    def current(self) -> dict[tuple[str, str], tuple[str, str, int]]:
        """(asset, partition) → token, content hash, rows."""
        with Ledger.open(self.lake.settings) as ledger:
            names = self.lake.runtime.project.tables
            found = {(n, p): (x.token, x.version, x.rows) for n in names for p, x in ledger.current(n).items()}
        assert found
        return found

    def call(self, *arguments: str) -> str:
        with self.lake.environment():
            done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == 0, (done.output[-2000:], done.exception)
        return done.stdout


@pytest.fixture(scope="module")
def shop(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two months, published without buckets."""
    folder = tmp_path_factory.mktemp("buckets")
    (folder / "home").mkdir()
    shutil.copytree(SALES, folder / "project")
    with new_lake(folder / "home", project=folder / "project") as lake:
        run = lake.materialize(FIRST, LAST)
        assert run.success, run.error
        yield Shop(lake, folder / "project")


def test_buckets_are_declared_without_computing_anything_and_maintain_rearranges(shop: Shop) -> None:
    """Tokens, content hashes and epochs are what they are without: no dependant sees a change."""
    before, epochs = shop.current(), read_head(shop.table("gdp.gdp_sales"))[FIRST].epoch
    shop.declare(COUNT)
    run = shop.lake.materialize(FIRST, LAST)
    assert run.success, run.error
    assert {s for a, found in run.statuses.items() if a in (SILVER_ORDERS, GDP) for s in found.values()} == {"pruned"}
    assert shop.current() == before
    assert len(shop.files("gdp.gdp_sales", FIRST)) == 1
    done = {t["asset"]: t["compacted"] for t in json.loads(shop.call("maintain", "--json"))["tables"]}
    assert {name: found for name, found in done.items() if found} == {name: {FIRST: 1, LAST: 1} for name in BUCKETED}
    for name in BUCKETED:
        for month in (FIRST, LAST):
            paths = [f.file_path for f in shop.files(name, month)]
            assert len(paths) == COUNT == len({parse_bucket(p) for p in paths})
    assert shop.current() == before
    assert read_head(shop.table("gdp.gdp_sales"))[FIRST].epoch == epochs
    prove_whole(shop.lake)


@pytest.mark.parametrize("size", ["medium", "large"])
def test_a_changed_month_is_written_by_bucket_by_either_engine(shop: Shop, java: object, size: str) -> None:
    """One file per bucket, all replaced together; the month beside keeps its files."""
    shop.declare(COUNT)
    kept = {f.file_path for f in shop.files("gdp.gdp_sales", LAST)}
    before = {f.file_path for f in shop.files("gdp.gdp_sales", FIRST)}
    shop.lake.erp("update erp.orders set total_price = total_price + 1, updated_at = clock_timestamp() "
                  "where order_date between '2024-04-01' and '2024-04-30' and order_id % 7 = 0")  # fmt: skip
    shop.lake.erp("update erp.order_lines set extended_price = extended_price + 1, updated_at = clock_timestamp() "
                  "where (order_id, line_number) in (select min(order_id), 1 from erp.orders "
                  "where order_date between '2024-04-01' and '2024-04-30')")  # fmt: skip
    run = shop.lake.materialize(FIRST, LAST, ETL_SIZE=size)
    assert run.success, run.error
    assert run.statuses[GDP] == {FIRST: "published", LAST: "pruned"}
    for name in BUCKETED:
        files = shop.files(name, FIRST)
        assert len(files) == COUNT == len({parse_bucket(f.file_path) for f in files})
        assert {list(f.partition)[1] for f in files} == set(range(COUNT))
    assert before.isdisjoint(f.file_path for f in shop.files("gdp.gdp_sales", FIRST))
    assert kept == {f.file_path for f in shop.files("gdp.gdp_sales", LAST)}
    prove_whole(shop.lake)


@pytest.mark.parametrize("point", ["stage.file_written", "stage.after_swap", "publish.after_swap"])
def test_a_run_that_is_killed_shows_all_buckets_of_a_month_or_none(shop: Shop, point: str) -> None:
    """What is read after the kill is the month of before, or of after the swap; the next run settles the rest."""
    shop.declare(COUNT)
    before = shop.lake.rows(GDP, "sum(net_amount), count(*)")
    raise_prices(shop.lake, FIRST)
    killed = shop.lake.spawn(FIRST, LAST, points=[{"point": point, "match": "gdp_sales", "action": "kill"}])
    assert killed.wait() is None
    (total, count), *_ = shop.lake.rows(GDP, "sum(net_amount), count(*)")
    assert count == before[0][1]
    assert (total != before[0][0]) == (point == "publish.after_swap")
    await_sessions_gone(shop.lake)
    run = shop.lake.materialize(FIRST, LAST)
    assert run.success, run.error
    files = shop.files("gdp.gdp_sales", FIRST)
    assert len(files) == COUNT == len({parse_bucket(f.file_path) for f in files})
    prove_whole(shop.lake)


def test_spark_finds_the_bucket_that_we_write(shop: Shop, java: object) -> None:
    """Iceberg's Java, by which Spark places and looks for rows, against its Rust code, by which all else does."""
    with spark_session(shop.lake.settings, SIZE) as spark:
        for kind, value_of in VALUES.items():
            values = [None if i == 7 else value_of(i) for i in range(200)]
            rows = ", ".join("(null)" if v is None else f"({spark_literal(str(v))})" for v in values)
            bucket = f"{CATALOG_NAME}.system.bucket({COUNT}, cast(k as {spark_type(kind)}))"
            found = [row[0] for row in spark.sql(f"select {bucket} from values {rows} as given(k)").collect()]
            ours = Bucketing("k", COUNT, "").bucket_of(pa.array(values, arrow_type(kind)))
            assert found == ours.to_pylist(), kind


def test_who_looks_for_one_customer_opens_one_file_of_each_month(shop: Shop) -> None:
    """PyIceberg's plan, DuckDB's profile, and `data-pipeline sql`, which has the same rows as the whole table."""
    shop.declare(COUNT)
    rows = shop.lake.rows(GDP, "customer_id, count(*) over (partition by customer_id)")
    counts = dict(rows)
    table = shop.table("gdp.gdp_sales")
    every = list(table.scan().plan_files())
    assert len(every) == 2 * COUNT
    for customer in sorted(counts)[:5]:
        by_customer = EqualTo("customer_id", customer)
        found = list(table.scan(by_customer).plan_files())
        assert len(found) <= 2
        assert len(list(table.scan(And(by_customer, EqualTo("order_date", "2024-04-15"))).plan_files())) <= 1
        sql = f"select count(*) as found from gdp.gdp_sales where customer_id = {customer}"
        assert str(counts[customer]) in shop.call("sql", sql, "--csv")


def test_buckets_go_as_they_came(shop: Shop) -> None:
    """Without a run that computes: maintenance makes files one again, and what is split stays readable until then."""
    before = shop.current()
    shop.declare(None)
    run = shop.lake.materialize(FIRST, LAST)
    assert run.success, run.error
    prove_whole(shop.lake)
    assert len(shop.files("gdp.gdp_sales", LAST)) == COUNT
    shop.call("maintain")
    assert [len(shop.files(n, m)) for n in BUCKETED for m in (FIRST, LAST)] == [1] * 4
    assert shop.current() == before
    prove_whole(shop.lake)
