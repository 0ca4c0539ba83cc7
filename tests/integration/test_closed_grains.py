"""Closed weeks and months over the same days: adjustments and approvals by every grain, also after a lost ledger."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from etl_assets.backfill.plan import plan_of
from etl_assets.period_close import close, list_closings, reopen
from etl_assets.recover import recover
from etl_assets.verify import verify
from tests.integration.grains_project import Sale, write_grains
from tests.lake import Lake, new_lake

pytestmark = pytest.mark.timeout(600)
FIRST, LAST = "2024-03-01", "2024-03-31"
WEEK, NEXT, MONTH = "week-2024-03-10", "week-2024-03-17", "2024-03"
SALES = {
    1: Sale(date(2024, 3, 12), "EUR", Decimal("10.00")),
    2: Sale(date(2024, 3, 14), "EUR", Decimal("5.00")),
    3: Sale(date(2024, 3, 20), "EUR", Decimal("2.00")),
}


@pytest.fixture
def lake(stack: object, tmp_path: Path) -> Iterator[Lake]:
    """March by day, two weeks whose late data is booked, and the month, whose late data waits; all published."""
    root = write_grains(tmp_path / "project", only=("sold", "weeks", "months"))
    adjusted = "{late_data: adjustment, measures: [sales, amount], serving: [{postgres: analytics.week_adjustments}]}"
    for name, declared in (("weeks", adjusted), ("months", "{late_data: approval}")):
        manifest = root / "datasets" / name / "manifest.yaml"
        text = manifest.read_text().replace(f"  sql: {name}.sql\n", f"  sql: {name}.sql\n  period_close: {declared}\n")
        manifest.write_text(text)
    with new_lake(tmp_path / "home", scale=None, project=root) as made:
        made.erp("create schema erp")
        made.erp("create table erp.sales (sale_id bigint primary key, day date not null, currency text not null, "
                 "amount numeric(15,2) not null)")  # fmt: skip
        made.erp("create table erp.returns (return_id bigint primary key, day date not null, amount numeric(15,2))")
        show(made, SALES)
        days(made)
        weeks(made)
        month(made)
        yield made


def show(lake: Lake, sales: dict[int, Sale]) -> None:
    lake.erp("truncate erp.sales")
    for i, s in sales.items():
        lake.erp("insert into erp.sales values (%s, %s, %s, %s)", i, s.day, s.currency, s.amount)


def days(lake: Lake) -> None:
    run = lake.materialize(FIRST, LAST, ["bronze/sales", "silver/sales", "gdp/sold"])
    assert run.success, run.error


def weeks(lake: Lake) -> None:
    selection = [
        "gdp/weeks",
        "gdp/weeks_adjustments",
        "postgres/analytics/weeks",
        "postgres/analytics/week_adjustments",
    ]
    run = lake.materialize(WEEK, NEXT, selection)
    assert run.success, run.error


def month(lake: Lake) -> Any:
    return lake.materialize(MONTH, None, ["gdp/months"])


def booked(lake: Lake, week: str) -> list[tuple[Any, ...]]:
    return lake.platform(
        "select adjustment, entry, sales, amount from analytics.week_adjustments where adjusted_period = %s "
        "order by adjustment, line", week.removeprefix("week-"))  # fmt: skip


def served(lake: Lake, week: str) -> list[tuple[Any, ...]]:
    return lake.platform("select sales, amount from analytics.weeks where week = %s", week.removeprefix("week-"))


def test_a_closed_week_is_adjusted_and_its_closed_month_approved(lake: Lake) -> None:
    """A sale moves to the next week within its closed month, then one more comes; the ledger is lost; a week is
    reopened. Nothing is booked twice, nothing is closed that wasn't, and the month waits for what changes it alone."""
    with lake.environment():
        close(lake.runtime, ["gdp.weeks"], WEEK, "ana", "")
        close(lake.runtime, ["gdp.months"], MONTH, "ana", "")
    moved = {**SALES, 2: replace(SALES[2], day=date(2024, 3, 19))}
    show(lake, moved)
    days(lake)
    weeks(lake)
    assert month(lake).success, "its figures are as they were"
    assert (served(lake, WEEK), served(lake, NEXT)) == ([(2, Decimal("15.00"))], [(2, Decimal("7.00"))])
    assert booked(lake, WEEK) == [(1, "reversal", -2, Decimal("-15.00")), (1, "booking", 1, Decimal("10.00"))]
    assert booked(lake, NEXT) == []

    show(lake, {**moved, 4: Sale(date(2024, 3, 13), "EUR", Decimal("1.00"))})
    days(lake)
    weeks(lake)
    assert not month(lake).success
    assert [
        s.action.value for s in plan_of(lake.runtime, ["gdp.months"], MONTH, MONTH).closure_plan.steps.values()
    ] == ["held"]
    assert [row[:2] for row in booked(lake, WEEK)[2:]] == [(2, "reversal"), (2, "booking")]
    closed = {(c.asset, c.partition, c.tag) for c in list_closings(lake.runtime)}
    assert closed == {("gdp.weeks", WEEK, f"close-{WEEK}"), ("gdp.months", MONTH, f"close-{MONTH}")}

    lake.platform("drop schema etl cascade")
    recover(lake.runtime)
    assert {(c.asset, c.partition, c.tag) for c in list_closings(lake.runtime)} == closed
    weeks(lake)
    assert len(booked(lake, WEEK)) == 4

    with lake.environment():
        reopen(lake.runtime, "gdp.weeks", WEEK, "bo", "a wrong entry")
    weeks(lake)
    assert served(lake, WEEK) == [(2, Decimal("11.00"))]
    ((n, sales, amount),) = lake.platform("select count(*), sum(sales), sum(amount) from analytics.week_adjustments")
    assert (n, sales, amount) == (6, 0, Decimal("0.00"))
    report = verify(lake.runtime, (), (), lambda _: None)
    assert report.equal, "\n".join(report.lines())
