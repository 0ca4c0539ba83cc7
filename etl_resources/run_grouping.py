"""Places as runs that may go side by side: an asset's contiguous partitions in one, upstream with what reads it.

Pure. Each run is a process to start, and each of its assets a step with a plan, commits and evidence of its own: there
are as few of both as this allows.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from etl_resources.calendar import stretches
from etl_resources.closure import Closure
from etl_resources.ledger.state import Place

Runs = Mapping[tuple[str, ...], tuple[str, ...]]
"""Contiguous partitions → the assets that a run computes of each of them, inputs first."""


def grouped(closure: Closure, places: Collection[Place]) -> Runs:
    """Each place in one run, with what it reads of its own partition, in the order of the partitions.

    Assets that have nothing to do with each other there share a run only if they go for the same partitions: whatever
    goes for a single month beside twelve of another asset doesn't cut those in pieces. Where that would take more
    runs, what goes for a partition is one run, whatever it is.
    """
    by_partition: dict[str, list[str]] = {}
    for name, node in closure.nodes.items():
        for partition in node.partitions:
            if (name, partition) in places:
                by_partition.setdefault(partition, []).append(name)
    whole: dict[tuple[str, ...], list[str]] = {}
    for partition, going in by_partition.items():
        whole.setdefault(tuple(going), []).append(partition)
    parts: dict[tuple[str, ...], list[str]] = {}
    for names, partitions in whole.items():
        for part in _connected(closure, names, partitions):
            parts.setdefault(part, []).extend(partitions)
    apart, together = _runs(closure, parts), _runs(closure, whole)
    return apart if len(apart) <= len(together) else together


def _connected(closure: Closure, names: Sequence[str], partitions: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The assets in parts, none of which reads, or is captured with, one of another part in any of the partitions."""
    part_of = {name: {name} for name in names}
    for name in names:
        beside = {read for p in partitions for read, of in closure.reads(name, p) if of == p}
        for other in (beside | set(closure.nodes[name].captured_with)) & part_of.keys():
            if part_of[other] is not part_of[name]:
                part_of[name] |= part_of[other]
                part_of |= dict.fromkeys(part_of[other], part_of[name])
    for part in {id(part): part for part in part_of.values()}.values():
        yield tuple(name for name in names if name in part)


def _runs(closure: Closure, partitions_of: Mapping[tuple[str, ...], Collection[str]]) -> Runs:
    """Assets that go for the same contiguous partitions together."""
    found: dict[tuple[str, ...], set[str]] = {}
    for names, partitions in partitions_of.items():
        for stretch in stretches(closure.nodes[names[0]].partitions, set(partitions)):
            found.setdefault(tuple(stretch), set()).update(names)
    return {stretch: tuple(n for n in closure.nodes if n in found[stretch]) for stretch in sorted(found)}
