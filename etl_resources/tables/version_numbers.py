"""Version numbers of a table: 1, 2, 3 … per publish, kept in the summaries of its snapshots.

A snapshot gets the number of the head that it is built on, plus one if it publishes. It becomes main only by a
compare-and-swap on that head, so numbers have no gaps and are never given twice. A snapshot that only rearranges
files keeps its head's number. Publishes from before numbers were kept are counted.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyiceberg.table import Table

PARTITIONS_KEY = "etl.partitions"
"""Summary key that only publishes have."""
NUMBER_KEY = "etl.version-number"


def numbered(table: "Table", summary: Mapping[str, str]) -> dict[str, str]:
    """The summary of a snapshot to be built on the head, with its number."""
    number = head_number(table) + (PARTITIONS_KEY in summary)
    return {**summary, NUMBER_KEY: str(number)}


def head_number(table: "Table") -> int:
    """Number of what is published; 0: nothing yet."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return 0
    stored = snapshot.summary.additional_properties.get(NUMBER_KEY) if snapshot.summary else None
    return int(stored) if stored else snapshot_numbers(table, snapshot.snapshot_id)[snapshot.snapshot_id]


def snapshot_numbers(table: "Table", snapshot_id: int) -> dict[int, int]:
    """Snapshot id → number, of a snapshot and its ancestors, newest first."""
    from pyiceberg.table.snapshots import ancestors_of

    ancestors = list(ancestors_of(table.snapshot_by_id(snapshot_id), table.metadata))
    summaries = [dict(s.summary.additional_properties) if s.summary else {} for s in ancestors]
    stored = next((n for n, s in enumerate(summaries) if NUMBER_KEY in s), None)
    publishes = [PARTITIONS_KEY in s for s in summaries]
    number = sum(publishes) if stored is None else int(summaries[stored][NUMBER_KEY]) + sum(publishes[:stored])
    found: dict[int, int] = {}
    for snapshot, summary, publishes_here in zip(ancestors, summaries, publishes, strict=True):
        number = int(summary.get(NUMBER_KEY, number))
        found[snapshot.snapshot_id] = number
        number -= publishes_here
    return found
