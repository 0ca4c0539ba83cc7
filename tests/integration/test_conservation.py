"""A row that the product loses anywhere stops the publish, and `account` tells where every row went (M12)."""

import json
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from etl_assets.cli.main import app
from etl_assets.project import load_project
from etl_resources.errors import ManifestErrors
from tests.lake import ALL_ASSETS, GDP, KPI, ORDERS, SERVED, SILVER_LINES, Lake
from tests.mutated import Mutation
from tests.projects import SALES

pytest_plugins = ["tests.lake"]
pytestmark = pytest.mark.timeout(300)

GDP_SQL, KPI_SQL = "gdp_sales/gdp_sales.sql", "kpi_net_revenue/kpi_net_revenue.sql"
LOST = "rows_accounted: "


@dataclass(frozen=True)
class Loss:
    """What is changed in the product or in a project's SQL, the asset that is made then, and what stops it."""

    asset: str
    told: str
    mutation: Mutation | None = None
    sql: tuple[str, str, str] | None = None
    """File of the project, its text, the text instead."""


LOSSES: Mapping[str, Loss] = {
    "extract stream": Loss(
        ORDERS, LOST,
        Mutation("etl_resources.extract.capture", "CaptureWriter.write",
                 "from ({_rows(self.table, self.address, share, alias)})",
                 "from (from ({_rows(self.table, self.address, share, alias)}) offset 1)"),
    ),
    "file of an input": Loss(
        SILVER_LINES, LOST,
        Mutation("etl_resources.tables.input_tables", "PinnedTable.scan", "return parquet_scan(",
                 "return '(from %s offset 1)' % parquet_scan("),
    ),
    "judge": Loss(
        SILVER_LINES, LOST,
        Mutation("etl_resources.engines.transform", "_judge", "from produced as _raw",
                 "from (from produced offset 1) as _raw"),
    ),
    "deduplication": Loss(
        SILVER_LINES, LOST,
        Mutation("etl_resources.engines.transform", "_judge", "partition by {keys}", "partition by order_id"),
    ),
    "silver write": Loss(
        SILVER_LINES, LOST,
        Mutation("etl_resources.engines.transform", "_write", "and _key_rank = 1", "and _key_rank = 1 and rowid > 0"),
    ),
    "silver file": Loss(
        SILVER_LINES, "stored_content: ",
        Mutation("etl_resources.engines.transform", "_write", "{good} order by", "{good} and rowid > 0 order by"),
    ),
    "file of a commit": Loss(
        SILVER_LINES, "would be published",
        Mutation("etl_resources.tables.stage", "stage", "add=files,", "add=files[1:],"),
    ),
    "join that loses": Loss(GDP, LOST, sql=(GDP_SQL, "left join", "join")),
    "join that multiplies": Loss(
        GDP, "rows more than were read",
        sql=(GDP_SQL, "silver.sales_orders as o",
             "(from silver.sales_orders union all from silver.sales_orders) as o"),
    ),
    "group": Loss(KPI, "lines is", sql=(KPI_SQL, "from totals", "from (from totals offset 1)")),
    "copy into Postgres": Loss(
        SERVED, LOST,
        Mutation("etl_resources.sinks.postgres_copy", "copy_rows", "csv.write_csv(batch,",
                 "csv.write_csv(batch.slice(1),"),
    ),
    "served table": Loss(
        SERVED, "the target would hold",
        Mutation("etl_resources.sinks.postgres_sink", "PostgresSink._fill", "order by {keys}",
                 "order by {keys} offset 1"),
    ),
}  # fmt: skip
MONTHS = {name: f"2024-{i:02d}" for i, name in enumerate(LOSSES, start=1)}


