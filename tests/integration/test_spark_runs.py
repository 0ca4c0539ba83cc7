"""Tables of a size with Spark, through the whole protocol: same rows, same tokens, nothing partial."""

import json
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from psycopg.conninfo import conninfo_to_dict
from pyspark import SparkContext

from etl_assets.graph.runtime import Runtime
from etl_assets.graph.spark_step import SparkTransforms
from etl_assets.project import TableNode
from etl_assets.transforms import transform_of
from etl_resources.engines.embedded import connect
from etl_resources.engines.spark_metrics import SparkMeasures
from etl_resources.engines.transform import JUDGED
from etl_resources.ledger.connection import connect as connect_ledger
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.records import Publish
from etl_resources.observe.families import FAMILIES
from etl_resources.observe.ledger_metrics import read_group
from etl_resources.planning import Plan, PlannedPartition
from etl_resources.quality.audit import read_back
from etl_resources.tables.evidence import EvidencePath
from etl_resources.tables.input_tables import parquet_scan
from etl_resources.tables.schema import field_ids, field_numbers, read_schema
from tests.integration.example import MONTHS, Example, new_example
from tests.integration.test_spark_parity import SIZE
from tests.invariants import prove_whole
from tests.lake import Lake
from tests.runs import Run

pytest_plugins = ["tests.lake"]
LARGE = {"ETL_SIZE": "large"}
MONTH = "2024-05"


def recomputed(runtime: Runtime, ledger: Ledger, node: TableNode, published: Publish) -> tuple[Any, ...]:
    """(version, written, rejected, deduplicated, version as reread) of a published partition, computed by Spark."""
    address, pinned = runtime.addresses[node.name], {}
    for name in node.upstream:
        pinned[name] = runtime.store.pin(ledger, runtime.addresses[name])
    schema = runtime.store.catalog.load_table(address.identifier).schema()
    transform = transform_of(node, field_ids(schema, address.columns))
    spark = SparkTransforms(runtime, node, transform, SIZE, field_numbers(schema, address.columns))
    planned = PlannedPartition(published.partition, published.token, published.epoch, published.inputs, published)
    folder = f"s3://{runtime.bucket}/recomputed/{node.name}/{published.partition}"
    with connect(runtime.settings, threads=1) as engine:
        found = spark.run(
            engine,
            Plan(node.name, "attempt", pinned, (planned,)),
            planned,
            folder,
            lambda e: dict(e.execute(f"select 'rows', count(*) from {JUDGED}").fetchall()),
            lambda: "",
            SparkMeasures(),
        )
        reread = read_back(engine, node.contract, parquet_scan([*found.paths], read_schema(schema)))
    return found.version, found.written, found.rejected, found.deduplicated, reread.version


@pytest.fixture(scope="module")
def published(stack: object, java: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    """The example, published by the embedded engine."""
    with new_example(tmp_path_factory.mktemp("example"), {}) as made:
        made.run()
        yield made


def test_every_table_of_the_example_is_the_same_by_spark(published: Example) -> None:
    """Joins, lookups, windows of months, rejected rows, aggregates: from the same inputs the same content."""
    runtime, seen = published.lake.runtime, {}
    with Ledger.open(runtime.settings) as ledger:
        for node in runtime.project.tables.values():
            if node.sql is None:
                continue
            of = ledger.current(node.name, [MONTHS[-1], "all"])
            (publish,) = of.values()
            counts = publish.counts
            ours = publish.version, publish.rows, counts["rejected"], counts["deduplicated"], publish.version
            seen[node.name] = (recomputed(runtime, ledger, node, publish), ours)
    assert len(seen) == 12
    assert {name: found for name, (found, ours) in seen.items() if found != ours} == {}
    assert seen["gdp.gdp_sales"][1][2], "no row was rejected: nothing is shown of those"


def test_another_engine_recomputes_nothing(published: Example) -> None:
    """A size is no logic: who moves to a cluster doesn't pay for all of his history."""
    run = published.run(**LARGE)
    made = {a: found for a, found in run.statuses.items() if a.startswith(("silver", "gdp", "kpi"))}
    assert {s for found in made.values() for s in found.values()} == {"pruned"}


def prove_measured(lake: Lake, run: Run) -> None:
    """What Spark did is the same in the ledger, beside the data, in the web UI and in the metrics."""
    (told,) = run.materializations("gdp/gdp_sales").values()
    ((measures,),) = lake.platform(
        "select p.measures from etl.intent_partitions p join etl.intents using (attempt) where asset = 'gdp.gdp_sales'"
    )
    shown = {k: v.value for k, v in told.metadata.items() if k.startswith("spark_") and k != "spark_stages_longest"}
    assert shown == SparkMeasures.from_json(measures).as_metadata()
    assert shown["spark_input_rows"] >= told.metadata["read"].value > 0
    assert shown["spark_tasks"] >= shown["spark_stages"] > 0 == shown["spark_tasks_failed"]
    assert "| stage |" in str(told.metadata["spark_stages_longest"].value)
    ours, store = lake.runtime.addresses["gdp.gdp_sales"], lake.runtime.store.catalog
    ((attempt, epoch),) = lake.platform("select attempt, epoch from etl.publishes where asset = 'gdp.gdp_sales'")
    with store.load_table(ours.identifier).io.new_input(EvidencePath(epoch, attempt).record(ours.location)).open() as e:
        assert json.load(e)["partitions"][0]["measures"] == measures
    with connect_ledger(lake.platform_dsn, setting="platform") as connection:
        samples = {(s.family, s.label): s.value for s in read_group(connection, "spark") if s.asset == "gdp.gdp_sales"}
    assert samples["etl_spark_tasks", "done"] == measures["tasks"]
    assert samples["etl_spark_input_rows", ""] == measures["input_rows"]
    assert {f.name for f in FAMILIES if f.name.startswith("etl_spark")} == {name for name, _ in samples}


def test_a_run_on_spark_publishes_what_the_embedded_engine_would(lake: Lake, java: object) -> None:
    """Then the embedded engine finds nothing to do; evidence tells which engine it was."""
    run = lake.materialize(MONTH, **LARGE)
    assert run.success, run.error
    assert lake.published_kpi() == lake.oracle(MONTH)
    prove_whole(lake)
    engines = lake.platform(
        "select distinct p.staged ->> 'engine' from etl.intent_partitions p join etl.intents i using (attempt) "
        "where i.asset like 'gdp%'"
    )
    assert [name.partition(" ")[0] for (name,) in engines] == ["pyspark"]
    prove_measured(lake, run)
    shown = " ".join(psutil.Process(SparkContext._gateway.proc.pid).cmdline())
    assert lake.env["ETL_S3_SECRET_KEY"] not in shown
    assert str(conninfo_to_dict(lake.platform_dsn)["password"]) not in shown


def test_a_killed_run_on_spark_leaves_nothing(lake: Lake, java: object) -> None:
    """The driver dies when executors have written and nothing is staged; the next run may be of the other engine."""
    points = [{"point": "stage.file_written", "action": "kill"}]
    assert lake.spawn(MONTH, points=points, **LARGE).wait() is None
    measured = "select sum((measures ->> 'tasks')::int) from etl.intent_partitions where measures is not null"
    assert lake.platform(measured)[0][0] > 0, "what died is known all the same"
    run = lake.materialize(MONTH)
    assert run.success, run.error
    assert lake.published_kpi() == lake.oracle(MONTH)
    prove_whole(lake)
