"""The reconcile sensor and KPIs that wait for a person: not asked for again and again, and not forgotten."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.property.tiny_sales import REVENUE, SILVER_LINES
from tests.refused_kpi import MONTH, RefusedKpi, refused_kpi
from tests.ticks import Ticker

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def kpi(stack: object, tmp_path: Path) -> Iterator[RefusedKpi]:
    with refused_kpi(tmp_path) as made:
        yield made


def settle(ticker: Ticker, most: int = 8) -> int:
    """Tick until nothing is asked for; runs that failed."""
    failed = 0
    for _ in range(most):
        asked = ticker.tick()
        if not asked:
            return failed
        failed += sum(not ticker.run(a).success for a in asked)
    raise AssertionError(ticker.skipped)


def test_a_held_kpi_waits_and_other_totals_alone_compare_it_again(kpi: RefusedKpi) -> None:
    """A line that silver rejects changes no table, and yet what the KPI is measured by."""
    ticker = Ticker(kpi.lake)
    assert settle(ticker) == 1, "the KPI is refused, once"
    assert len(kpi.waiting()) == 1
    for _ in range(3):
        ticker.ahead += timedelta(hours=2)
        assert ticker.tick() == []
    assert "pinned, held or without an input: 1" in ticker.skipped

    kpi.correct()
    ticker.ahead += timedelta(hours=25)
    assert settle(ticker) == 0
    assert kpi.waiting() == []
    before, lines = kpi.publishes(), kpi.publishes(SILVER_LINES)

    kpi.sell("-3.00", line=9)
    ticker.ahead += timedelta(hours=25)
    assert settle(ticker) == 1
    assert [rows for rows, _ in kpi.publishes(SILVER_LINES)][-1:] == [rows for rows, _ in lines][-1:]
    assert (kpi.publishes(), len(kpi.waiting())) == (before, 1)
    assert ticker.tick() == []
    assert kpi.waiting()[0].asset == REVENUE
    assert kpi.waiting()[0].partition == MONTH