@pytest.mark.parametrize("name", LOSSES)
def test_a_lost_row_stops_the_publish(module_lake: Lake, name: str, tmp_path: Path) -> None:
    """Wherever it is lost: nothing is published of the partition, and the error says how many are missing."""
    loss, month, lake = LOSSES[name], MONTHS[name], module_lake
    before = ALL_ASSETS[: ALL_ASSETS.index(loss.asset)] if loss.asset != ORDERS else ()
    if loss.asset == GDP:  # an order that is rejected: its lines find none
        spoil_an_order(lake, month)
    if before:
        assert lake.materialize(month, selection=before).success
    project, made = _project(loss, tmp_path), loss.mutation.made() if loss.mutation else nullcontext()

    with made:
        run = lake.materialize(month, selection=[loss.asset], ETL_PROJECT=str(project))

    assert not run.success
    assert loss.told in run.error, run.error
    assert run.published(loss.asset) == set()
    published = "select count(*) from etl.publishes where asset = %s and partition = %s"
    assert lake.platform(published, loss.asset.replace("/", "."), month) == [(0,)]


def spoil_an_order(lake: Lake, month: str) -> None:
    """One that silver rejects, so that its lines find none."""
    lake.erp(
        "update erp.orders set status = 'X' where order_id = "
        "(select min(order_id) from erp.orders where to_char(order_date, 'YYYY-MM') = %s)",
        month,
    )


def _project(loss: Loss, folder: Path) -> Path:
    if loss.sql is None:
        return SALES
    copy = folder / "project"
    shutil.copytree(SALES, copy)
    file, text, instead = loss.sql
    sql = copy / "datasets" / file
    assert sql.read_text().count(text) == 1, file
    sql.write_text(sql.read_text().replace(text, instead))
    return copy


@pytest.fixture(scope="module")
def accounted(module_lake: Lake) -> Lake:
    """Everything is published of two months, in which an order is rejected."""
    for month in ("2025-01", "2025-02"):
        spoil_an_order(module_lake, month)
    run = module_lake.materialize("2025-01", "2025-02", selection=ALL_ASSETS[:5])
    assert run.success, run.error
    return module_lake


def told(lake: Lake, *arguments: str, code: int = 0) -> Any:
    """What `account --json` prints."""
    with lake.environment():
        done = CliRunner().invoke(app, ["account", *arguments, "--json"])
    assert done.exit_code == code, f"{done.output}{done.exception!r}"
    return json.loads(done.stdout)


def test_an_account_leads_from_the_captured_source_to_the_table(accounted: Lake) -> None:
    """Each hop has its numbers, and their sum is what the ERP counted in the captured snapshot."""
    ((lines,),) = accounted.erp("select count(*) from erp.order_lines l join erp.orders o using (order_id) "
                                "where to_char(order_date, 'YYYY-MM') = '2025-01'")  # fmt: skip
    found = told(accounted, "gdp_sales", "2025-01")
    hops = {hop["asset"]: hop for hop in found["hops"]}
    assert [h["asset"] for h in found["hops"] if "lines" in h["asset"]] == [
        "erp/erp.order_lines", "bronze.sales_lines", "silver.sales_lines",
    ]  # fmt: skip
    assert hops["silver.sales_orders"]["counts"]["rejected"] == 1
    assert list(hops["silver.sales_orders"]["reasons"].values()) == [1]
    rejected = hops["gdp.gdp_sales"]["counts"]["rejected"]
    assert rejected > 0
    total = found["total"]
    assert (total["source"], total["captured"], total["lost"]) == ("erp/erp.order_lines", lines, 0)
    assert (total["arrived"], total["losses"]["rejected"]) == (lines - rejected, rejected)


def test_an_account_is_of_the_versions_that_were_read(accounted: Lake) -> None:
    """What was captured since is told, and is no difference: gdp was made of what was there before."""
    accounted.erp("delete from erp.order_lines where (order_id, line_number) in (select order_id, line_number "
                  "from erp.order_lines join erp.orders using (order_id) "
                  "where to_char(order_date, 'YYYY-MM') = '2025-02' order by 1, 2 limit 3)")  # fmt: skip
    before = told(accounted, "gdp_sales", "2025-02")
    assert accounted.materialize("2025-02", selection=ALL_ASSETS[:4]).success

    after = told(accounted, "gdp_sales", "2025-02")

    assert after["total"] == before["total"]
    hops = {hop["asset"]: hop for hop in after["hops"]}
    assert any("is published since" in note for note in hops["gdp.gdp_sales"]["notes"])


