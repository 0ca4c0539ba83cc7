"""Which partitions of an input one partition of a table reads, and the versions of them that name what was read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

from etl_resources.calendar import bounds, keys_around, keys_overlapping
from etl_resources.run_token import ABSENT, InputVersion


class VersionedTable(Protocol):
    """A table of which the version of each partition is known: pinned for a step, or as the ledger knows it."""

    @property
    def asset(self) -> str:
        """Its name."""

    @property
    def publishes(self) -> Mapping[str, Any]:
        """Partitions that are published, as keys."""

    def partition_for(self, partition: str) -> str:
        """Its partition that a dependant's partition reads."""

    def version(self, partition: str) -> InputVersion | None:
        """What is published of a partition; None when nothing is."""


@dataclass(frozen=True)
class InputWindow:
    """Partitions of an input that aren't the one that is made: of other periods, or of another grain."""

    within: tuple[str, ...]
    """The input's own partitions, in order and without a gap: one outside never existed, and is not missing."""
    periods: tuple[int, ...] | None
    """First and last period, relative to the partition that is made and as long; None: all that are published."""
    allow_missing: bool = False
    """An unpublished partition has no rows; otherwise it is refused."""
    all_rows: bool = False
    """Whether rows of days outside of the window are read, too, where a partition has both."""
    same_period: bool = False
    """Whether it is read for the same period, in partitions of another grain: rows that move there are followed."""

    def partitions(self, partition: str, table: VersionedTable) -> list[str]:
        """What one partition reads, published or not, in order."""
        return sorted(table.publishes) if self.periods is None else self.read_by(partition)

    def read_by(self, partition: str) -> list[str]:
        """Partitions of the input that share a day with the window of one that is made, in order."""
        if not self.within:
            return []
        first, last = self.within[0], self.within[-1]
        return [p for p in keys_overlapping(first, *self.span(partition)) if first <= p <= last]

    def readers_of(self, read: str, like: str) -> list[str]:
        """Partitions of the kind of `like` that read a partition of the input for the same period, in order."""
        return keys_overlapping(like, *bounds(read))

    def span(self, partition: str) -> tuple[date, date]:
        """First day of which a partition reads rows, and the first one after."""
        assert self.periods is not None  # noqa: S101  (the caller knows)
        first, last = keys_around(partition, self.periods[0], self.periods[0]) + keys_around(
            partition, self.periods[1], self.periods[1]
        )
        return bounds(first)[0], bounds(last)[1]

    def days_read(self, partition: str) -> tuple[date, date]:
        """First day of which a partition's transform sees rows, and the first one after."""
        start, end = self.span(partition)
        if self.all_rows and (read := self.read_by(partition)):
            return min(start, bounds(read[0])[0]), max(end, bounds(read[-1])[1])
        return start, end

    def reaches_out(self, partition: str) -> bool:
        """Whether what a partition reads holds days outside of its window: of those no row is read."""
        if self.all_rows or self.periods is None or not (read := self.read_by(partition)):
            return False
        start, end = self.span(partition)
        return bounds(read[0])[0] < start or bounds(read[-1])[1] > end


def versions_read(
    table: VersionedTable, window: InputWindow | None, partition: str
) -> tuple[list[InputVersion], str | None]:
    """Versions of all that one partition reads of an input (no window: the same period), or why it can't."""
    wanted = [table.partition_for(partition)] if window is None else window.partitions(partition, table)
    found = {p: table.version(p) for p in wanted}
    missing = [p for p, version in found.items() if version is None]
    if not wanted and window is not None and window.periods is None:
        return [], f"{table.asset} has no published partition"
    if not wanted and window is not None and window.same_period:
        return [], f"{table.asset} has no partition in the period {partition}"
    if missing and not (window and window.allow_missing):
        return [], f"{table.asset} has no published partition {', '.join(missing)}"
    return [version or InputVersion(table.asset, p, ABSENT) for p, version in found.items()], None


def partitions_read(inputs: Sequence[InputVersion], asset: str) -> list[str]:
    """Partitions of an input whose files are read, in order."""
    return sorted(i.partition for i in inputs if i.asset == asset and i.version != ABSENT)
