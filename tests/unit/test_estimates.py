"""How long a step takes, from what it took: robust, honest about how little is known."""

import pytest

from etl_resources.estimates import Interval, fit, median_error, run_overhead, total
from etl_resources.ledger.history import PastAttempt, PastBackfill


def test_a_fixed_part_and_a_part_per_row_are_found() -> None:
    """One month takes little less than three: it isn't proportional."""
    model = fit([PastAttempt(2 + rows / 1000, rows, 1) for rows in (1000, 2000, 5000, 9000, 20_000)])
    assert (model.fixed_s, model.per_row_s) == (pytest.approx(2), pytest.approx(0.001))
    assert model.seconds(3000) == Interval(pytest.approx(5), pytest.approx(5), pytest.approx(5))


def test_one_odd_attempt_decides_nothing() -> None:
    """An attempt that recovery settled the next morning took no nine hours."""
    attempts = [PastAttempt(2 + rows / 1000, rows, 1) for rows in range(1000, 21_000, 1000)]
    assert fit([*attempts, PastAttempt(32_400, 5500, 1)]).seconds(3000).value == pytest.approx(5, rel=0.05)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_few_attempts_are_a_wide_interval(count: int) -> None:
    """Two runs that took alike prove little."""
    seconds = fit([PastAttempt(10, 1000, 1)] * count).seconds(1000)
    assert seconds.low <= 0.5 * seconds.value
    assert seconds.high >= 2 * seconds.value


def test_without_history_the_figures_are_labelled() -> None:
    """An assumption must not look like a measurement."""
    assert fit([]).basis == "assumed: no history"
    assert fit([PastAttempt(1, 1, 1)]).basis == "1 attempt"


def test_no_figure_is_negative() -> None:
    """A bigger attempt that was faster gives no negative time per row."""
    model = fit([PastAttempt(5, 1000, 1), PastAttempt(1, 9000, 1)])
    assert model.per_row_s == 0
    assert model.seconds(100_000).low > 0


def test_the_overhead_of_a_run_comes_from_backfills() -> None:
    """What Dagster takes beside the attempts differs by machine."""
    backfills = [PastBackfill(10, 20 + 3 * runs, 20, runs, 0) for runs in (1, 2, 3, 4, 5)]
    assert run_overhead(backfills).value == pytest.approx(3)
    assert run_overhead([]).low < run_overhead([]).value < run_overhead([]).high


def test_the_error_is_a_share_of_what_it_took() -> None:
    """Backfills that failed halfway took less, and say nothing."""
    ended = [PastBackfill(80, 100, 0, 1, 0), PastBackfill(150, 100, 0, 1, 0), PastBackfill(1, 100, 0, 1, failed=3)]
    assert median_error(ended) == pytest.approx(0.35)
    assert median_error([]) is None


def test_intervals_add_up() -> None:
    """The bounds too: months of one night are slow together."""
    assert total([Interval(1, 0, 2), Interval(3, 2, 5)]) == Interval(4, 2, 7)
