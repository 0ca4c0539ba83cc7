"""Partitions as periods: keys, bounds, labels and ranges (M5)."""

from datetime import date

import pytest

from etl_resources.calendar import (
    MONTH,
    WHOLE,
    Grain,
    bounds,
    contiguous_ranges,
    is_period,
    keys_between,
    label,
    last_keys,
    period_relation,
    stretches,
)


@pytest.mark.parametrize(
    ("partition", "first", "next_first"),
    [
        ("2024-02", date(2024, 2, 1), date(2024, 3, 1)),
        ("2023-12", date(2023, 12, 1), date(2024, 1, 1)),
        ("0001-01", date(1, 1, 1), date(1, 2, 1)),
    ],
)
def test_a_month_ends_where_the_next_begins(partition: str, first: date, next_first: date) -> None:
    """A gap or an overlap of a day would lose or double that day's rows."""
    assert bounds(partition) == (first, next_first)


@pytest.mark.parametrize("day", [date(2024, 2, 29), date(2023, 12, 31), date(1, 1, 1), date(999, 10, 1)])
def test_a_day_lies_within_the_bounds_of_its_month(day: date) -> None:
    """The key comes from the row, the bounds from the key: they must agree."""
    start, end = bounds(MONTH.containing(day))
    assert start <= day < end


@pytest.mark.parametrize(
    "wrong",
    [
        "2024-13",
        "2024-00",
        "2024",
        "march",
        "all",
        "2024-5",
        "2024-02-30",
        "week-2024-05",
        "quarter-2024-04-01",
        "Q2024-04",
        "2024-01\n",
    ],
)
def test_what_is_no_month_has_no_bounds(wrong: str) -> None:
    """Guessing would read another period."""
    with pytest.raises(ValueError):
        bounds(wrong)


def test_months_between_includes_both_ends_and_crosses_years() -> None:
    """A backfill of A…B computes A and B."""
    assert keys_between("2023-11", "2024-02") == ["2023-11", "2023-12", "2024-01", "2024-02"]
    assert keys_between("2024-02", "2024-02") == ["2024-02"]


def test_no_month_lies_between_an_end_and_a_later_start() -> None:
    """A range that is empty must not compute its first month."""
    assert keys_between("2024-03", "2024-01") == []


def test_neighbouring_months_are_read_as_one_range() -> None:
    """One index range per run of months; a missing month must stay out."""
    assert contiguous_ranges(["2024-02", "2023-12", "2024-01", "2024-04", "2024-01"]) == [
        (date(2023, 12, 1), date(2024, 3, 1)),
        (date(2024, 4, 1), date(2024, 5, 1)),
    ]
    assert contiguous_ranges([]) == []


def test_the_newest_months_come_in_order() -> None:
    """None of them when none is asked for: a slice of [-0:] would be all."""
    months = ["2024-02", "2023-12", "2024-01"]
    assert last_keys(months, 2) == ["2024-01", "2024-02"]
    assert last_keys(months, 9) == ["2023-12", "2024-01", "2024-02"]
    assert last_keys(months, 0) == []


def test_neighbours_are_one_stretch_whatever_their_keys_are() -> None:
    """One run for a stretch: a key between two that weren't asked for would be run as well."""
    keys = ["2023-W52", "2024-W01", "2024-W02", "2024-W04", "2024-W05"]
    assert stretches(keys, {"2024-W01", "2023-W52", "2024-W04", "unknown"}) == [["2023-W52", "2024-W01"], ["2024-W04"]]
    assert stretches(["all"], {"all"}) == [["all"]]
    assert stretches(keys, ()) == []


