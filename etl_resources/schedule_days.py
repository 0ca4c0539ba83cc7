"""On which days a schedule of platform.yaml runs. Pure: the calendar decides, not who asks when."""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

from etl_resources.business_days import BusinessDays
from etl_resources.manifest_calendar import WEEKDAYS
from etl_resources.manifest_schedules import When

LOOK_BACK_DAYS = 400
"""Older occurrences that were missed are not made up for."""
MISSED_MAX = 12
"""Nor are more than so many, the newest ones are."""


def occurs_on(when: When, days: BusinessDays, day: date) -> bool:
    """Whether it runs on a day. Not for cron."""
    if when.business_day is not None:
        return day == _business_day(when.business_day, days, day)
    if when.every == "business_day":
        return days.is_business_day(day)
    if when.every == "week":
        return WEEKDAYS[day.weekday()] == when.day
    if when.every in ("month", "quarter"):
        assert isinstance(when.day, int)  # noqa: S101  (the model proves it)
        return day == _day_of_period(when.every, when.day, day)
    return True


def occurrences(when: When, days: BusinessDays, after: datetime | None, until: datetime) -> list[datetime]:
    """Local times, without a zone, after `after` and up to `until`, oldest first; after None: of the last day alone.

    By the wall clock, so that a day on which the clock is changed has its one occurrence like any other.
    """
    at = time.fromisoformat(when.at or "00:00")
    first = until.date() if after is None else max(after.date(), until.date() - timedelta(days=LOOK_BACK_DAYS))
    found = [datetime.combine(d, at) for d in _days(first, until.date()) if occurs_on(when, days, d)]
    return [m for m in found if m <= until and (after is None or m > after)][-MISSED_MAX:]


def why_not(when: When, days: BusinessDays, day: date) -> str:
    """Why nothing runs on a day, and when it will, for the web UI."""
    following = next((d for d in _days(day, day + timedelta(days=LOOK_BACK_DAYS)) if occurs_on(when, days, d)), None)
    if following is None:
        return f"{_told(days, day)}; no day of the next {LOOK_BACK_DAYS} is one on which this runs"
    return f"{_told(days, day)}; this runs on {_named(when)}, next on {following}"


def _told(days: BusinessDays, day: date) -> str:
    if days.is_business_day(day):
        return f"{day} is business day {days.number(day)} of {day:%Y-%m}"
    return f"{day} is no business day ({days.holiday(day) or f'{day:%A}'})"


def _named(when: When) -> str:
    if when.business_day is not None:
        n = when.business_day
        return (
            f"business day {n}" if n > 0 else "the last business day" if n == -1 else f"business day {n} from the end"
        )
    if when.every in ("day", "business_day"):
        return f"every {when.every.replace('_', ' ')}"
    return f"day {when.day} of every {when.every}"


def _business_day(n: int, days: BusinessDays, day: date) -> date | None:
    try:
        return days.nth(day.year, day.month, n)
    except ValueError:
        return None


def _day_of_period(every: str, n: int, day: date) -> date:
    """The n-th day of the month or quarter of a day; its last one where there are not so many, or its first."""
    months = 1 if every == "month" else 3
    first = date(day.year, (day.month - 1) // months * months + 1, 1)
    following = first.year * 12 + first.month - 1 + months
    end = date(following // 12, following % 12 + 1, 1)
    found = first + timedelta(days=n - 1) if n > 0 else end + timedelta(days=n)
    return max(first, min(found, end - timedelta(days=1)))


def _days(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first += timedelta(days=1)
