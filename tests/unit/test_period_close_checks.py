"""`period_close` in a manifest: what it may say, and the table of adjustments that comes with it."""

from pathlib import Path

import pytest

from etl_assets.column_lineage import Column, ColumnLineage
from etl_assets.project import Project, load_project
from etl_assets.project_binding import binding_errors
from etl_resources.adjustments import OWN
from etl_resources.errors import ManifestErrors
from tests.property.tiny_sales import write_project

MEASURES = "measures: [orders, lines, amount]"
ADJUSTMENT = f"{{late_data: adjustment, {MEASURES}, serving: [{{postgres: analytics.revenue_adjustments}}]}}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_project(tmp_path)
    return tmp_path


def declared(root: Path, period_close: str, dataset: str = "revenue") -> Project:
    manifest = root / "datasets" / dataset / "manifest.yaml"
    sql = f"  sql: {dataset}.sql\n"
    assert sql in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(sql, f"{sql}  period_close: {period_close}\n"))
    return load_project(root)


def problem(root: Path, period_close: str, dataset: str = "revenue") -> str:
    with pytest.raises(ManifestErrors) as found:
        declared(root, period_close, dataset)
    (error,) = found.value.errors
    assert error.line is not None
    return str(error)


def test_saying_it_computes_nothing_anew(root: Path) -> None:
    """Whether a period may be closed decides no content: neither tokens nor logic versions change."""
    before = {n: t.logic_version for n, t in load_project(root).tables.items()}
    after = {n: t.logic_version for n, t in declared(root, "{late_data: approval}").tables.items()}
    assert after == before


def test_adjustments_come_with_a_table_and_its_target(root: Path) -> None:
    """Its columns are its own and those of what it adjusts, without their rules, which reversals don't keep."""
    project = declared(root, ADJUSTMENT)
    node = project.tables["kpi.revenue_adjustments"]
    assert node.contract.names == (*OWN, "month", "currency", "orders", "lines", "amount")
    assert node.contract.key == ("adjusted_period", "adjustment", "line")
    assert (node.contract.partition_column, node.inputs) == ("adjusted_period", ("kpi.revenue",))
    assert [n.name for n in project.serving] == ["postgres.analytics.revenue", "postgres.analytics.revenue_adjustments"]
    assert list(binding_errors(project)) == []
    made = ColumnLineage(project).made(Column("kpi.revenue_adjustments", "amount"))
    assert made.sources == (Column("kpi.revenue", "amount"),)


@pytest.mark.parametrize(
    ("period_close", "message"),
    [
        ("{late_data: adjustment}", "adjustment needs `measures`"),
        ("{late_data: approval, serving: [{postgres: analytics.x}]}", "serving is of adjustments"),
        ("{late_data: adjustment, measures: [currency]}", "measure 'currency' is not a column outside the key that is"),
        ("{late_data: approval, measures: [amuont]}", "measure 'amuont' .* 'amount'"),
        ("{late_data: later}", "'later' is not valid; valid: approval, adjustment"),
    ],
)
def test_what_makes_no_sense_is_refused(root: Path, period_close: str, message: str) -> None:
    """With the file, the line and what is valid."""
    with pytest.raises(ManifestErrors, match=rf"revenue/manifest\.yaml:\d+: .*{message}"):
        declared(root, period_close)


def test_a_dataset_of_the_name_is_in_the_way(root: Path) -> None:
    """Two tables of one name would be one."""
    folder = root / "datasets" / "revenue_adjustments"
    folder.mkdir()
    text = (root / "datasets" / "orders" / "manifest.yaml").read_text()
    (folder / "manifest.yaml").write_text(text.replace("dataset: orders", "dataset: revenue_adjustments"))
    assert "would be the table of adjustments, and is a dataset: rename it" in problem(root, ADJUSTMENT)


def test_what_equals_totals_of_now_may_not_read_closed_figures(root: Path) -> None:
    """It would be refused for ever: the ERP goes on, and what it reads doesn't."""
    manifest = root / "datasets" / "sales" / "manifest.yaml"
    manifest.write_text(
        manifest.read_text().replace("key: [order_id, line_number]", "key: [order_id, line_number, order_date]")
    )
    found = problem(root, "{late_data: adjustment, measures: [amount]}", "sales")
    assert "kpi.revenue is made of gdp.sales and must equal the control totals of now" in found
    assert "say it of kpi.revenue, or `approval` here" in found


def test_a_row_may_not_be_in_two_periods_under_one_key(root: Path) -> None:
    """It moves from a closed month to an open one, and the closed figures stay: a target would refuse it for ever."""
    with pytest.raises(ManifestErrors) as found:
        declared(root, "{late_data: adjustment, measures: [amount]}", "sales")
    assert "under one key of gdp.sales: add 'order_date' to that key, or let late data wait" in str(found.value)


def test_a_renamed_column_is_renamed_in_the_adjustments(root: Path) -> None:
    """As in the table: what was booked under the former name stays what was booked."""
    manifest = root / "datasets" / "revenue" / "manifest.yaml"
    text = (
        manifest.read_text()
        .replace("    lines: {", "    sold: {renamed_from: lines, ")
        .replace('lines: "0"', 'sold: "0"')
    )
    manifest.write_text(text)
    for name in ("revenue.sql", "reconcile.sql"):
        file = manifest.with_name(name)
        file.write_text(file.read_text().replace("as lines", "as sold"))
    node = declared(root, ADJUSTMENT.replace("lines", "sold")).tables["kpi.revenue_adjustments"]
    assert {c.name: c.renamed_from for c in node.contract.columns}["sold"] == "lines"