@pytest.mark.parametrize(
    ("grain", "day", "key", "start", "end", "told"),
    [
        (Grain("day"), date(2024, 2, 29), "2024-02-29", date(2024, 2, 29), date(2024, 3, 1), "2024-02-29"),
        (Grain("week"), date(2024, 12, 31), "week-2024-12-30", date(2024, 12, 30), date(2025, 1, 6), "2025-W01"),
        (Grain("week"), date(2021, 1, 3), "week-2020-12-28", date(2020, 12, 28), date(2021, 1, 4), "2020-W53"),
        (Grain("week", 7), date(2024, 12, 31), "week-2024-12-29", date(2024, 12, 29), date(2025, 1, 5), "2025-W01"),
        (Grain("month"), date(2024, 5, 17), "2024-05", date(2024, 5, 1), date(2024, 6, 1), "2024-05"),
        (Grain("quarter"), date(2024, 5, 17), "quarter-2024-04", date(2024, 4, 1), date(2024, 7, 1), "2024-Q2"),
        (
            Grain("fiscal_period", 1, 7),
            date(2024, 7, 1),
            "fiscal-period-2024-07",
            date(2024, 7, 1),
            date(2024, 8, 1),
            "FY2025-P01",
        ),
        (
            Grain("fiscal_quarter", 1, 8),
            date(2025, 1, 31),
            "fiscal-quarter-2024-11",
            date(2024, 11, 1),
            date(2025, 2, 1),
            "FY2025-Q2",
        ),
    ],
)
def test_a_key_tells_its_bounds_and_its_label(
    grain: Grain, day: date, key: str, start: date, end: date, told: str
) -> None:
    """Nobody needs the calendar to know which days a key means: it may have changed since."""
    assert grain.containing(day) == key
    assert bounds(key) == (start, end)
    assert label(key, grain.fiscal_year_start) == told
    assert grain.is_key(key)


def test_a_key_of_other_weeks_or_quarters_is_none() -> None:
    """Two kinds of weeks in one table would count days twice."""
    assert not Grain("week", 7).is_key("week-2024-12-30")
    assert not Grain("fiscal_quarter", 1, 8).is_key("fiscal-quarter-2024-10")
    assert not Grain("month").is_key("2024-05-01")
    assert [is_period(t) for t in ("2024-05", "week-2024-12-30", WHOLE, "2024-13")] == [True, True, False, False]


def test_the_calendars_span_is_covered_by_all_periods_that_share_a_day_with_it() -> None:
    """A week that only the first days of a month lie in would be captured by nobody."""
    assert Grain("week").within(date(2024, 5, 1), date(2024, 5, 8)) == ["week-2024-04-29", "week-2024-05-06"]
    assert Grain("quarter").within(date(2024, 5, 1), date(2024, 8, 1)) == ["quarter-2024-04", "quarter-2024-07"]
    assert Grain("day").within(date(2024, 5, 1), date(2024, 5, 1)) == []


@pytest.mark.parametrize(
    ("grain", "other", "nests"),
    [
        (Grain("day"), Grain("week"), True),
        (Grain("day"), Grain("fiscal_quarter", 1, 2), True),
        (Grain("week"), Grain("month"), False),
        (Grain("month"), Grain("week"), False),
        (Grain("month"), Grain("quarter"), True),
        (Grain("month"), Grain("fiscal_period", 1, 7), True),
        (Grain("quarter"), Grain("fiscal_quarter", 1, 7), True),
        (Grain("quarter"), Grain("fiscal_quarter", 1, 8), False),
        (Grain("quarter"), Grain("month"), False),
        (Grain("month"), Grain("day"), False),
    ],
)
def test_what_nests_has_a_period_of_whole_ones(grain: Grain, other: Grain, nests: bool) -> None:
    """Rows are counted by whole partitions of an input: half a week of a month has no count."""
    first = grain.containing(date(2020, 1, 1))
    ends = {day for key in keys_between(first, grain.containing(date(2030, 1, 1))) for day in bounds(key)}
    found = other.within(date(2021, 1, 1), date(2029, 1, 1))
    assert grain.nests_in(other) == all(day in ends for key in found for day in bounds(key)) == nests


def test_a_transform_is_told_its_period_by_key_label_and_fiscal_year() -> None:
    """A KPI by fiscal quarter names its year without knowing the calendar."""
    assert period_relation("fiscal-quarter-2024-07", 7) == (
        "(select 'fiscal-quarter-2024-07' as partition, date '2024-07-01' as start_date, "
        "date '2024-10-01' as end_date, 'FY2025-Q1' as label, 2025 as fiscal_year)"
    )
