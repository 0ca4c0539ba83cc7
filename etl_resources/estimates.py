"""How long a step will take, from what it took before: a fixed part and a part per row, with an interval.

The fit is by medians, so that an attempt that was settled a day later by recovery, or that waited for a lock, is one
odd point and no more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, combinations
from statistics import median

from etl_resources.ledger.history import PastAttempt, PastBackfill

FIXED_S_ASSUMED = 1.0
PER_ROW_S_ASSUMED = 1e-5
DRIFT_ASSUMED = (0.9, 1.1)
FEW = 5
"""Attempts below which the interval is at least WIDE: three equal ones prove little."""
WIDE = (0.5, 2.0)
FIXED_SHARE_ASSUMED = 0.5
"""Of the time of a step of one partition, where all attempts known were equally large."""


@dataclass(frozen=True)
class Interval:
    """A value, and between what it will probably be."""

    value: float
    low: float
    high: float

    def __add__(self, other: "Interval") -> "Interval":
        return Interval(self.value + other.value, self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> "Interval":
        """In another unit."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)

    def as_json(self, digits: int = 1) -> dict[str, float]:
        """For scripts."""
        return {"value": round(self.value, digits), "low": round(self.low, digits), "high": round(self.high, digits)}


NOTHING = Interval(0, 0, 0)


def total(intervals: Iterable[Interval]) -> Interval:
    """The sum; the bounds are added too, as if all were low or high together."""
    found = NOTHING
    for interval in intervals:
        found += interval
    return found


@dataclass(frozen=True)
class StepModel:
    """Seconds of one attempt of an asset."""

    fixed_s: float
    per_row_s: float
    low: float
    """Of what the two give, the low end; 1 would be no uncertainty."""
    high: float
    basis: str
    """What it was found from, for people."""

    def seconds(self, rows: float) -> Interval:
        """Of an attempt that reads so many rows."""
        value = self.fixed_s + self.per_row_s * rows
        return Interval(value, value * self.low, value * self.high)


def fit(attempts: Sequence[PastAttempt], basis: str = "") -> StepModel:
    """The model of an asset from its attempts; assumed figures, labelled so, where there are none."""
    basis = basis or f"{len(attempts)} attempt{'s' if len(attempts) != 1 else ''}"
    if not attempts:
        return StepModel(FIXED_S_ASSUMED, PER_ROW_S_ASSUMED, *WIDE, "assumed: no history")
    slopes = [
        ((b.seconds - a.seconds) / (b.rows_read - a.rows_read), abs(b.rows_read - a.rows_read))
        for a, b in combinations(attempts, 2)
        if a.rows_read != b.rows_read
    ]
    if slopes:
        per_row = max(0.0, _weighted_median(slopes))
        fixed = max(0.0, median(a.seconds - per_row * a.rows_read for a in attempts))
    else:
        typical, rows = median(a.seconds for a in attempts), attempts[0].rows_read
        fixed = typical * FIXED_SHARE_ASSUMED / attempts[0].partitions
        per_row = (typical - fixed) / rows if rows else 0.0
    ratios = sorted(a.seconds / max(fixed + per_row * a.rows_read, 1e-3) for a in attempts)
    low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
    if len(attempts) < FEW:
        low, high = min(low, WIDE[0]), max(high, WIDE[1])
    return StepModel(fixed, per_row, min(low, 1.0), max(high, 1.0), basis)


def fit_at(attempts: Sequence[PastAttempt], size: str, engine: str) -> StepModel:
    """The model at a size, from attempts at that size; labelled, and wide, where they were at others.

    An attempt of an earlier build, whose size nobody wrote down, counts for every size of its engine.
    """
    same = [a for a in attempts if a.engine == engine]
    if own := [a for a in same if a.size in (size, None)]:
        return fit(own)
    others = same or attempts
    if not others:
        return fit(())
    where = sorted({f"size {a.size} on {a.engine}" if a.size else a.engine for a in others})
    return _widened(fit(others, f"no history at size {size} on {engine}: that at {', '.join(where)}"))


def _widened(model: StepModel) -> StepModel:
    return replace(model, low=min(model.low, WIDE[0]), high=max(model.high, WIDE[1]))


def _weighted_median(found: Sequence[tuple[float, float]]) -> float:
    """Of (value, weight): two months of nearly as many rows tell of the time of a row only how it varies."""
    ordered, half = sorted(found), sum(weight for _, weight in found) / 2
    below = accumulate(weight for _, weight in ordered)
    return next(value for (value, _), reached in zip(ordered, below, strict=True) if reached >= half)


def median_errors(backfills: Sequence[PastBackfill], figures: Sequence[str]) -> dict[str, float]:
    """Figure → median of |estimated - actual| / actual of the backfills that went through; without one, not in it."""
    found: dict[str, float] = {}
    for figure in figures:
        pairs = [(b.estimated.get(figure), b.actual.get(figure)) for b in backfills if b.counts]
        errors = [abs(told - was) / was for told, was in pairs if told is not None and was]
        if errors:
            found[figure] = median(errors)
    return found
