"""Datasets without partitions: what they may read and say, each mistake with file and line."""

import shutil
from pathlib import Path

import pytest
from project_edits import edit, errors_of, line_of

from etl_assets.project import load_project
from etl_resources.calendar import WHOLE
from tests.projects import NATIONS as PROJECT

NATIONS, ORDERS = "datasets/nations/manifest.yaml", "datasets/orders/manifest.yaml"
JOINED, TURNOVER = "datasets/gdp_orders/manifest.yaml", "datasets/gdp_turnover/manifest.yaml"
TURNOVER_SQL = "datasets/gdp_turnover/gdp_turnover.sql"
MONTHLY = "partitions: {by: order_date, every: month}\n"
INPUTS = "  inputs: {silver.orders: {partitions: all}}\n"
SQL = "  sql: gdp_orders.sql\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project of orders and nations."""
    return Path(shutil.copytree(PROJECT, tmp_path / "etl_assets"))


# fmt: off
# what is edited, from, to, the file and the text on whose line the error is, the message
CASES = {
    "window without partitions": (
        NATIONS, "  extract: full\n", "", NATIONS, "source:",
        "extract window reads by partitions, which this dataset doesn't declare; add `partitions`, or say "
        "`extract: full`",
    ),
    "full with partitions": (
        ORDERS, "  table: erp.orders\n", "  table: erp.orders\n  extract: full\n", ORDERS, "  extract: full",
        "extract full reads the table whole; remove `partitions`",
    ),
    "which months": (
        TURNOVER, INPUTS, "", TURNOVER_SQL, "from silver.orders",
        "gdp.gdp_turnover has no partitions and silver.orders has: which ones it reads must be said; add `gdp: "
        "{inputs: {silver.orders: {partitions: all}}}`, or partitions",
    ),
    "months of no period": (
        TURNOVER, "partitions: all", "periods: [-1, 0]", TURNOVER, "  inputs:",
        "gdp.gdp_turnover has no partitions, to which periods could be relative; valid: {partitions: all}",
    ),
    "window of a whole table": (
        JOINED, SQL, SQL + "  inputs: {silver.nations: {partitions: all}}\n", JOINED, "  inputs:",
        "silver.nations has no partitions and is always read whole: it can't have a window",
    ),
    "period of none": (
        TURNOVER_SQL, "group by all", "where exists (from calendar.period) group by all",
        TURNOVER_SQL, "where exists",
        "gdp.gdp_turnover has no partitions, so that calendar.period has nothing to tell",
    ),
}
# fmt: on


@pytest.mark.parametrize("case", CASES)
def test_what_a_table_without_partitions_cannot_say(project: Path, case: str) -> None:
    """Else the run would find out, month by month."""
    edited, old, new, file, text, message = CASES[case]
    edit(project / edited, old, new)
    (error,) = errors_of(project)
    assert message in error
    assert error.split(": ")[0].endswith(f"{file}:{line_of(project / file, text)}")


def test_its_totals_cannot_be_reconciled_by_period(project: Path) -> None:
    """Control totals are taken of periods of a captured snapshot."""
    folder = project / "datasets" / "kpi_nations"
    folder.mkdir()
    manifest = (project / "datasets/gdp_nations/manifest.yaml").read_text()
    manifest = manifest.replace("gdp_nations", "kpi_nations").replace("gdp:", "kpi:").partition("serving:")[0]
    manifest = manifest.replace("  grain: silver.nations\n", "  accept: {reconcile: {system: erp, sql: r.sql, "
                                "compare: {nation_id: '0'}}}\n")  # fmt: skip
    (folder / "manifest.yaml").write_text(manifest)
    (folder / "kpi_nations.sql").write_text("select nation_id, nation from gdp.gdp_nations\n")
    (folder / "r.sql").write_text("select 1 as nation_id\n")
    assert "a kpi without partitions can't be reconciled; declare partitions" in errors_of(project)[0]


def test_a_change_to_or_from_partitions_is_another_logic(project: Path) -> None:
    """The same SQL over other rows; and the version of a table with partitions isn't touched by this feature."""
    before = load_project(project)
    assert before.tables["silver.nations"].contract.partition_column is None
    assert before.tables["silver.nations"].read_by("2024-05") == WHOLE
    edit(project / TURNOVER, "description: Orders", f"{MONTHLY}description: Orders")
    edit(project / TURNOVER, INPUTS, "")
    edit(project / TURNOVER, "    nation_id:", "    order_date: {type: date, nullable: false}\n    nation_id:")
    edit(project / TURNOVER_SQL, "n.nation_id, n.name", "min(o.order_date) as order_date, n.nation_id, n.name")
    after = load_project(project)
    name = "gdp.gdp_turnover"
    assert after.tables[name].logic_version != before.tables[name].logic_version
    assert after.tables["gdp.gdp_orders"].logic_version == before.tables["gdp.gdp_orders"].logic_version
