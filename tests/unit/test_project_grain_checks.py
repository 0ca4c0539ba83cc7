"""Partitions of several grains in one project: what may be read, counted and compared, with file and line."""

from pathlib import Path

import pytest
from project_edits import edit, errors_of, line_of

from etl_assets.graph.relations import input_windows
from etl_assets.project import load_project
from tests.integration.grains_project import write_grains

PLATFORM, SALES = "platform.yaml", "datasets/sales/manifest.yaml"
WEEKS, MONTHS, SHARES = (f"datasets/{name}/manifest.yaml" for name in ("weeks", "months", "shares"))
QUARTERS, FISCAL = "datasets/quarters/manifest.yaml", "datasets/fiscal/manifest.yaml"
SOLD = "datasets/sold/sold.sql"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Days captured, and tables of every other grain."""
    return write_grains(tmp_path / "etl_assets")


GROUPS = "      by: [currency]\n      rejected: {table: gdp.sold, columns: {sales: rows, amount: amount}}\n"
# fmt: off
# what is edited, from, to, the text on whose line the error is, the message
CASES = {
    "start that is no key of the grain": (
        WEEKS, "every: week}", "every: week, start: week-2024-03-04}", "partitions:",
        "start week-2024-03-04 is no week of the platform's calendar, which has week-2024-03-03; valid: "
        "week-2024-02-25 to week-2024-04-28",
    ),
    "start of another grain": (
        WEEKS, "every: week}", "every: week, start: 2024-03}", "partitions:",
        "start 2024-03 is no week of the platform's calendar, which has week-2024-02-25; valid:",
    ),
    "end outside of the calendar": (
        QUARTERS, "every: quarter}", "every: quarter, end: quarter-2024-07}", "partitions:",
        "end quarter-2024-07 lies outside the platform's calendar; valid: quarter-2024-01 to quarter-2024-04",
    ),
    "end before start": (
        SALES, "every: day}", "every: day, start: 2024-04-02, end: 2024-04-01}", "partitions:",
        "end 2024-04-01 lies before start 2024-04-02",
    ),
    "weeks of which a month has no whole ones": (
        MONTHS, "conserve: {of: gdp.sold, sums: {amount: amount}}", "conserve: {of: gdp.weeks, sums: {amount: amount}}",
        "  conserve:", "gdp.weeks has partitions by week, of which a month has no whole ones: its rows can't be",
    ),
    "totals of many days without groups": (
        QUARTERS, GROUPS, "", "    reconcile:",
        "totals are kept by day, several for a quarter: say by which columns they are summed (`by`)",
    ),
    "all rows of all partitions": (
        SHARES, "{periods: [0, 0], rows: partitions}", "{partitions: all, rows: partitions}", "  inputs:",
        "rows: partitions belongs to periods; partitions: all reads all rows",
    ),
}
# fmt: on


@pytest.mark.parametrize("case", CASES)
def test_error_names_file_line_and_what_is_valid(project: Path, case: str) -> None:
    """Whoever declares partitions sees at once which ones the calendar has."""
    file, old, new, where, message = CASES[case]
    if case.startswith("weeks of which"):
        edit(project / "datasets/months/months.sql", "gdp.sold", "gdp.weeks")
    edit(project / file, old, new)
    found = errors_of(project)
    assert any(f"{file}:{line_of(project / file, where)}: " in e and message in e for e in found), found


def test_captures_of_one_system_at_two_moments_are_not_joined(project: Path) -> None:
    """Sales of one moment and returns of another make no consistent figure."""
    edit(project / SOLD, "from silver.sales", "from silver.sales join silver.returns using (day)")
    found = errors_of(project)
    message = (
        "gdp.sold is made from bronze.sales by day and bronze.returns by month, which are captured of erp at "
        "moments of their own: give their datasets the same partitions"
    )
    assert any(f"{SOLD}:1: {message}" in e for e in found), found


def test_a_daily_target_has_no_index_per_day(project: Path) -> None:
    """A server of default size holds a thousand."""
    edit(project / PLATFORM, 'postgres: ["analytics.*"]', 'postgres: ["analytics.*"], elasticsearch: [sold]')
    edit(project / "datasets/sold/manifest.yaml", "[{postgres: analytics.sold,", "[{elasticsearch: sold,")
    assert any("say `load: upsert`" in e for e in errors_of(project))


def test_the_project_says_what_each_partition_reads(project: Path) -> None:
    """Days of a week, months of a fiscal quarter, a month of a day: stated nowhere, known everywhere."""
    loaded = load_project(project)
    weeks = input_windows(loaded, loaded.tables["gdp.weeks"])["gdp.sold"]
    assert weeks.read_by("week-2024-02-25") == ["2024-03-01", "2024-03-02"]
    assert not weeks.reaches_out("week-2024-02-25")
    fiscal = input_windows(loaded, loaded.tables["kpi.fiscal"])["gdp.months"]
    assert fiscal.read_by("fiscal-quarter-2024-02") == ["2024-03", "2024-04"]
    shares = input_windows(loaded, loaded.tables["gdp.shares"])
    assert shares["gdp.months"].read_by("2024-03-17") == ["2024-03"]
    assert "gdp.sold" not in shares
    two = input_windows(loaded, loaded.tables["kpi.two_periods"])["gdp.weeks"]
    assert two.read_by("fiscal-period-2024-04")[:2] == ["week-2024-02-25", "week-2024-03-03"]
    assert two.reaches_out("fiscal-period-2024-04")
