"""Which partitions of a table must be published together, because rows of its inputs moved between them.

An input of the same partitions tells its own moves: what exchanged rows there is linked here. One of another grain
tells moves between its partitions, which are read by others here; and a partition of it that is wider than what is made
from it tells no moves within itself, so that all that is made from it goes together when it changed.
"""

from collections.abc import Callable, Collection, Iterator, Mapping

from etl_resources.calendar import bounds
from etl_resources.windows import InputWindow

LinkedSince = Callable[[str, Mapping[str, int]], Mapping[str, Collection[str]]]
"""(input, its partition → epoch) → partition → those of the input that exchanged rows with it after that epoch."""
Epochs = Mapping[str, int]
"""Partition of an input → epoch of it that was read."""
NEVER = -1


def exchanged(
    linked_since: LinkedSince,
    name: str,
    window: InputWindow | None,
    read: Mapping[str, Epochs],
    now: Callable[[str], int | None],
    published: Collection[str],
) -> dict[str, set[str]]:
    """Partition → others of the same table to which rows may have moved since it read an input.

    read: partition → what it read of the input, nothing if it was never made. now: partition of the input → epoch that
    it has, None where it will be another one. published: partitions of the table that are. Two that aren't hold no row
    that the other has: they are made of one state of the input, or of none.
    """
    if window is None:
        since = linked_since(name, {p: epochs.get(p, NEVER) for p, epochs in read.items()})
        return {p: set(others) for p, others in since.items()}
    oldest: dict[str, int] = {}
    for partition, epochs in read.items():
        for q in window.read_by(partition):
            oldest[q] = min(oldest.get(q, epochs.get(q, NEVER)), epochs.get(q, NEVER))
    since = linked_since(name, oldest)
    found: dict[str, set[str]] = {}
    for partition, epochs in read.items():
        for q in window.read_by(partition):
            others = [o for other in since.get(q, ()) for o in window.readers_of(other, partition)]
            if is_wider(q, partition) and now(q) != epochs.get(q, NEVER):
                others += [o for o in window.readers_of(q, partition) if partition in published or o in published]
            if linked := set(others) - {partition}:
                found.setdefault(partition, set()).update(linked)
    return found


def is_wider(read: str, partition: str) -> bool:
    """Whether a partition of an input has days that a partition which reads it doesn't have."""
    (start, end), (first, last) = bounds(read), bounds(partition)
    return start < first or end > last


def beside(window: InputWindow | None, partition: str) -> Iterator[tuple[str, list[str]]]:
    """(wider partition of an input that a partition reads, all that read it for their period)."""
    if window is not None:
        for q in window.read_by(partition):
            if is_wider(q, partition):
                yield q, window.readers_of(q, partition)


def held_back(linked: Mapping[str, Collection[str]], failed: Collection[str]) -> set[str]:
    """Partitions that must wait because one that they exchanged rows with failed, directly or through others."""
    held: set[str] = set()
    queue = list(failed)
    while queue:
        partition = queue.pop()
        for other in linked.get(partition, ()):
            if other not in held and other not in failed:
                held.add(other)
                queue.append(other)
    return held
