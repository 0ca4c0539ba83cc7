"""Which partitions of an input one partition of a table reads, and the versions of them that name what was read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from etl_resources.calendar import months_around
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
    """Partitions of an input other than the same period."""

    within: tuple[str, ...]
    """The input's own partitions, in order and without a gap: a month outside never existed, and is not missing."""
    months: tuple[int, ...] | None
    """First and last, relative to the partition that is made; None: all that are published."""
    allow_missing: bool = False
    """An unpublished month has no rows; otherwise it is refused."""

    def partitions(self, partition: str, table: VersionedTable) -> list[str]:
        """What one partition reads, published or not, in order."""
        if self.months is None:
            return sorted(table.publishes)
        if not self.within:
            return []
        first, last = self.within[0], self.within[-1]
        return [month for month in months_around(partition, self.months[0], self.months[1]) if first <= month <= last]


def versions_read(
    table: VersionedTable, window: InputWindow | None, partition: str
) -> tuple[list[InputVersion], str | None]:
    """Versions of all that one partition reads of an input (no window: the same period), or why it can't."""
    wanted = [table.partition_for(partition)] if window is None else window.partitions(partition, table)
    found = {p: table.version(p) for p in wanted}
    missing = [p for p, version in found.items() if version is None]
    if not wanted and window is not None and window.months is None:
        return [], f"{table.asset} has no published partition"
    if missing and not (window and window.allow_missing):
        return [], f"{table.asset} has no published partition {', '.join(missing)}"
    return [version or InputVersion(table.asset, p, ABSENT) for p, version in found.items()], None


def partitions_read(inputs: Sequence[InputVersion], asset: str) -> list[str]:
    """Partitions of an input whose files are read, in order."""
    return sorted(i.partition for i in inputs if i.asset == asset and i.version != ABSENT)
