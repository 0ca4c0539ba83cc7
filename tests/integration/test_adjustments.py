"""A closed month keeps its figures for ever; what late data changes is booked beside them, exactly and once (U1)."""

import os
import signal
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from etl_assets.account import account
from etl_assets.backfill.plan import plan_of
from etl_assets.maintain import maintain
from etl_assets.query import run_query
from etl_assets.recover import recover
from etl_assets.verify import verify
from etl_resources.errors import PermanentError
from etl_resources.ledger.ledger import Ledger
from tests.closed_books import CLOSED_JAN, FEB, JAN, REVENUE, ClosedBooks, closed_books
from tests.fault.scenarios import until
from tests.property.tiny_sales import State
from tests.ticks import Ticker

pytestmark = pytest.mark.timeout(300)
ADJUSTMENTS, SERVED_ADJUSTMENTS = "kpi.revenue_adjustments", "postgres.analytics.revenue_adjustments"
DECLARED = (
    "{late_data: adjustment, measures: [orders, lines, amount], serving: [{postgres: analytics.revenue_adjustments}]}"
)


@pytest.fixture
def books(stack: object, tmp_path: Path) -> Iterator[ClosedBooks]:
    with closed_books(tmp_path, DECLARED) as made:
        yield made


def booked(books: ClosedBooks, month: str = JAN) -> list[tuple[Any, ...]]:
    """Adjustments as they are served."""
    return books.lake.platform(
        "select adjustment, entry, currency, lines, amount from analytics.revenue_adjustments "
        "where to_char(adjusted_period, 'YYYY-MM') = %s order by adjustment, line", month
    )  # fmt: skip


def restated(books: ClosedBooks) -> list[tuple[Any, ...]]:
    """Closed figures and adjustments together, as they are served."""
    return books.lake.platform(
        "select currency, sum(lines)::bigint, sum(amount) from ("
        "select currency, lines, amount from analytics.revenue where to_char(month, 'YYYY-MM') = %s union all "
        "select currency, lines, amount from analytics.revenue_adjustments "
        "where to_char(adjusted_period, 'YYYY-MM') = %s) t group by 1 having sum(lines) <> 0 order by 1", JAN, JAN
    )  # fmt: skip


def test_late_data_is_booked_beside_the_closed_figures(books: ClosedBooks) -> None:
    """Closed rows stay; each change is a dated adjustment; a change that is reverted is reversed; consumers hear."""
    books.close()
    books.sell("1.00", line=3)

    first = books.run(last=FEB)

    assert first.success, first.error
    assert first.statuses["kpi/revenue"][JAN] == "unchanged"
    assert books.served() == CLOSED_JAN
    assert booked(books) == [
        (1, "reversal", "EUR", -2, Decimal("-10.11")), (1, "booking", "EUR", 3, Decimal("11.11")),
    ]  # fmt: skip
    assert restated(books) == [("EUR", 3, Decimal("11.11")), ("USD", 1, Decimal("5.55"))]
    assert books.why().status == "closed"
    assert books.waiting() == []
    ((found_on, run, because),) = books.lake.platform(
        "select distinct adjusted_on, adjusted_by_run, adjusted_because from analytics.revenue_adjustments"
    )
    assert (run, because.split(";")[0]) == (first.run_id, "gdp.sales 2024-01: content changed")
    assert found_on >= date(2026, 1, 1)
    assert books.send() == 1
    (notice,) = books.hook.of("restatement")
    assert (notice["asset"], notice["late_data"]) == (REVENUE, "adjustment")
    assert notice["adjustments"] == {"table": ADJUSTMENTS, "entries": 2}
    assert notice["totals"]["amount"] == {"before": "15.66", "after": "16.66"}
    assert notice["targets"] == [SERVED_ADJUSTMENTS]

    again = books.run(last=FEB)
    assert again.success, again.error
    assert {again.statuses[a][JAN] for a in ("kpi/revenue", "kpi/revenue_adjustments")} == {"pruned"}
    books.show(State(books.state.orders, {k: v for k, v in books.state.lines.items() if k != (1, 3)}))
    assert books.run(last=FEB).success
    assert [row[:2] for row in booked(books)[2:]] == [(2, "reversal"), (2, "booking")]
    assert restated(books) == CLOSED_JAN
    assert books.lake.platform("select sum(amount), sum(lines) from analytics.revenue_adjustments") == [(0, 0)]
    with Ledger.open(books.lake.settings) as ledger:
        for name in ("revenue", ADJUSTMENTS):
            assert account(books.lake.runtime.project, ledger, name, JAN).balances
    assert verify(books.lake.runtime, (), (), lambda _: None).equal
    books.prove_right()


