"""What must be recomputed when partitions of a table change: these, and those of all that depends on them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from etl_resources.calendar import stretches
from etl_resources.closure import Closure, ClosureNode
from etl_resources.ledger.state import Place


@dataclass(frozen=True)
class RunRange:
    """One run: assets, and neighbouring partitions of all of them."""

    assets: tuple[str, ...]
    partitions: Sequence[str]


def dependants(closure: Closure, asset: str, touched: Collection[str]) -> dict[str, set[str]]:
    """Asset → partitions, in the order of the flow, beginning with the asset itself.

    Tables that one capture reads come with it, and so do partitions that exchanged rows with one of these since they
    were last read: a run refuses one without the other. Partitions that only may depend (a looked-up table) are in it:
    planning prunes those that didn't look up what changed. What would lack an input isn't.
    """
    found: dict[str, set[str]] = {n: set(touched) for n in (asset, *closure.nodes[asset].captured_with)}
    for name, node in closure.nodes.items():
        if name not in found:
            planned = {n: sorted(partitions) for n, partitions in found.items()}
            reached = {p for p in node.partitions if _depends(closure, (name, p), planned)}
            if reached:
                found[name] = reached | closure.made_with(name, reached)
    return found


def _depends(closure: Closure, place: Place, planned: Mapping[str, Sequence[str]]) -> bool:
    changed = {(name, p) for name, p in closure.reads(*place, planned) if p in planned.get(name, ())}
    return bool(changed) and all(closure.known(*r) for r in {*closure.made_from(*place)} - changed)


def upstream_of(nodes: Mapping[str, ClosureNode], name: str) -> set[str]:
    """Tables that a table or target is made from, directly or not."""
    found: set[str] = set()
    queue = [name]
    while queue:
        inputs = nodes[queue.pop()].upstream
        queue += [i for i in inputs if i not in found]
        found |= set(inputs)
    return found


def run_ranges(nodes: Mapping[str, ClosureNode], needed: Mapping[str, Collection[str]]) -> list[RunRange]:
    """Runs, in order, that ask of each asset exactly its partitions."""
    found: list[RunRange] = []
    group: list[str] = []
    names = list(needed)
    for i, name in enumerate(names):
        group.append(name)
        following = needed[names[i + 1]] if i + 1 < len(names) else None
        if following is None or set(following) != set(needed[name]):
            ranges = stretches(nodes[name].partitions, needed[name])
            found += [RunRange(tuple(group), partitions) for partitions in ranges]
            group = []
    return found
