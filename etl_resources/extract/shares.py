"""Which rows of a captured table each reader takes: together all of them, each once, about as many each."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TypeVar

from etl_resources.calendar import bounds
from etl_resources.extract.source_query import placed_by
from etl_resources.manifest_sources import PostgresSource
from etl_resources.partition_sql import Placement

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """Rows that one statement reads."""

    partitions: tuple[str, ...]
    within: str | None = None
    """Condition, in the server's SQL, of a part of their rows; None: all of them."""


def shares_of(
    source: PostgresSource, by: Placement | None, rows: Mapping[str, int], readers: int, pages: int
) -> list[list[Share]]:
    """What each of at most so many readers takes. rows: partition → rows in the snapshot; those without any are left
    out. pages: blocks of the table, 0 where its rows can't be asked for by block.

    A partition that is more than a reader's part is split by days, of which an index serves ranges; a table of one
    partition by blocks: even, without statistics or an index.
    """
    some = {p: n for p, n in sorted(rows.items()) if n}
    if not some:
        return []
    if by is None:
        (whole,) = some
        return [[Share((whole,), within)] for within in _blocks(pages, readers)]
    most = max(1, -(-sum(some.values()) // readers))
    found: list[tuple[int, Share]] = []
    together: dict[str, int] = {}
    for partition, n in some.items():
        if n > most:
            days = _days(source, by, partition, -(-n // most))
            found += [(n // len(days), Share((partition,), within)) for within in days]
            continue
        if together and sum(together.values()) + n > most:
            found.append((sum(together.values()), Share((*together,))))
            together = {}
        together[partition] = n
    if together:
        found.append((sum(together.values()), Share((*together,))))
    return [[share for _, share in hand] for hand in dealt(found, lambda part: part[0], readers)]


def dealt(parts: Collection[T], size: Callable[[T], int], readers: int) -> list[list[T]]:
    """What each of at most so many readers takes: the largest first, each to who has least."""
    hands: list[list[T]] = [[] for _ in range(min(readers, len(parts)))]
    sizes = [0] * len(hands)
    for part in sorted(parts, key=size, reverse=True):
        at = sizes.index(min(sizes))
        hands[at].append(part)
        sizes[at] += size(part)
    return hands


def _blocks(pages: int, parts: int) -> list[str | None]:
    """Conditions of ranges of blocks; the last has no end: a table grows while it is read."""
    parts = min(parts, pages)
    if parts < 2:
        return [None]
    cuts = [f"'({pages * i // parts},0)'::tid" for i in range(1, parts)]
    between = [f"t.ctid >= {a} and t.ctid < {b}" for a, b in pairwise(cuts)]
    return [f"t.ctid < {cuts[0]}", *between, f"t.ctid >= {cuts[-1]}"]


def _days(source: PostgresSource, by: Placement, partition: str, parts: int) -> list[str]:
    """Conditions of ranges of days of a partition; a day isn't split."""
    placed = placed_by(source, by)
    first, end = bounds(partition)
    days = (end - first).days
    parts = min(parts, days)
    cuts = [first + timedelta(days=days * i // parts) for i in range(parts + 1)]
    return [placed.in_days(a, b) for a, b in pairwise(cuts)]
