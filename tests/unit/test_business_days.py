"""The business calendar of platform.yaml: what it may say, and that it is part of the logic of what reads it."""

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from project_edits import GDP_SQL, KPI, KPI_SQL, PLATFORM, edit, errors_of, project, prove_told

from etl_assets.project import load_project
from etl_assets.project_binding import binding_errors
from etl_assets.transform_tests.cases import load_cases
from etl_assets.transform_tests.run import run_cases
from etl_resources.business_days import BusinessDays
from etl_resources.manifest import Calendar
from etl_resources.manifest_calendar import Holidays

__all__ = ["project"]  # a fixture is used by its name
FISCAL = "fiscal_year_start: 1"
KPI_TABLE = "kpi.kpi_net_revenue"
DAYS_SOLD = ("2024-05-01", "2024-05-02", "2024-05-03", "2024-05-04")
"""Labour Day, two business days, a Saturday."""


def calendar(**holidays: object) -> BusinessDays:
    return BusinessDays(Calendar(start="2023-08", end="2026-07", holidays=Holidays(**holidays)))  # type: ignore[arg-type]


def logic(root: Path) -> dict[str, str]:
    return {name: node.logic_version for name, node in load_project(root).tables.items()}


def with_days(root: Path) -> None:
    """The KPI counts the orders of business days only."""
    sql = root / KPI_SQL
    text = sql.read_text()
    assert "where" not in text.lower().partition("from")[2].partition("group")[0]
    edit(sql, "from gdp.gdp_sales", "from gdp.gdp_sales semi join (select day as order_date from calendar.days where "
         "is_business_day) using (order_date)")  # fmt: skip


def test_bavaria_in_may_2024() -> None:
    """Labour Day, Ascension, Whit Monday and Corpus Christi; known from any wall calendar."""
    days = calendar(country="DE", subdivision="BY")
    assert days.nth(2024, 5, 1) == date(2024, 5, 2)
    assert days.nth(2024, 5, 3) == date(2024, 5, 6)
    assert days.nth(2024, 5, -1) == date(2024, 5, 31)
    assert days.holiday(date(2024, 5, 30)) == "Corpus Christi"
    assert len(days.of_month(2024, 5)) == 19
    assert calendar(country="DE").is_business_day(date(2024, 5, 30))


def test_a_company_has_days_off_and_works_on_others() -> None:
    """A bridge day, and a Saturday on which the warehouse counts."""
    days = calendar(country="DE", days={"2024-05-31": "bridge day"}, business=("2024-05-01", "2024-05-11"))
    assert not days.is_business_day(date(2024, 5, 31))
    assert days.is_business_day(date(2024, 5, 1))
    assert days.is_business_day(date(2024, 5, 11))
    assert days.add(date(2024, 5, 30), 1) == date(2024, 6, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{country: XX}", "unknown country 'XX'"),
        ("{country: DE, subdivision: CA}", "unknown subdivision 'CA' of DE"),
        ("{subdivision: BY}", "a subdivision needs its country"),
        ("{days: {2024-02-30: x}}", "2024-02-30"),
        ("{days: {2024-05-31: a}, business: [2024-05-31]}", "2024-05-31 can't be a day off and a business day"),
        ("{country: DE, added: [2024-05-31]}", "added"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, given: str, message: str
) -> None:
    """A misspelt holiday must not be a business day in silence."""
    monkeypatch.chdir(project)
    prove_told(project, PLATFORM, FISCAL, f"holidays: {given}\n  {FISCAL}", "  holidays", message)


def test_only_tables_that_read_the_days_depend_on_them(project: Path) -> None:
    """A new holiday must not make three years of everything else stale."""
    before = logic(project)
    edit(project / PLATFORM, FISCAL, f"holidays: {{country: DE}}\n  {FISCAL}")
    assert logic(project) == before
    with_days(project)
    reading = logic(project)
    assert {n for n in before if before[n] != reading[n]} == {KPI_TABLE}
    edit(project / PLATFORM, "{country: DE}", "{country: DE, days: {2025-05-30: bridge day}}")
    corrected = logic(project)
    assert {n for n in before if reading[n] != corrected[n]} == {KPI_TABLE}
    assert "calendar.days" in load_project(project).logic_parts(KPI_TABLE)


def test_a_calendar_that_is_extended_is_the_same_logic(project: Path) -> None:
    """Every January somebody adds a year; nothing that was computed changes by that."""
    with_days(project)
    before = logic(project)
    edit(project / PLATFORM, "end: 2026-07", "end: 2027-12")
    assert logic(project) == before


def test_the_engine_and_validation_know_the_relation(project: Path) -> None:
    """With its columns and types, and the columns that it has not."""
    with_days(project)
    assert list(binding_errors(load_project(project))) == []
    edit(project / KPI_SQL, "is_business_day", "is_busy")
    (error,) = errors_of(project)
    assert "is_busy" in error


def test_an_unknown_relation_of_the_calendar_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the valid ones."""
    monkeypatch.chdir(project)
    prove_told(project, GDP_SQL, "from silver.sales_lines", "from calendar.dayz, silver.sales_lines",
               "from calendar.dayz", "did you mean 'calendar.days'")  # fmt: skip


def test_names_of_holidays_are_the_same_everywhere() -> None:
    """The package translates them into the language of the environment: another machine would be another logic."""
    program = (
        "from etl_resources.business_days import BusinessDays; from etl_resources.manifest import Calendar; "
        "from etl_resources.manifest_calendar import Holidays; "
        "print(BusinessDays(Calendar(start='2024-01', end='2024-12', holidays=Holidays(country='DE'))).digest)"
    )
    told = {
        subprocess.run([sys.executable, "-c", program], env={**os.environ, "LANG": lang, "LANGUAGE": lang},
                       capture_output=True, text=True, check=True).stdout
        for lang in ("C", "en_US", "de")
    }  # fmt: skip
    assert len(told) == 1


def test_no_business_days_at_all_end_the_search() -> None:
    """Every day off for twelve years is a mistake, not an endless loop."""
    from datetime import timedelta

    off = {(date(2024, 1, 1) + timedelta(n)).isoformat(): "off" for n in range(4400)}
    days = calendar(days=off)
    with pytest.raises(ValueError, match="no business day within ten years"):
        days.add(date(2024, 1, 1), 1)


def test_a_transform_reads_the_days(project: Path) -> None:
    """Through the product's own transform: what was sold on Labour Day and on a Saturday is left out."""
    edit(project / PLATFORM, FISCAL, f"holidays: {{country: DE}}\n  {FISCAL}")
    with_days(project)
    edit(project / KPI, "  conserve: {of: gdp.gdp_sales, sums: {lines: rows, net_revenue: net_amount}}\n", "")
    folder = project / "datasets/kpi_net_revenue/tests"
    folder.mkdir()
    row = "nation: FRANCE, currency: EUR, net_amount: 10.00"
    sold = [f"    - {{order_id: {n}, order_date: {day}, {row}}}" for n, day in enumerate(DAYS_SOLD, start=1)]
    (folder / "days.yaml").write_text(
        "description: Business days only.\npartition: 2024-05\ngiven:\n  gdp.gdp_sales:\n" + "\n".join(sold) + "\n"
        "expect:\n  - {month: 2024-05-01, nation: FRANCE, currency: EUR, orders: 2, lines: 2, net_revenue: 20.00}\n"
    )
    loaded = load_project(project)
    (case,) = load_cases(loaded)
    (result,) = run_cases([case])
    assert result.passed, list(map(str, result.differences))