def test_the_sensor_books_what_comes_late(books: ClosedBooks) -> None:
    """By itself, in the run that recomputes the closed month; a plan says so beforehand."""
    books.close()
    ticker = Ticker(books.lake)
    for _ in range(3):
        for asked in ticker.tick():
            assert ticker.run(asked).success
    books.sell("1.00", line=3)
    assert books.run(selection=["bronze/orders", "bronze/lines", "silver/orders", "silver/lines", "gdp/sales"]).success
    plan = plan_of(books.lake.runtime, ["kpi.revenue"], JAN, JAN)
    (step,) = [s for s in plan.closure_plan.steps.values() if s.asset == REVENUE]
    assert step.closed.endswith("another content will be an adjustment")
    for _ in range(3):
        for asked in ticker.tick():
            assert ticker.run(asked).success
    assert ticker.tick() == []
    assert restated(books)[0] == ("EUR", 3, Decimal("11.11"))
    assert len(books.hook.of("restatement")) == 1


@pytest.mark.parametrize("lost", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_reopened_month_takes_its_adjustments_back(books: ClosedBooks, lost: bool) -> None:
    """The figures are in the month itself then, once; closed again, later changes are booked on top. lost: the ledger
    no longer knows from what the closed figures were made, as when it was rebuilt after their version expired."""
    attempt = books.close().closing.attempt
    books.sell("1.00", line=3)
    assert books.run().success
    assert len(booked(books)) == 2

    if lost:
        for table in ("publishes", "intent_partitions", "versions", "intents"):
            books.lake.platform(f"delete from etl.{table} where attempt = %s", attempt)
    books.reopen()
    run = books.run()

    assert run.success, run.error
    assert books.served() == restated(books) == [("EUR", 3, Decimal("11.11")), ("USD", 1, Decimal("5.55"))]
    assert len(booked(books)) == 4
    books.close()
    books.sell("2.00", line=4)
    assert books.run().success
    assert books.served()[0] == ("EUR", 3, Decimal("11.11"))
    assert restated(books)[0] == ("EUR", 4, Decimal("13.11"))
    books.prove_right()


def test_a_row_that_leaves_a_closed_month_is_booked_out_of_it(books: ClosedBooks) -> None:
    """It is in the open month, in the closed one as it was reported, and in the adjustments with the other sign."""
    books.close()
    moved: dict[Any, Any] = {**books.state.orders, 1: (date(2024, 2, 5), "EUR")}
    books.show(State(moved, books.state.lines))
    run = books.run(last=FEB)
    assert run.success, run.error
    assert books.served() == CLOSED_JAN
    assert books.served(FEB) == [("EUR", 2, Decimal("10.11"))]
    assert booked(books) == [(1, "reversal", "EUR", -2, Decimal("-10.11"))]
    assert restated(books) == [("USD", 1, Decimal("5.55"))]
    books.prove_right()


def test_maintenance_and_a_lost_ledger_leave_the_books_as_they_are(books: ClosedBooks) -> None:
    """What is booked is not booked again, and what the next adjustment is made from isn't cleaned away."""
    books.close()
    books.sell("1.00", line=3)
    assert books.run(selection=["bronze/orders", "bronze/lines", "silver/orders", "silver/lines", "gdp/sales",
                                "kpi/revenue"]).success  # fmt: skip
    lake = books.lake
    lake.env |= {"ETL_MAINTAIN_KEEP_VERSIONS": "1", "ETL_MAINTAIN_MAX_VERSIONS": "1", "ETL_MAINTAIN_GUARD_S": "0"}
    for name in ("settings", "runtime"):
        lake.__dict__.pop(name, None)
    assert not maintain(lake.runtime, [], lambda _: None).failed

    assert books.run().success
    assert len(booked(books)) == 2
    lake.platform("drop schema etl cascade")
    recover(lake.runtime)
    run = books.run()
    assert run.success, run.error
    assert len(booked(books)) == 2
    books.sell("2.00", line=4)
    assert books.run().success
    assert books.served() == CLOSED_JAN
    assert restated(books)[0] == ("EUR", 4, Decimal("13.11"))
    with run_query(lake.runtime, f"select count(*) from {ADJUSTMENTS}") as found:
        assert [r for b in found.batches for r in b] == [(4,)]
    books.prove_right()


def test_a_month_without_its_table_of_adjustments_is_not_closed(books: ClosedBooks) -> None:
    """Late data would have nowhere to go."""
    assert books.run("2024-03", selection=["bronze/orders", "bronze/lines", "silver/orders", "silver/lines",
                                           "gdp/sales", "kpi/revenue"]).success  # fmt: skip
    with pytest.raises(PermanentError, match=r"kpi\.revenue_adjustments, partition 2024-03 is never computed"):
        books.close("2024-03")


@pytest.mark.parametrize(
    ("point", "match"),
    [
        ("publish.after_swap", "revenue_adjustments"),
        pytest.param("stage.committed", "revenue_adjustments", marks=pytest.mark.long),
        pytest.param("evidence.recording", "", marks=pytest.mark.long),
        pytest.param("publish.after_swap", "kpi_revenue", marks=pytest.mark.long),
        pytest.param("audit.passed", "kpi.revenue", marks=pytest.mark.long),
    ],
)
def test_a_run_that_dies_books_once(books: ClosedBooks, point: str, match: str) -> None:
    """Before its commit nothing is booked, after it once: the next run goes on from what is there."""
    books.close()
    books.sell("1.00", line=3)
    child = books.lake.spawn(JAN, points=[{"point": point, "match": match, "action": "kill"}])
    assert child.wait() is None, child.log

    run = books.run()

    assert run.success, run.error
    assert books.served() == CLOSED_JAN
    assert len(booked(books)) == 2
    assert restated(books)[0] == ("EUR", 3, Decimal("11.11"))
    books.send()
    assert len(books.hook.of("restatement")) == 1
    books.prove_right()


def test_two_who_adjust_at_once_book_once(books: ClosedBooks, tmp_path: Path) -> None:
    """One of them finds the entries of the other, or is fenced by them."""
    books.close()
    books.sell("1.00", line=3)
    barrier = tmp_path / "barrier"
    children = [books.lake.spawn(JAN, barrier=barrier, selection=["kpi/revenue_adjustments"]) for _ in range(2)]
    assert books.run(selection=["bronze/orders", "bronze/lines", "silver/orders", "silver/lines", "gdp/sales",
                                "kpi/revenue"]).success  # fmt: skip
    barrier.touch()
    for child in children:
        child.wait()
    assert books.run().success
    assert len(booked(books)) == 2
    assert restated(books)[0] == ("EUR", 3, Decimal("11.11"))
    books.prove_right()


def test_who_read_before_another_booked_reads_again(books: ClosedBooks) -> None:
    """The newer attempt would put its own entries in the place of those that somebody may have reported already."""
    books.close()
    books.sell("1.00", line=3)
    assert books.run(selection=["bronze/orders", "bronze/lines", "silver/orders", "silver/lines", "gdp/sales",
                                "kpi/revenue"]).success  # fmt: skip
    sleepers = []
    for name in ("older", "newer"):
        reached = books.lake.home / name
        point = {"point": "stage.committed", "match": "revenue", "action": "stop", "reached": str(reached)}
        sleepers.append(books.lake.spawn(JAN, points=[point], selection=["kpi/revenue_adjustments"]))
        until(reached.exists, f"the {name} one is asleep")
    for sleeper in sleepers:
        os.kill(sleeper.pid, signal.SIGCONT)
        run = sleeper.wait()
        assert run is not None
        assert run.success, run.error
    older = sleepers[0].wait()

    assert older is not None
    assert books.run().success
    assert books.lake.platform("select distinct adjusted_by_run from analytics.revenue_adjustments") == [
        (older.run_id,)
    ]
    assert len(booked(books)) == 2
    books.prove_right()
