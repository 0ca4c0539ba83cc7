"""What must be recomputed when partitions of a table change: these, and those of all that depends on them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from etl_assets.graph.partitions import partition_keys
from etl_assets.project import Project, TableNode
from etl_resources.calendar import WHOLE, months_around, months_between


@dataclass(frozen=True)
class RunRange:
    """One run: assets, and the months from first to last of those that have months."""

    assets: tuple[str, ...]
    first: str
    last: str


def dependants(project: Project, asset: str, touched: Collection[str]) -> dict[str, set[str]]:
    """Asset → partitions, in the order of the flow, beginning with the asset itself.

    Tables that one capture reads come with it. Partitions that only may depend (a looked-up table) are in it: planning
    prunes those that didn't look up what changed.
    """
    root = project.tables[asset]
    found: dict[str, set[str]] = {asset: set(touched)}
    if root.captured_in and not root.is_delivered:
        found |= {n: set(touched) for n, t in project.tables.items() if t.captured_in == root.captured_in}
    for name, node in project.tables.items():
        if name in found:
            continue
        reached = set[str]()
        for upstream in node.upstream:
            if upstream in found:
                reached |= _reached(project, node, upstream, found[upstream])
        if reached:
            found[name] = reached
    for target in project.serving:
        if target.table.name in found:
            found[target.name] = found[target.table.name]
    return found


def _reached(project: Project, node: TableNode, upstream: str, changed: Collection[str]) -> set[str]:
    own = partition_keys(project.platform.calendar, node.dataset.partitions)
    if own == [WHOLE] or changed == {WHOLE} or upstream not in node.inputs:
        return set(own)
    window = node.windows.get(upstream)
    if window is None:
        return set(own) & set(changed)
    if window.months is None:
        return set(own)
    first, last = window.months
    return set(own) & {month for p in changed for month in months_around(p, -last, -first)}


def upstream_of(project: Project, name: str) -> set[str]:
    """Tables that a table or target is made from, directly or not."""
    targets = {t.name: (t.table.name,) for t in project.serving}
    found: set[str] = set()
    queue = [name]
    while queue:
        asset = queue.pop()
        inputs = project.tables[asset].upstream if asset in project.tables else targets[asset]
        queue += [i for i in inputs if i not in found]
        found |= set(inputs)
    return found


def run_ranges(project: Project, needed: Mapping[str, Collection[str]]) -> list[RunRange]:
    """Runs, in order, that ask of each asset exactly its partitions; without months they take part in any month."""
    found: list[RunRange] = []
    group: list[str] = []
    names = list(needed)
    for i, name in enumerate(names):
        group.append(name)
        following = needed[names[i + 1]] if i + 1 < len(names) else None
        if following is None or set(following) != set(needed[name]):
            found += [RunRange(tuple(group), a, b) for a, b in _ranges(project, needed[name])]
            group = []
    return found


def _ranges(project: Project, partitions: Collection[str]) -> list[tuple[str, str]]:
    if set(partitions) == {WHOLE}:
        return [(project.platform.calendar.start, project.platform.calendar.start)]
    months = sorted(set(partitions) - {WHOLE})
    found: list[tuple[str, str]] = []
    for month in months:
        if found and months_between(found[-1][1], month)[1:2] == [month]:
            found[-1] = (found[-1][0], month)
        else:
            found.append((month, month))
    return found
