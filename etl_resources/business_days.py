"""Business days of the platform's calendar (M5): which days they are, the n-th of a month, so many days later.

In SQL they are the relation calendar.days, which the logic version of a table that reads it contains: a corrected list
of holidays, or another release of the package that knows them, is another logic, and changes no figure by itself.
"""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from functools import cached_property

from etl_resources.calendar import PERIOD, PERIOD_COLUMNS
from etl_resources.identifiers import literal
from etl_resources.manifest import Calendar
from etl_resources.manifest_calendar import WEEKDAYS

DAYS = "calendar.days"
"""Name in SQL of the relation of all days around the platform's calendar: one row each."""
DAYS_COLUMNS = {
    "day": "date",
    "weekday": "int",
    "is_business_day": "boolean",
    "holiday": "string",
    "month": "string",
    "business_day": "int",
    "business_day_from_end": "int",
    "quarter": "string",
    "fiscal_year": "int",
    "fiscal_period": "int",
    "fiscal_quarter": "int",
}
"""Its columns, with manifest types. weekday: 1 is Monday; holiday: its name; business_day: of the month, from 1, null
for others; business_day_from_end: -1 is the last; fiscal_year: in which it ends; fiscal_period: 1 to 12."""
GIVEN_COLUMNS: Mapping[str, tuple[str, ...]] = {PERIOD: tuple(PERIOD_COLUMNS), DAYS: tuple(DAYS_COLUMNS)}
"""Relations of the calendar that any transform may read, with their columns."""
BLOCK_YEARS = 30
"""calendar.days covers whole blocks of so many years, so that a calendar that is extended is the same logic."""
SEARCH_DAYS_MAX = 3660


class BusinessDays:
    """The business days of one calendar. Years are looked up when they are asked for, and kept."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar, self._declared = calendar, calendar.holidays
        self._weekdays = {WEEKDAYS.index(d) + 1 for d in calendar.working_days}
        self._days = {date.fromisoformat(d): name for d, name in self._declared.days.items()}
        self._business = {date.fromisoformat(d) for d in self._declared.business}
        self._years: dict[int, Mapping[date, str]] = {}

    def holiday(self, day: date) -> str | None:
        """Name of a day on which nobody works although its weekday is one; also of one at a weekend."""
        if day in self._business:
            return None
        return self._days.get(day) or self._public(day.year).get(day)

    def is_business_day(self, day: date) -> bool:
        """Whether one works on it."""
        return day in self._business or (day.isoweekday() in self._weekdays and self.holiday(day) is None)

    def of_month(self, year: int, month: int) -> list[date]:
        """All of a month, in order."""
        day, found = date(year, month, 1), []
        while day.month == month:
            if self.is_business_day(day):
                found.append(day)
            day += timedelta(days=1)
        return found

    def nth(self, year: int, month: int, n: int) -> date:
        """The n-th of a month: 1 is the first, -1 the last. Raises ValueError where it has not so many."""
        found = self.of_month(year, month)
        if n == 0 or abs(n) > len(found):
            raise ValueError(f"{year:04d}-{month:02d} has {len(found)} business days: there is no number {n}")
        return found[n - 1 if n > 0 else n]

    def number(self, day: date) -> int:
        """Business days of its month up to a day, itself included."""
        return sum(d <= day for d in self.of_month(day.year, day.month))

    def add(self, day: date, n: int) -> date:
        """The n-th business day after a day (n < 0: before it); n = 0: itself, or the next one where it is none.

        Raises ValueError where there are none for ten years.
        """
        step, left, last = timedelta(days=-1 if n < 0 else 1), abs(n), day
        if n == 0:
            day, left = day - step, 1
        while left:
            day += step
            if self.is_business_day(day):
                left, last = left - 1, day
            elif abs((day - last).days) > SEARCH_DAYS_MAX:
                raise ValueError(f"there is no business day within ten years of {last}")
        return day

    @property
    def span(self) -> tuple[date, date]:
        """First and last day of calendar.days."""
        first, last = int(self._calendar.start[:4]) - 1, int(self._calendar.end[:4]) + 1
        return date(first - first % BLOCK_YEARS, 1, 1), date(last - last % BLOCK_YEARS + BLOCK_YEARS - 1, 12, 31)

    @cached_property
    def digest(self) -> str:
        """Of all that calendar.days says, but for the fiscal year, which is a part of every logic."""
        first, last = self.span
        told = [
            sorted(self._weekdays),
            first.isoformat(),
            last.isoformat(),
            *self._off_days(),
            *sorted(map(str, self._business)),
        ]
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]

    @cached_property
    def relation(self) -> str:
        """DuckDB table expression of calendar.days."""
        first, last = self.span
        off = ", ".join(f"(date '{day}', {literal(name)})" for day, name in self._off_days())
        holidays = (
            f"(values {off}) h(day, holiday)" if off else "(select null::date as day, null::varchar as holiday) h"
        )
        business = ", ".join(f"date '{d}'" for d in sorted(self._business)) or "null::date"
        weekdays = ", ".join(map(str, sorted(self._weekdays)))
        start = self._calendar.fiscal_year_start
        number = "row_number() over (partition by month, is_business_day order by day"
        return (
            "(with days as (select unnest(generate_series("
            f"timestamp '{first}', timestamp '{last}', interval 1 day))::date as day), "
            "told as (select days.day, isodow(days.day)::int as weekday, coalesce(days.day in "
            f"({business}), false) or (isodow(days.day) in ({weekdays}) and h.holiday is null) as is_business_day, "
            f"h.holiday::varchar as holiday, strftime(days.day, '%Y-%m') as month, "
            f"((month(days.day) - {start} + 12) % 12 + 1)::int as fiscal_period "
            f"from days left join {holidays} on h.day = days.day) "
            "select day, weekday, is_business_day, holiday, month, "
            f"case when is_business_day then {number}) end::int as business_day, "
            f"case when is_business_day then -{number} desc) end::int as business_day_from_end, "
            "strftime(day, '%Y') || '-Q' || quarter(day) as quarter, "
            f"(year(day) + ({start} > 1 and month(day) >= {start})::int)::int as fiscal_year, fiscal_period, "
            "((fiscal_period - 1) // 3 + 1)::int as fiscal_quarter from told)"
        )

    def _off_days(self) -> Iterator[tuple[date, str]]:
        """Days off within the span, with their names, in order."""
        first, last = self.span
        found = {d: n for year in range(first.year, last.year + 1) for d, n in self._public(year).items()} | self._days
        yield from sorted((d, n) for d, n in found.items() if first <= d <= last and d not in self._business)

    def _public(self, year: int) -> Mapping[date, str]:
        if self._declared.country is None:
            return {}
        if year not in self._years:
            from holidays import country_holidays

            country, subdivision = self._declared.country, self._declared.subdivision
            kind = type(country_holidays(country, subdiv=subdivision))
            # without a language, names follow the environment's LANG: another machine would be another logic
            language = "en_US" if "en_US" in kind.supported_languages else kind.default_language
            found = country_holidays(country, subdiv=subdivision, years=year, language=language)
            self._years[year] = {d: n for d, n in sorted(found.items()) if d.year == year}
        return self._years[year]
