"""From ERP rows to the served KPI, by the same definitions, runs and events as in the web UI."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import pytest

from etl_resources.engines.embedded import connect
from etl_resources.tables.head import read_head
from tests.invariants import prove_whole
from tests.lake import (
    ALL_ASSETS,
    GDP,
    KPI,
    LINES,
    ORDERS,
    PROJECT_DIR,
    SERVED,
    SILVER_LINES,
    SILVER_ORDERS,
    Lake,
    Run,
)

pytest_plugins = ["tests.lake"]

FIRST, LAST = "2023-08", "2026-07"
MONTHS = 36
IN_SPAN = "order_date >= '2023-08-01' and order_date < '2026-08-01'"
CLI_TIMEOUT_S = 240


@pytest.fixture(scope="module")
def first_run(module_lake: Lake) -> Run:
    run = module_lake.materialize(FIRST, LAST)
    assert run.success, run.error
    return run


@pytest.fixture
def lake(module_lake: Lake, first_run: Run) -> Lake:
    """The lake after its first run of all months."""
    return module_lake


def snapshots(lake: Lake) -> dict[str, int]:
    """Table → number of snapshots ever committed."""
    catalog = lake.runtime.store.catalog
    return {
        name: len(catalog.load_table(address.identifier).metadata.snapshots)
        for name, address in lake.runtime.addresses.items()
    }


def publishes(lake: Lake) -> int:
    ((count,),) = lake.platform("select count(*) from etl.publishes")
    return int(count)


def evaluations(run: Run) -> list[dg.AssetCheckEvaluation]:
    return [
        e.asset_check_evaluation_data for e in run.events if e.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]


def data_versions(run: Run, asset: str) -> dict[str, str]:
    return {p: m.tags["dagster/data_version"] for p, m in run.materializations(asset).items() if m.tags}


def test_every_month_of_the_erp_is_served_to_the_cent(lake: Lake) -> None:
    """The product's promise, against an oracle that shares no code with it."""
    orders, lines = lake.erp(
        f"select (select count(*) from erp.orders where {IN_SPAN}), "
        f"(select count(*) from erp.order_lines join erp.orders using (order_id) where {IN_SPAN})"
    )[0]
    counts = {a: lake.rows(a, "count(*)")[0][0] for a in (ORDERS, LINES, SILVER_ORDERS, SILVER_LINES, GDP)}

    assert counts == {ORDERS: orders, SILVER_ORDERS: orders, LINES: lines, SILVER_LINES: lines, GDP: lines}
    assert lake.published_kpi() == lake.oracle()
    assert len({row[0] for row in lake.published_kpi()}) == MONTHS
    prove_whole(lake)


def test_bronze_carries_its_run_and_is_compressed_with_zstd(lake: Lake, first_run: Run) -> None:
    """The platform's conventions: anyone can tell which run delivered a row."""
    assert lake.rows(ORDERS, "distinct meta_run_id") == [(first_run.run_id,)]
    table = lake.runtime.store.catalog.load_table(lake.runtime.addresses["bronze.sales_orders"].identifier)
    paths = [path for head in read_head(table).values() for path in head.data_paths]
    with connect(lake.settings) as engine:
        codecs = engine.execute("select distinct compression from parquet_metadata(?)", [paths]).fetchall()
    assert codecs == [("ZSTD",)]


def test_a_second_run_looks_again_and_changes_nothing(lake: Lake, first_run: Run) -> None:
    """Pruned partitions need events and checks too: without them Dagster shows them as failed or never made."""
    before = snapshots(lake), publishes(lake)

    second = lake.materialize(FIRST, LAST)

    assert second.success, second.error
    assert (snapshots(lake), publishes(lake)) == before
    for asset in ALL_ASSETS:
        assert set(second.statuses[asset].values()) == {"pruned"}, asset
        assert len(second.statuses[asset]) == MONTHS, asset
        assert data_versions(second, asset) == data_versions(first_run, asset)
    told = {(e.asset_key.to_user_string(), e.check_name, e.partition) for e in evaluations(second)}
    assert all(e.passed and e.partition for e in evaluations(second))
    assert len(told) == len(evaluations(second))
    assert len({p for _, _, p in told}) == MONTHS
    assert {a for a, _, _ in told} == set(ALL_ASSETS)
    assert len(told) == MONTHS * len({(a, c) for a, c, _ in told})


def test_events_carry_the_version_of_each_partition_and_of_its_inputs(lake: Lake, first_run: Run) -> None:
    """A range run stamps one version on all partitions, unless each gets its own event: staleness needs its own."""
    gdp = first_run.materializations(GDP)
    orders, lines = data_versions(first_run, SILVER_ORDERS), data_versions(first_run, SILVER_LINES)
    ledger = dict(lake.platform("select partition, version from etl.current_versions where asset = 'gdp.gdp_sales'"))

    assert len(set(data_versions(first_run, GDP).values())) == MONTHS
    assert data_versions(first_run, GDP) == ledger
    for partition, event in gdp.items():
        tags = event.tags or {}
        assert tags["dagster/input_data_version/silver/sales_orders"] == orders[partition]
        assert tags["dagster/input_data_version/silver/sales_lines"] == lines[partition]


