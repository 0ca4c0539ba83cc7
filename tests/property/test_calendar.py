"""Periods of every grain: they tile the days, and keys, bounds and order agree."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from etl_resources.calendar import (
    EVERY,
    Grain,
    bounds,
    every_of,
    keys_around,
    keys_between,
    keys_overlapping,
    label,
)

DAYS = st.dates(date(1, 2, 1), date(9998, 12, 31))
GRAINS = st.builds(Grain, st.sampled_from(EVERY), st.integers(1, 7), st.integers(1, 12))


@given(grain=GRAINS, day=DAYS)
def test_each_day_lies_in_one_period_that_ends_where_the_next_begins(grain: Grain, day: date) -> None:
    """A gap loses a day's rows, an overlap counts them twice."""
    key = grain.containing(day)
    before, same, after = keys_around(key, -1, 1)
    start, end = bounds(key)
    assert same == key
    assert start <= day < end
    assert (bounds(before)[1], bounds(after)[0]) == (start, end)


@given(grain=GRAINS, day=DAYS)
def test_a_key_is_that_of_every_day_between_its_bounds(grain: Grain, day: date) -> None:
    """A row's key comes from its day, what is read and replaced from the key's bounds."""
    start, end = bounds(grain.containing(day))
    assert grain.containing(start) == grain.containing(end - timedelta(days=1)) == grain.containing(day)
    assert every_of(grain.containing(day)) == grain.every


@given(grain=GRAINS, one=DAYS, other=DAYS)
def test_keys_of_a_grain_sort_as_text_as_they_do_in_time(grain: Grain, one: date, other: date) -> None:
    """Ranges, medians of earlier partitions and the newest one are found by comparing texts."""
    a, b = grain.containing(one), grain.containing(other)
    assert (a < b) == (bounds(a) < bounds(b))
    assert (a == b) == (bounds(a) == bounds(b))


@given(grain=GRAINS, day=DAYS, steps=st.integers(0, 40))
def test_a_range_of_keys_is_counted_from_either_end(grain: Grain, day: date, steps: int) -> None:
    """A backfill from A to B has what a window of so many periods has."""
    first = grain.containing(min(day, date(9980, 1, 1)))
    keys = keys_around(first, 0, steps)
    assert keys_between(first, keys[-1]) == keys == sorted(set(keys))
    assert keys_overlapping(keys[len(keys) // 2], bounds(first)[0], bounds(keys[-1])[1]) == keys


@given(grain=GRAINS, like=DAYS, start=DAYS, days=st.integers(1, 400))
def test_periods_of_a_span_are_those_that_share_a_day_with_it(grain: Grain, like: date, start: date, days: int) -> None:
    """A table reads the partitions of an input that share a day with its own: one too few loses rows."""
    end = min(start + timedelta(days=days), date(9998, 12, 31))
    if start < end:
        found = keys_overlapping(grain.containing(like), start, end)
        assert found == grain.within(start, end)
        assert bounds(found[0])[0] <= start < bounds(found[0])[1]
        assert bounds(found[-1])[0] < end <= bounds(found[-1])[1]


@given(day=st.dates(date(1, 2, 1), date(9998, 12, 31)))
def test_a_week_has_the_number_that_iso_8601_gives_it(day: date) -> None:
    """Week 53, and days of January in a week of the year before."""
    year, week, _ = day.isocalendar()
    assert label(Grain("week").containing(day), 1) == f"{year:04d}-W{week:02d}"


@given(grain=GRAINS, one=DAYS, other=DAYS)
def test_two_periods_have_two_labels(grain: Grain, one: date, other: date) -> None:
    """People would take one for the other."""
    a, b = grain.containing(one), grain.containing(other)
    assert (a == b) == (label(a, grain.fiscal_year_start) == label(b, grain.fiscal_year_start))
