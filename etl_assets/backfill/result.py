"""What came of a backfill: of each planned partition, and of all together against what was estimated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from etl_assets.backfill.launch import RunDone
from etl_assets.backfill.plan import BackfillPlan
from etl_assets.backfill.taken import as_json
from etl_resources.ledger.backfills import MadeBy
from etl_resources.ledger.state import Place
from etl_resources.run_times import PastRun


class Outcome(StrEnum):
    """What came of one planned partition."""

    COMPUTED = "computed"
    UNCHANGED = "unchanged"
    """Computed, and equal to what was there."""
    PRUNED = "pruned"
    """What it is made from turned out as it was."""
    HELD = "held"
    """Computed, and waits for a person."""
    PINNED = "pinned"
    FAILED = "failed"
    NOT_DONE = "not done"
    """Its run ended before it, or what it is made from failed."""

    @property
    def is_right(self) -> bool:
        """Whether there is nothing left to do; a KPI that is held, or a pin, waits for a person."""
        return self not in (Outcome.FAILED, Outcome.NOT_DONE)


@dataclass(frozen=True)
class BackfillResult:
    """A backfill that ended."""

    backfill: str
    plan: BackfillPlan
    how: str
    outcomes: Mapping[Place, Outcome]
    also: Sequence[Place]
    """Partitions that were computed with them and weren't planned: rows moved to or from them."""
    runs: Sequence[RunDone]
    took: Mapping[str, PastRun]
    """Run id → what it took."""
    made: MadeBy
    cost: float | None
    estimated: Mapping[str, Any]
    """As it was when the backfill was first started."""
    stopped: str | None = None
    """Why it ended before everything was run: cancelled in the web UI."""
    resumed: bool = False
    """It went on with an interrupted one, or waited for a window: its minutes say nothing of the next one's."""
    elapsed_s: float = 0.0
    """From when its first run was asked for until the last had ended; of one that was resumed, since then."""

    @property
    def seconds(self) -> float:
        """Of the processes of all runs together, with their start."""
        return sum(map(self.worker_s, self.runs))

    def worker_s(self, run: RunDone) -> float:
        """Seconds of the process of one run."""
        taken = self.took.get(run.run_id)
        return taken.start_s + taken.seconds if taken else run.seconds

    @property
    def errors(self) -> list[str]:
        """Of failed steps."""
        return [e for r in self.runs for e in r.errors]

    def count(self, outcome: Outcome) -> int:
        """Partitions of which this came."""
        return sum(o is outcome for o in self.outcomes.values())

    @property
    def succeeded(self) -> bool:
        """Whether nothing failed and nothing was left out."""
        return not self.stopped and all(o.is_right for o in self.outcomes.values())

    def actual_json(self) -> dict[str, Any]:
        """What the ledger keeps, and scripts read."""
        return {
            "seconds": round(self.seconds, 1),
            "elapsed_s": round(self.elapsed_s, 1),
            "attempts_s": round(self.made.attempts_s, 1),
            "bytes_in": self.made.bytes_in,
            "bytes_out": self.made.bytes_out,
            "cost": None if self.cost is None else round(self.cost, 6),
            "runs": len(self.runs),
            "partitions": len(self.outcomes),
            **{o.value: self.count(o) for o in Outcome},
        }

    def record_json(self) -> dict[str, Any]:
        """What the ledger keeps: also what later plans learn from."""
        may: dict[str, list[int]] = {}
        for step in (s for s in self.plan.todo if s.is_possible):
            came = self.outcomes.get((step.asset, step.partition))
            counts = may.setdefault(step.asset, [0, 0, 0])
            tried = came in (Outcome.COMPUTED, Outcome.UNCHANGED)
            may[step.asset] = [counts[0] + 1, counts[1] + tried, counts[2] + (came is Outcome.COMPUTED)]
        told = {"took": as_json(self.took.values()), "may_change": may, "resumed": self.resumed}
        return self.actual_json() | told