@pytest.mark.parametrize(
    ("asset", "column", "sources"),
    [
        (LINES, "quantity", {("erp/order_lines", "quantity")}),
        (GDP, "net_amount", {("silver/sales_lines", "discount"), ("silver/sales_lines", "extended_price")}),
        (SERVED, "net_revenue", {("kpi/kpi_net_revenue", "net_revenue")}),
    ],
)
def test_the_newest_event_tells_what_a_column_is_made_of(
    lake: Lake, first_run: Run, asset: str, column: str, sources: set[tuple[str, str]]
) -> None:
    """From the source over each layer to the target; Dagster shows an asset by its newest event."""
    columns = first_run.materializations(asset)[LAST].metadata["dagster/column_lineage"].value
    assert isinstance(columns, dg.TableColumnLineage)
    found = columns.deps_by_column[column]
    assert {(d.asset_key.to_user_string(), d.column_name) for d in found} == sources


def test_one_bronze_asset_can_be_selected_alone(lake: Lake) -> None:
    """The tables of a system are captured together; Dagster must accept events of the one that wasn't selected."""
    lake.erp(
        "update erp.orders set total_price = total_price + 1 where order_date >= '2025-01-01' and "
        "order_date < '2025-02-01'"
    )

    run = lake.materialize("2025-01", selection=[ORDERS])

    assert run.success, run.error
    assert run.published(ORDERS) == {"2025-01"}
    assert set(run.statuses) <= {ORDERS, LINES, "erp/orders", "erp/order_lines"}
    whole = lake.materialize("2025-01")
    assert whole.success, whole.error
    prove_whole(lake)


def test_a_change_in_one_month_recomputes_that_month_in_each_layer(lake: Lake) -> None:
    """Work follows the change: eleven of twelve months are proved current and left alone."""
    lake.erp(
        "update erp.order_lines l set discount = 0.10, quantity = quantity + 1 from erp.orders o "
        "where o.order_id = l.order_id and to_char(o.order_date, 'YYYY-MM') = '2025-03' and l.line_number = 1"
    )

    run = lake.materialize("2024-08", "2025-07")

    assert run.success, run.error
    for asset in (LINES, SILVER_LINES, GDP, KPI, SERVED):
        assert run.published(asset) == {"2025-03"}, asset
    assert run.partitions(ORDERS, "unchanged") == {"2025-03"}
    assert run.published(ORDERS) == run.published(SILVER_ORDERS) == set()
    for asset in ALL_ASSETS:
        assert len(run.partitions(asset, "pruned")) >= 11, asset
    prove_whole(lake)


def test_a_change_that_nobody_reads_stops_where_it_stops_mattering(lake: Lake) -> None:
    """A comment reaches bronze; its stamp reaches silver; gdp finds the same content, and the KPI isn't computed."""
    before = data_versions(lake.materialize("2025-04"), GDP)
    lake.erp("update erp.orders set comment = 'seen' where order_date >= '2025-04-01' and order_date < '2025-05-01'")

    run = lake.materialize("2025-04")

    assert run.success, run.error
    assert run.published(ORDERS) == run.published(SILVER_ORDERS) == {"2025-04"}
    assert run.partitions(LINES, "unchanged") == run.partitions(SILVER_LINES, "pruned") == {"2025-04"}
    assert run.partitions(GDP, "unchanged") == {"2025-04"}
    assert data_versions(run, GDP) == before
    assert run.partitions(KPI, "pruned") == run.partitions(SERVED, "pruned") == {"2025-04"}
    prove_whole(lake)


def dagster_materialize(
    lake: Lake, home: Path, options: Sequence[str], **changed: str
) -> "subprocess.CompletedProcess[str]":
    """`dagster asset materialize` in the project's folder, as a person would type it."""
    with lake.environment(**changed):
        return subprocess.run(
            [str(Path(sys.executable).with_name("dagster")), "asset", "materialize", "-m", "etl_assets.definitions",
             *options],
            cwd=PROJECT_DIR, env={**os.environ, "DAGSTER_HOME": str(home)}, capture_output=True, text=True,
            timeout=CLI_TIMEOUT_S, check=False,
        )  # fmt: skip


def test_dagsters_own_command_materializes_partitions_and_ranges(lake: Lake, tmp_path: Path) -> None:
    """Nothing of ours is needed to run the graph: Dagster's own command does it."""
    lake.erp(
        "update erp.order_lines set extended_price = extended_price + 1 where line_number = 1 and order_id in "
        "(select order_id from erp.orders where order_date >= '2024-01-01' and order_date < '2024-06-01')"
    )

    months = dagster_materialize(lake, tmp_path, ["--select", "*", "--partition-range", "2024-01...2024-03"])
    away = dagster_materialize(
        lake, tmp_path, ["--select", "bronze/sales_orders", "--partition", "2024-05"],
        ERP_DSN="postgresql://nobody@127.0.0.1:1/erp",
    )  # fmt: skip

    assert months.returncode == 0, months.stderr[-3000:]
    touched = ("2024-01", "2024-02", "2024-03")
    assert lake.published_kpi(*touched) == lake.oracle(*touched)
    assert away.returncode == 1
    assert "ERP_DSN: no connection to 127.0.0.1:1/erp" in away.stderr
