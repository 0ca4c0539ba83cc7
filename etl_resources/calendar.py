"""Partitions as periods of the platform's calendar (M5): keys and their date bounds."""

from collections.abc import Collection, Iterable, Sequence
from datetime import date

PERIOD = "calendar.period"
"""Name in SQL of the relation that tells a transform which partition it makes: one row."""
PERIOD_COLUMNS = {"partition": "string", "start_date": "date", "end_date": "date"}
"""Its columns, with manifest types; end_date is excluded."""
WHOLE = "all"
"""Key of the one partition of a table without partitions."""


def month_bounds(partition: str) -> tuple[date, date]:
    """First day of a month partition and first day of the next one (excluded)."""
    year, month = int(partition[:4]), int(partition[5:7])
    return date(year, month, 1), date(year + month // 12, month % 12 + 1, 1)


def month_of(day: date) -> str:
    """Partition key of a day."""
    return f"{day.year:04d}-{day.month:02d}"


def months_between(start: str, end: str) -> list[str]:
    """Partition keys from start to end, both included; none when end lies before start."""
    keys = [start] if start <= end else []
    while keys and keys[-1] < end:
        keys.append(month_of(month_bounds(keys[-1])[1]))
    return keys


def months_around(partition: str, first: int, last: int) -> list[str]:
    """Partition keys from `first` to `last` months after (negative: before) a month, both included."""
    months = int(partition[:4]) * 12 + int(partition[5:7]) - 1
    return [f"{m // 12:04d}-{m % 12 + 1:02d}" for m in range(months + first, months + last + 1)]


def period_relation(partition: str) -> str:
    """DuckDB table expression of calendar.period for a partition."""
    start, end = month_bounds(partition)
    return f"(select '{partition}' as partition, date '{start}' as start_date, date '{end}' as end_date)"


def contiguous_ranges(partitions: Iterable[str]) -> list[tuple[date, date]]:
    """Date ranges (end excluded) that cover exactly these partitions, as few as possible."""
    ranges: list[tuple[date, date]] = []
    for start, end in map(month_bounds, sorted(set(partitions))):
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


def last_months(partitions: Sequence[str], count: int) -> list[str]:
    """The newest `count` partitions in order."""
    return sorted(partitions)[-count:] if count > 0 else []
