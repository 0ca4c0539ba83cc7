"""Business days: the n-th, so many later, and the relation in SQL say the same of every calendar."""

from datetime import date, timedelta

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_resources.business_days import DAYS_COLUMNS, BusinessDays
from etl_resources.manifest import Calendar
from etl_resources.manifest_calendar import WEEKDAYS, Holidays

DATES = st.dates(date(2023, 1, 1), date(2026, 12, 31))


@st.composite
def calendars(draw: st.DrawFn) -> BusinessDays:
    off = draw(st.lists(DATES, max_size=40, unique=True))
    business = set(draw(st.lists(DATES, max_size=10))) - set(off)
    country = draw(st.sampled_from([(None, None), ("DE", "BY"), ("US", None), ("SA", None)]))
    return BusinessDays(
        Calendar(
            start="2024-01",
            end="2025-12",
            fiscal_year_start=draw(st.integers(1, 12)),
            working_days=tuple(draw(st.lists(st.sampled_from(WEEKDAYS), min_size=1, unique=True))),
            holidays=Holidays(
                country=country[0],
                subdivision=country[1],
                days={d.isoformat(): "day 'off'" for d in off},
                business=tuple(d.isoformat() for d in sorted(business)),
            ),
        )
    )


@given(calendars(), DATES)
def test_the_nth_counts_exactly_the_business_days(days: BusinessDays, day: date) -> None:
    """From both ends: no day is left out, none is counted twice, and there is no further one."""
    month = [d for n in range(31) if (d := day.replace(day=1) + timedelta(n)).month == day.month]
    expected = [d for d in month if days.is_business_day(d)]
    forth = [days.nth(day.year, day.month, n) for n in range(1, len(expected) + 1)]
    back = [days.nth(day.year, day.month, -n) for n in range(1, len(expected) + 1)]
    assert forth == expected == back[::-1]
    assert [days.number(d) for d in expected] == list(range(1, len(expected) + 1))
    for n in (0, len(expected) + 1, -len(expected) - 1):
        with pytest.raises(ValueError, match="there is no number"):
            days.nth(day.year, day.month, n)


@given(calendars(), DATES, st.integers(1, 60))
def test_adding_and_taking_away_are_inverse(days: BusinessDays, day: date, n: int) -> None:
    """So many business days later there are just so many between, and the way back leads home."""
    later = days.add(day, n)
    between = [d for k in range(1, (later - day).days + 1) if days.is_business_day(d := day + timedelta(k))]
    assert len(between) == n
    assert between[-1] == later
    home = days.add(day, 0)
    assert days.is_business_day(home)
    assert not any(days.is_business_day(day + timedelta(k)) for k in range((home - day).days))
    assert days.add(days.add(home, n), -n) == home
    assert days.add(days.add(home, 2), n) == days.add(home, n + 2)


@settings(max_examples=15, deadline=None)
@given(calendars())
def test_sql_sees_the_same_days(days: BusinessDays) -> None:
    """A KPI and a schedule must not disagree about a holiday."""
    first, last = days.span
    found = duckdb.connect().execute(f"select * from {days.relation} order by day")
    assert [c[0] for c in found.description] == list(DAYS_COLUMNS)
    rows = [dict(zip(DAYS_COLUMNS, row, strict=True)) for row in found.fetchall()]
    assert [r["day"] for r in rows] == [first + timedelta(k) for k in range((last - first).days + 1)]
    start = days._calendar.fiscal_year_start
    for row in (r for r in rows if 2023 <= r["day"].year <= 2026):
        day = row["day"]
        assert row["is_business_day"] == days.is_business_day(day), day
        assert row["holiday"] == days.holiday(day), day
        number = days.number(day) if row["is_business_day"] else None
        assert row["business_day"] == number
        if number:
            assert days.nth(day.year, day.month, row["business_day_from_end"]) == day
        assert (row["weekday"], row["month"]) == (day.isoweekday(), f"{day:%Y-%m}")
        assert row["quarter"] == f"{day.year}-Q{(day.month + 2) // 3}"
        assert row["fiscal_period"] == (day.month - start) % 12 + 1
        assert row["fiscal_year"] == day.year + (start > 1 and day.month >= start)
        assert row["fiscal_quarter"] == (row["fiscal_period"] + 2) // 3
