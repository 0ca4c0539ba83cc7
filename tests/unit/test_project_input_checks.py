"""What a table reads beside the same period: windows that fit neither SQL nor sense are errors with file and line."""

from pathlib import Path

import pytest
from project_edits import GDP, KPI, KPI_SQL, edit, project, prove_told

from etl_assets.project import load_project

__all__ = ["project"]  # a fixture is used by its name
SQL = "  sql: kpi_net_revenue.sql\n"
COMPARE = '      compare: {orders: "0", lines: "0", net_revenue: "0.00"}\n'
GROUPED = f"""{COMPARE}      by: [currency]
      rejected: {{table: gdp.gdp_sales, columns: {{orders: rows, lines: rows, net_revenue: net_amount}}}}
"""

# fmt: off
# what is edited, from, to, the text on whose line the error is, the message
CASES = {
    "not read": (
        KPI, SQL, SQL + "  inputs:\n    gdp.sales: {periods: [-1, 0]}\n", "    gdp.sales:",
        "input 'gdp.sales' is not read by the SQL; did you mean 'gdp.gdp_sales'? Valid: gdp.gdp_sales",
    ),
    "future months": (
        KPI, SQL, SQL + "  inputs: {gdp.gdp_sales: {periods: [0, 1]}}\n", "  inputs:",
        "kpi.inputs.gdp.gdp_sales: periods [0, 1] is not valid; expected [first, last], -1100 <= first <= last <= 0",
    ),
    "backwards": (
        KPI, SQL, SQL + "  inputs: {gdp.gdp_sales: {periods: [0, -11]}}\n", "  inputs:",
        "periods [0, -11] is not valid",
    ),
    "before anybody's calendar": (
        KPI, SQL, SQL + "  inputs: {gdp.gdp_sales: {periods: [-1101, 0]}}\n", "  inputs:",
        "periods [-1101, 0] is not valid",
    ),
    "three bounds": (
        KPI, SQL, SQL + "  inputs: {gdp.gdp_sales: {periods: [-2, -1, 0]}}\n", "  inputs:",
        "kpi.inputs.gdp.gdp_sales.periods: a list is not valid; expected",
    ),
    "neither": (
        KPI, SQL, SQL + "  inputs: {gdp.gdp_sales: {missing: allow}}\n", "  inputs:",
        "a window names exactly one of periods, partitions",
    ),
    "missing of all": (
        KPI, SQL, SQL + "  inputs: {gdp.gdp_sales: {partitions: all, missing: allow}}\n", "  inputs:",
        "missing: allow belongs to periods; partitions: all reads what is published",
    ),
    "window of the grain": (
        GDP, "  grain:", "  inputs: {silver.sales_lines: {periods: [-1, 0]}}\n  grain:", "  inputs:",
        "silver.sales_lines is the grain, of which each row of this period gives one row",
    ),
    "column of the period": (
        KPI_SQL, "from gdp.gdp_sales", "from gdp.gdp_sales, calendar.period as p where p.begin is not null",
        "from gdp.gdp_sales", "unknown column 'p.begin'; valid: partition, start_date, end_date",
    ),
    "reason of a column that may be null": (
        GDP, "status: {type: string, nullable: false,", "status: {type: string, reason: no status,", "    status:",
        "column 'status' has a reason for rejecting a null, and may be null; add nullable: false",
    ),
    "rejected without groups": (
        KPI, COMPARE, GROUPED.replace("      by: [currency]\n", ""), "    reconcile:",
        "rejected needs `by`: the groups to which rejected rows are added",
    ),
    "group that is no key": (
        KPI, COMPARE, f"{COMPARE}      by: [orders]\n", "      by:",
        "by 'orders' is not a column of the key of kpi.kpi_net_revenue; valid: month, nation, currency",
    ),
    "rejected of a table that isn't read": (
        KPI, COMPARE, GROUPED.replace("gdp.gdp_sales", "silver.sales_lines"), "      rejected:",
        "rejected rows of 'silver.sales_lines', which isn't an input of the same period; valid: gdp.gdp_sales",
    ),
    "rejected rows without a group": (
        KPI, COMPARE, GROUPED.replace("[currency]", "[month]"), "      by:",
        "by 'month' is not a column of gdp.gdp_sales, so that its rejected rows have no group",
    ),
    "measure that isn't told": (
        KPI, COMPARE, GROUPED.replace("orders: rows, ", ""), "      rejected:",
        "measure 'orders' is compared: say which column of gdp.gdp_sales is its part; did you mean",
    ),
    "measure that isn't compared": (
        KPI, COMPARE, GROUPED.replace("orders: rows", "order: rows"), "      rejected:",
        "measure 'order' is not compared; did you mean 'orders'? Valid: orders, lines, net_revenue",
    ),
    "text that is summed": (
        KPI, COMPARE, GROUPED.replace("net_amount", "nation"), "      rejected:",
        "column 'nation' of gdp.gdp_sales can't be summed; valid: rows, order_id, line_number,",
    ),
}
# fmt: on


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_error_names_file_line_and_what_is_valid(
    project: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str, str, str]
) -> None:
    """Somebody who reads the line can go there and knows what to write."""
    monkeypatch.chdir(project)
    prove_told(project, *case)


def test_a_window_is_part_of_the_logic(project: Path) -> None:
    """A trailing year that becomes a trailing quarter is another measure, although its SQL is the same."""
    plain = load_project(project).tables["kpi.kpi_net_revenue"]
    edit(project / KPI, SQL, SQL + "  inputs: {gdp.gdp_sales: {periods: [-11, 0]}}\n")
    year = load_project(project).tables["kpi.kpi_net_revenue"]
    edit(project / KPI, "[-11, 0]", "[-2, 0]")
    quarter = load_project(project).tables["kpi.kpi_net_revenue"]
    assert len({plain.logic_version, year.logic_version, quarter.logic_version}) == 3
    assert year.windows["gdp.gdp_sales"].periods == (-11, 0)
    assert plain.windows == {}


def test_reasons_and_groups_are_part_of_the_logic(project: Path) -> None:
    """Dead letters are content; and a KPI that was accepted by a weaker rule is accepted anew."""
    before = {t.name: t.logic_version for t in load_project(project).tables.values()}
    edit(
        project / GDP, "nullable: false, description: Status", "nullable: false, reason: no status, description: Status"
    )
    edit(project / KPI, COMPARE, GROUPED)
    after = {t.name: t.logic_version for t in load_project(project).tables.values()}
    assert {n for n in after if after[n] != before[n]} == {"gdp.gdp_sales", "kpi.kpi_net_revenue"}