def test_an_account_that_does_not_balance_says_where_and_ends_with_1(accounted: Lake) -> None:
    """A count that was tampered with is told by every hop that it contradicts."""
    change = (
        "update etl.publishes set rows = rows + %s, "
        "counts = counts || jsonb_build_object('written', (counts ->> 'written')::int + %s) "
        "where asset = 'silver.sales_lines' and partition = '2025-01'"
    )
    accounted.platform(change, -2, -2)
    try:
        found = told(accounted, "gdp_sales", "2025-01", code=1)
    finally:
        accounted.platform(change, 2, 2)
    hops = {hop["asset"]: hop for hop in found["hops"]}
    assert any(p.startswith("2025-01: 2 of ") for p in hops["silver.sales_lines"]["problems"])
    assert any("silver.sales_lines, which published" in p for p in hops["gdp.gdp_sales"]["problems"])
    assert not found["balances"]
    assert told(accounted, "gdp_sales", "2025-01")["balances"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gdp_sale", "2025-01"), "Unknown dataset or table 'gdp_sale'; did you mean 'gdp_sales'?"),
        (("gdp_sales", "2031-01"), "gdp.gdp_sales has no partition '2031-01'; valid: 2023-08 to 2026-07."),
        (("gdp_sales",), "gdp.gdp_sales has partitions: name one; valid: 2023-08 to 2026-07."),
        (("gdp_sales", "2026-07"), "gdp.gdp_sales, partition 2026-07 is not published yet. Materialize it first."),
    ],
)
def test_what_has_no_account_is_told(accounted: Lake, arguments: tuple[str, ...], message: str) -> None:
    """Which one, and what is valid."""
    with accounted.environment():
        done = CliRunner().invoke(app, ["account", *arguments])
    assert message in str(done.exception)


FILTER = "  filters: [{{name: {}, expression: {}, reason: no revenue}}]\n"
CONSERVE = "  conserve: {of: gdp.gdp_sales, sums: {lines: rows, net_revenue: net_amount}}\n"


@pytest.mark.parametrize(
    ("dataset", "old", "new", "message"),
    [
        ("sales_lines", "  sql: silver.sql\n", FILTER.format("tiny", "quantty < 1"),
         "expression of filter 'tiny': unknown column 'quantty'; did you mean 'quantity'?"),
        ("sales_lines", "  sql: silver.sql\n", FILTER.format("tiny", "sum(quantity) < 1"),
         "expression of filter 'tiny': an aggregate can't be used"),
        ("kpi_net_revenue", CONSERVE, FILTER.format("tiny", "quantity < 1"),
         "filters are of rows of the grain: say which input that is"),
        ("kpi_net_revenue", "of: gdp.gdp_sales", "of: gdp.gdp_sale",
         "'gdp.gdp_sale' is not read by the SQL; did you mean 'gdp.gdp_sales'? Valid: gdp.gdp_sales"),
        ("kpi_net_revenue", "{lines: rows", "{line: rows",
         "'line' is not a column of kpi.kpi_net_revenue that is summed exactly; did you mean 'lines'?"),
        ("kpi_net_revenue", "net_revenue: net_amount}", "net_revenue: nation}",
         "column 'nation' of gdp.gdp_sales can't be summed exactly; "),
        ("gdp_sales", "  grain: silver.sales_lines\n",
         "  grain: silver.sales_lines\n  conserve: {of: silver.sales_lines, sums: {quantity: quantity}}\n",
         "gdp.gdp_sales has a grain, of which each row is counted: conserve is for what aggregates; remove it"),
    ],
)  # fmt: skip
def test_what_a_manifest_states_of_its_rows_is_held_against_the_tables(
    tmp_path: Path, dataset: str, old: str, new: str, message: str
) -> None:
    """Before a run: a filter of no column, or a sum of names, could never be checked."""
    copy = tmp_path / "project"
    shutil.copytree(SALES, copy)
    manifest = copy / "datasets" / dataset / "manifest.yaml"
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, old + new if old.startswith("  sql") else new))
    with pytest.raises(ManifestErrors) as raised:
        load_project(copy)
    assert any(message in str(e) for e in raised.value.errors), raised.value.errors
