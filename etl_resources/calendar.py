"""Partitions as periods of the platform's calendar (M5): keys, their date bounds and their order.

A key names its kind, but for days and months, and the period's first day or month: 2024-05-17, week-2024-05-13,
2024-05, quarter-2024-04, fiscal-period-2024-07, fiscal-quarter-2024-07. So it tells its bounds by itself, sorts by time
among its kind, and can be written by Dagster's time windows, which know no other names of weeks and quarters than
their first day. Names for people (2024-W20, FY2025-Q1) are labels.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Literal, get_args

Every = Literal["day", "week", "month", "quarter", "fiscal_period", "fiscal_quarter"]
"""Kinds of periods. A fiscal period is a month, a fiscal quarter three months from the start of the fiscal year on."""
EVERY: tuple[Every, ...] = get_args(Every)
PERIOD = "calendar.period"
"""Name in SQL of the relation that tells a transform which partition it makes: one row."""
PERIOD_COLUMNS = {
    "partition": "string",
    "start_date": "date",
    "end_date": "date",
    "label": "string",
    "fiscal_year": "int",
}
"""Its columns, with manifest types; end_date is excluded, fiscal_year that of the first day."""
WHOLE = "all"
"""Key of the one partition of a table without partitions."""
_DAYS = {"day": 1, "week": 7}
_MONTHS = {"month": 1, "quarter": 3, "fiscal_period": 1, "fiscal_quarter": 3}
_KINDS: dict[str, Every] = {
    "week-": "week", "quarter-": "quarter", "fiscal-period-": "fiscal_period", "fiscal-quarter-": "fiscal_quarter"
}  # fmt: skip
_PREFIXES = {every: prefix for prefix, every in _KINDS.items()}
_KEY = re.compile(rf"({'|'.join(_KINDS)})?([0-9]{{4}})-([0-9]{{2}})(?:-([0-9]{{2}}))?")
KNOWN_MAX = 100_000
"""Keys whose bounds are remembered, some 200 bytes each."""


@dataclass(frozen=True)
class Grain:
    """The periods of one kind, as the platform's calendar cuts them."""

    every: Every = "month"
    week_start: int = 1
    """ISO number of a week's first day: 1 is Monday."""
    fiscal_year_start: int = 1
    """Month."""

    @property
    def identity(self) -> str:
        """Equal where the periods are: another first day of the week matters to weeks alone."""
        if self.every == "week":
            return f"week from day {self.week_start}"
        return f"fiscal_quarter from month {self.months_after + 1}" if self.every == "fiscal_quarter" else self.every

    @property
    def form(self) -> str:
        """Of its keys, for strftime and strptime."""
        return f"{_PREFIXES.get(self.every, '')}%Y-%m{'-%d' if self.every in _DAYS else ''}"

    @property
    def months_after(self) -> int:
        """Months by which its quarters begin after those of the year: 0 to 2."""
        return (self.fiscal_year_start - 1) % 3 if self.every == "fiscal_quarter" else 0

    @property
    def days_after(self) -> int:
        """Days by which its weeks begin after Monday."""
        return self.week_start - 1 if self.every == "week" else 0

    def cron(self, day: int = 1, *, hour: int = 0) -> str:
        """Cron schedule of an hour of each period's first, second … day; of days themselves, of each."""
        if self.every == "day":
            return f"0 {hour} * * *"
        if self.every == "week":
            return f"0 {hour} * * {(self.week_start + day - 1) % 7}"
        months = "*" if _MONTHS[self.every] == 1 else ",".join(str(m) for m in range(1 + self.months_after, 13, 3))
        return f"0 {hour} {day} {months} *"

    def containing(self, day: date) -> str:
        """Key of the period in which a day lies."""
        if self.every in _DAYS:
            return _key(self.every, day - timedelta(days=(day.weekday() - self.days_after) % _DAYS[self.every]))
        months = day.year * 12 + day.month - 1 - self.months_after
        return _key(self.every, _month(months - months % _MONTHS[self.every] + self.months_after))

    def within(self, start: date, end: date) -> list[str]:
        """Keys of the periods that share a day with [start, end), in order."""
        return keys_between(self.containing(start), self.containing(end - timedelta(days=1))) if start < end else []

    def is_key(self, text: str) -> bool:
        """Whether a text is the key of one of its periods."""
        try:
            return self.containing(bounds(text)[0]) == text
        except ValueError:
            return False

    def nests_in(self, other: "Grain") -> bool:
        """Whether every period of the other consists of whole ones of this."""
        if self.every == "day" or self.identity == other.identity:
            return True
        if "week" in (self.every, other.every) or other.every == "day":
            return False
        return _MONTHS[self.every] == 1 or (_MONTHS[other.every] == 3 and self.months_after == other.months_after)

    def same_periods(self, other: "Grain") -> bool:
        """Whether their keys are the same."""
        return self.identity == other.identity


MONTH = Grain()


