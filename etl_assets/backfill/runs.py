"""Planned partitions as runs: contiguous partitions as one range, upstream first.

In the process of the command as few as that allows; by Dagster's daemon as it makes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from etl_resources.calendar import WHOLE, stretches
from etl_resources.closure import Closure
from etl_resources.closure_plan import PlannedStep
from etl_resources.ledger.state import Place


@dataclass
class PlannedRun:
    """One Dagster run: assets over one range of partitions. Assets without partitions take part as a whole."""

    first: str
    last: str
    """WHOLE, both, where no asset has partitions."""
    steps: list[PlannedStep]
    wave: int = 0
    """Runs of one wave wait for nothing but the wave before."""

    @property
    def assets(self) -> list[str]:
        """In the order of the flow."""
        return list(dict.fromkeys(s.asset for s in self.steps))

    def __str__(self) -> str:
        return self.first if self.first == self.last else f"{self.first} … {self.last}"


def build_runs(closure: Closure, steps: Sequence[PlannedStep]) -> list[PlannedRun]:
    """Runs in the order in which they must go: what a partition reads is computed in an earlier run, or in the same."""
    wanted: dict[str, dict[str, PlannedStep]] = {}
    for step in steps:
        wanted.setdefault(step.asset, {})[step.partition] = step
    planned = {asset: list(partitions) for asset, partitions in wanted.items()}
    runs: list[PlannedRun] = []
    run_of: dict[Place, int] = {}
    for name, node in closure.nodes.items():
        of_asset = wanted.get(name, {})
        for stretch in stretches(node.partitions, of_asset):
            reads = (r for p in stretch for r in closure.reads(name, p, planned))
            index = _place(runs, stretch, max((run_of[r] for r in reads if r in run_of), default=0))
            runs[index].steps += [of_asset[p] for p in stretch]
            run_of |= {(name, p): index for p in stretch}
    return runs


def _place(runs: list[PlannedRun], stretch: Sequence[str], earliest: int) -> int:
    """Index of the first run from `earliest` on that has this range; a new one at the end where there is none."""
    first, last = stretch[0], stretch[-1]
    for index in range(earliest, len(runs)):
        run = runs[index]
        if WHOLE in (first, run.first) or (run.first, run.last) == (first, last):
            if run.first == WHOLE:
                run.first, run.last = first, last
            return index
    runs.append(PlannedRun(first, last, [], wave=len(runs)))
    return len(runs) - 1


def daemon_runs(closure: Closure, steps: Sequence[PlannedStep]) -> list[PlannedRun]:
    """The runs that Dagster's daemon makes of a backfill, in waves.

    Assets of which the same partitions are planned are one run; whatever else reads what is planned waits until that
    has been made. Assets without partitions are in runs of their own. (Dagster 1.13:
    _get_cant_run_because_of_parent_reason. Where it does otherwise, an estimate is of other runs, and no more.)
    """
    wanted: dict[str, dict[str, PlannedStep]] = {}
    for step in steps:
        wanted.setdefault(step.asset, {})[step.partition] = step
    planned = {asset: list(partitions) for asset, partitions in wanted.items()}
    waves: dict[str, int] = {}
    groups: dict[tuple[int, tuple[str, ...]], list[str]] = {}
    for name in (n for n in closure.nodes if n in wanted):
        reads = {
            asset
            for p in wanted[name]
            for asset, read in closure.reads(name, p, planned)
            if read in wanted.get(asset, ())
        }
        waves[name] = max((waves[r] + _apart(closure, planned, name, r) for r in reads), default=0)
        partitions = tuple(p for p in closure.nodes[name].partitions if p in wanted[name])
        groups.setdefault((waves[name], partitions), []).append(name)
    return [
        PlannedRun(stretch[0], stretch[-1], [wanted[name][p] for name in names for p in stretch], wave)
        for (wave, partitions), names in sorted(groups.items(), key=lambda group: group[0][0])
        for stretch in stretches(closure.nodes[names[0]].partitions, partitions)
    ]


def _apart(closure: Closure, planned: Mapping[str, Sequence[str]], reader: str, read: str) -> bool:
    """Whether what a reader reads must be made in an earlier run than it."""
    same_partitions = closure.nodes[reader].partitions == closure.nodes[read].partitions
    return not (same_partitions and set(planned[reader]) == set(planned[read]))
