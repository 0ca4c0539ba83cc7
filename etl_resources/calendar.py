"""Partitions as periods of the platform's calendar (M5): keys and their date bounds."""

from collections.abc import Iterable, Sequence
from datetime import date


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


def contiguous_ranges(partitions: Iterable[str]) -> list[tuple[date, date]]:
    """Date ranges (end excluded) that cover exactly these partitions, as few as possible."""
    ranges: list[tuple[date, date]] = []
    for start, end in map(month_bounds, sorted(set(partitions))):
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
    return ranges


def last_months(partitions: Sequence[str], count: int) -> list[str]:
    """The newest `count` partitions in order."""
    return sorted(partitions)[-count:] if count > 0 else []
