"""Planned partitions as runs: contiguous partitions as one range, upstream first, as few runs as that allows."""

from collections.abc import Sequence
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
    runs.append(PlannedRun(first, last, []))
    return len(runs) - 1