def every_of(partition: str) -> Every:
    """Kind of a key. Raises ValueError for what is no key of a period."""
    return _parsed(partition)[0]


def is_period(text: str) -> bool:
    """Whether a text is the key of a period of any kind."""
    try:
        _parsed(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=KNOWN_MAX)
def bounds(partition: str) -> tuple[date, date]:
    """First day of a period and first day of the next one (excluded). Raises ValueError for what is no key."""
    every, first = _parsed(partition)
    return first, _later(every, first, 1)


def keys_between(start: str, end: str) -> list[str]:
    """Keys from start to end, of one kind, both included; none when end lies before start."""
    return keys_around(start, 0, steps) if (steps := _steps(start, bounds(end)[0])) >= 0 else []


def keys_around(partition: str, first: int, last: int) -> list[str]:
    """Keys from `first` to `last` periods after (negative: before) a period, both included."""
    every, day = _parsed(partition)
    return [_key(every, _later(every, day, n)) for n in range(first, last + 1)]


def keys_overlapping(like: str, start: date, end: date) -> list[str]:
    """Keys that follow or precede `like` and share a day with [start, end), in order."""
    if start >= end:
        return []
    return keys_around(like, _steps(like, start), _steps(like, end - timedelta(days=1)))


def contiguous_ranges(partitions: Iterable[str]) -> list[tuple[date, date]]:
    """Date ranges (end excluded) that cover exactly these partitions, as few as possible."""
    ranges: list[tuple[date, date]] = []
    for start, end in map(bounds, sorted(set(partitions))):
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
    return ranges


def stretches(keys: Sequence[str], wanted: Collection[str]) -> list[list[str]]:
    """The wanted ones of ordered keys, neighbours together: one list for each run over a range of keys."""
    found: list[list[str]] = []
    follows = False
    for key in keys:
        if key in wanted:
            if not follows:
                found.append([])
            found[-1].append(key)
        follows = key in wanted
    return found


def last_keys(partitions: Sequence[str], count: int) -> list[str]:
    """The newest `count` partitions of one kind, in order."""
    return sorted(partitions)[-count:] if count > 0 else []


def fiscal_year(day: date, fiscal_year_start: int) -> int:
    """The calendar year in which the fiscal year of a day ends."""
    return day.year + (fiscal_year_start > 1 and day.month >= fiscal_year_start)


def label(partition: str, fiscal_year_start: int) -> str:
    """What people call a period: 2024-05-17, 2024-W20, 2024-05, 2024-Q2, FY2025-P01, FY2025-Q1.

    A week is of the year of its fourth day, as in ISO 8601 whatever its first day.
    """
    every, first = _parsed(partition)
    if every == "week":
        middle = first + timedelta(days=3)
        return f"{middle.year:04d}-W{(middle.timetuple().tm_yday - 1) // 7 + 1:02d}"
    if every == "quarter":
        return f"{first.year:04d}-Q{(first.month - 1) // 3 + 1}"
    if every in ("day", "month"):
        return partition
    period = (first.month - fiscal_year_start) % 12
    told = f"P{period + 1:02d}" if every == "fiscal_period" else f"Q{period // 3 + 1}"
    return f"FY{fiscal_year(first, fiscal_year_start):04d}-{told}"


def period_relation(partition: str, fiscal_year_start: int) -> str:
    """DuckDB table expression of calendar.period for a partition."""
    start, end = bounds(partition)
    return (
        f"(select '{partition}' as partition, date '{start}' as start_date, date '{end}' as end_date, "
        f"'{label(partition, fiscal_year_start)}' as label, {fiscal_year(start, fiscal_year_start)} as fiscal_year)"
    )


@lru_cache(maxsize=KNOWN_MAX)
def _parsed(partition: str) -> tuple[Every, date]:
    found = _KEY.fullmatch(partition)
    if found:
        prefix, year, month, day = found.groups()
        every = _KINDS[prefix] if prefix else "day" if day else "month"
        if (every in _DAYS) == (day is not None):
            with suppress(ValueError):  # such as the 30th of February
                return every, date(int(year), int(month), int(day or 1))
    raise ValueError(f"{partition!r} is no key of a period, such as 2024-05 or week-2024-05-13.")


def _key(every: Every, first: date) -> str:
    day = f"-{first.day:02d}" if every in _DAYS else ""
    return f"{_PREFIXES.get(every, '')}{first.year:04d}-{first.month:02d}{day}"


def _later(every: Every, first: date, steps: int) -> date:
    if every in _DAYS:
        return first + timedelta(days=_DAYS[every] * steps)
    return _month(first.year * 12 + first.month - 1 + _MONTHS[every] * steps)


def _steps(like: str, day: date) -> int:
    """Periods from `like` to the one in which a day lies."""
    every, first = _parsed(like)
    if every in _DAYS:
        return (day - first).days // _DAYS[every]
    return ((day.year - first.year) * 12 + day.month - first.month) // _MONTHS[every]


def _month(months: int) -> date:
    return date(months // 12, months % 12 + 1, 1)
