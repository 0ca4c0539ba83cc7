"""Partitions as months: keys, bounds and ranges (M5)."""

from datetime import date

import pytest

from etl_resources.calendar import contiguous_ranges, last_months, month_bounds, month_of, months_between, stretches


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
    assert month_bounds(partition) == (first, next_first)


@pytest.mark.parametrize("day", [date(2024, 2, 29), date(2023, 12, 31), date(1, 1, 1), date(999, 10, 1)])
def test_a_day_lies_within_the_bounds_of_its_month(day: date) -> None:
    """The key comes from the row, the bounds from the key: they must agree."""
    start, end = month_bounds(month_of(day))
    assert start <= day < end


@pytest.mark.parametrize("wrong", ["2024-13", "2024-00", "2024", "march"])
def test_what_is_no_month_has_no_bounds(wrong: str) -> None:
    """Guessing would read another period."""
    with pytest.raises(ValueError):
        month_bounds(wrong)


def test_months_between_includes_both_ends_and_crosses_years() -> None:
    """A backfill of A…B computes A and B."""
    assert months_between("2023-11", "2024-02") == ["2023-11", "2023-12", "2024-01", "2024-02"]
    assert months_between("2024-02", "2024-02") == ["2024-02"]


def test_no_month_lies_between_an_end_and_a_later_start() -> None:
    """A range that is empty must not compute its first month."""
    assert months_between("2024-03", "2024-01") == []


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
    assert last_months(months, 2) == ["2024-01", "2024-02"]
    assert last_months(months, 9) == ["2023-12", "2024-01", "2024-02"]
    assert last_months(months, 0) == []


def test_neighbours_are_one_stretch_whatever_their_keys_are() -> None:
    """One run for a stretch: a key between two that weren't asked for would be run as well."""
    keys = ["2023-W52", "2024-W01", "2024-W02", "2024-W04", "2024-W05"]
    assert stretches(keys, {"2024-W01", "2023-W52", "2024-W04", "unknown"}) == [["2023-W52", "2024-W01"], ["2024-W04"]]
    assert stretches(["all"], {"all"}) == [["all"]]
    assert stretches(keys, ()) == []
