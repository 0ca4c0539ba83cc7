"""The tiny sales with KPIs over windows of months: what they read, and in plain Python what they must hold."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path

from tests.property.tiny_sales import write_project

GROWTH, TRAILING, FIRST, HISTORY = "kpi/growth", "kpi/trailing", "kpi/first_order", "kpi/history"

_KPI = """
dataset: {name}
owner: team:test
tenant: acme
description: A measure over months.
partitions: {{by: month, every: month}}
kpi:
  key: [month]
  sql: {name}.sql
  inputs:
    gdp.sales: {window}
  columns:
    month: {{type: date, nullable: false, description: First day}}
    before: {{type: "decimal(18,2)", description: Of the other months}}
    amount: {{type: "decimal(18,2)", nullable: false, description: Of all that is read}}
"""
_SQL = """
select p.start_date as month,
    sum(s.amount) filter (where s.order_date < p.start_date)::decimal(18, 2) as before,
    coalesce(sum(s.amount), 0)::decimal(18, 2) as amount
from calendar.period as p left join gdp.sales as s on s.order_date < p.end_date
group by all
"""
_HISTORY = """
dataset: history
owner: team:test
tenant: acme
description: Of all months together, without partitions.
kpi:
  key: [currency]
  sql: history.sql
  inputs: {gdp.sales: {partitions: all}}
  columns:
    currency: {type: string, nullable: false, description: ISO code}
    amount: {type: "decimal(18,2)", nullable: false, description: Sum}
"""
_HISTORY_SQL = "select currency, sum(amount)::decimal(18, 2) as amount from gdp.sales group by all\n"
WINDOWS = {
    "growth": "{periods: [-1, 0]}",
    "trailing": "{periods: [-11, 0], missing: allow}",
    "first_order": "{partitions: all}",
}


def write_windows(root: Path) -> Path:
    """The project's files: growth refuses a missing month, trailing allows it, first_order and history read all."""
    write_project(root)
    add_windows(root, *WINDOWS)
    (root / "datasets/history").mkdir()
    (root / "datasets/history/manifest.yaml").write_text(_HISTORY.lstrip())
    (root / "datasets/history/history.sql").write_text(_HISTORY_SQL)
    return root


def add_windows(root: Path, *names: str) -> None:
    """KPIs over windows of gdp.sales, to a project that has it."""
    for name in names:
        folder = root / "datasets" / name
        folder.mkdir(parents=True)
        (folder / "manifest.yaml").write_text(_KPI.format(name=name, window=WINDOWS[name]).lstrip())
        (folder / f"{name}.sql").write_text(_SQL.lstrip())


def expected(amounts: Mapping[str, Decimal], month: str, months: list[str]) -> tuple[date, Decimal | None, Decimal]:
    """(month, before, amount) of a month that reads these months."""
    before = [amounts[m] for m in months if m < month]
    read = sum((amounts[m] for m in months if m <= month), Decimal(0))
    return date.fromisoformat(f"{month}-01"), sum(before, Decimal(0)) if before else None, read
