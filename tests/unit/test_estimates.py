"""How long a step takes, from what it took: robust, honest about how little is known."""

import pytest

from etl_resources.estimates import WIDE, Interval, fit, fit_at, median_errors, total
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


def test_the_time_of_a_row_is_told_by_attempts_of_different_sizes() -> None:
    """Eight late orders, each of a month of about as many rows, must not hide what the first load of 36 months told."""
    months = [PastAttempt(2 + noise, 3800 + n, 1) for n, noise in enumerate([0.1, -0.2, 0.8, -0.1, 0.3, -0.5, 0.0])]
    model = fit([*months, PastAttempt(20, 136_800, 36)])
    assert model.seconds(3800).value == pytest.approx(2, rel=0.1)
    assert model.seconds(68_400).value == pytest.approx(11, rel=0.1)


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


def test_the_error_is_a_share_of_what_it_came_to() -> None:
    """Backfills that failed halfway, or went on after a kill, say nothing of how long one takes."""

    def ended(told: float, was: float, **more: object) -> PastBackfill:
        return PastBackfill("daemon", {"seconds": told}, {"seconds": was, **more})

    backfills = [ended(80, 100), ended(150, 100), ended(1, 100, failed=3), ended(1, 100, resumed=True)]
    assert median_errors(backfills, ["seconds", "bytes_in"]) == {"seconds": pytest.approx(0.35)}
    assert median_errors([], ["seconds"]) == {}


def test_intervals_add_up() -> None:
    """The bounds too: months of one night are slow together."""
    assert total([Interval(1, 0, 2), Interval(3, 2, 5)]) == Interval(4, 2, 7)


def test_attempts_of_another_size_or_engine_count_only_where_there_are_no_others() -> None:
    """A cluster's minutes say little of a laptop's; where they are all there is, the text and the interval say so."""
    small = [PastAttempt(2 + rows / 1000, rows, 1, "medium", "duckdb") for rows in range(1000, 8000, 1000)]
    large = [PastAttempt(9 + rows / 9000, rows, 1, "large", "spark") for rows in range(1000, 8000, 1000)]
    mixed = [*small, *large]
    assert fit_at(mixed, "medium", "duckdb") == fit(small)
    assert fit_at(mixed, "large", "spark") == fit(large)
    guessed = fit_at(mixed, "large", "duckdb")
    assert guessed.basis == "no history at size large on duckdb: that at size medium on duckdb"
    assert (guessed.low, guessed.high) == WIDE
    assert fit_at(small, "large", "spark").basis == "no history at size large on spark: that at size medium on duckdb"
    assert fit_at([], "large", "spark").basis == "assumed: no history"


def test_attempts_of_an_earlier_build_count_for_every_size_of_their_engine() -> None:
    """An upgrade must not forget what was learnt: then there was one size of an engine in most projects."""
    before = [PastAttempt(2 + rows / 1000, rows, 1) for rows in range(1000, 8000, 1000)]
    assert fit_at(before, "medium", "duckdb") == fit(before)
    assert "no history at size large on spark: that at duckdb" in fit_at(before, "large", "spark").basis
