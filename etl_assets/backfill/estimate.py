"""What a plan will read, write, take and cost: by asset, then by run, each with an interval.

What is known to be out of date counts in full; what may change counts in the value by the share that did change in
earlier backfills (in full without one), in full in the upper bound, and not at all in the lower one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import Any

from etl_assets.backfill.runs import PlannedRun
from etl_assets.backfill.taken import past_runs, shares_changed, step_name
from etl_assets.project import Project
from etl_resources.closure import Closure
from etl_resources.closure_plan import PlannedStep
from etl_resources.estimates import DRIFT_ASSUMED, NOTHING, Interval, StepModel, fit, total
from etl_resources.ledger.backfills import DAEMON, PROCESS
from etl_resources.ledger.history import History
from etl_resources.run_times import RunTimes

Shares = Mapping[str, tuple[float, float]]
"""Asset → of partitions that may change, the share at which there is an attempt, and the share that changes."""
UNSEEN = (1.0, 1.0)


@dataclass(frozen=True)
class Volume:
    """Rows and bytes that go in and come out."""

    rows_in: Interval = NOTHING
    bytes_in: Interval = NOTHING
    rows_out: Interval = NOTHING
    bytes_out: Interval = NOTHING

    def __add__(self, other: "Volume") -> "Volume":
        return Volume(
            self.rows_in + other.rows_in,
            self.bytes_in + other.bytes_in,
            self.rows_out + other.rows_out,
            self.bytes_out + other.bytes_out,
        )

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {name: interval.as_json(0) for name, interval in vars(self).items()}


@dataclass(frozen=True)
class Estimate:
    """What all runs of a plan take together."""

    volumes: Mapping[str, Volume]
    seconds: Mapping[str, Interval]
    """By asset, of its attempts."""
    bases: Mapping[str, str]
    """By asset: what the seconds were found from."""
    runs_s: Sequence[Interval]
    """By run, with what it takes beside its attempts."""
    elapsed_s: Interval
    """Until the last run has ended, from when the first is asked for."""
    cost: Interval | None
    """In the platform's currency; None where a size has no price."""
    unpriced: Sequence[str] = ()
    """Sizes without a price."""

    @property
    def total_s(self) -> Interval:
        """Worker-seconds of all runs."""
        return total(self.runs_s)

    @property
    def volume(self) -> Volume:
        """Of all assets."""
        found = Volume()
        for volume in self.volumes.values():
            found += volume
        return found


def estimate(
    project: Project, closure: Closure, runs: Sequence[PlannedRun], history: History, how: str = PROCESS
) -> Estimate:
    """From the ledger's history of the same assets; labelled otherwise. how: who runs it."""
    shares = shares_changed(history.backfills)
    figures = _Figures(closure)
    models = {a: _model(a, history) for run in runs for a in run.assets}
    steps = [s for run in runs for s in run.steps]
    assets = list(dict.fromkeys(s.asset for s in steps))
    volumes = {a: _volume(figures, a, [s for s in steps if s.asset == a], history, shares) for a in assets}
    seconds: dict[str, Interval] = {}
    runs_s: list[Interval] = []
    waves: dict[int, list[Interval]] = {}
    times = RunTimes(past_runs(history.backfills))
    for run in runs:
        by_step: dict[str, list[Interval]] = {}
        for asset in run.assets:
            mine = [s for s in run.steps if s.asset == asset]
            found = _seconds(models[asset], mine, figures, shares.get(asset, UNSEEN)[0])
            seconds[asset] = seconds.get(asset, NOTHING) + found
            by_step.setdefault(step_name(project, asset), []).append(found)
        attempts = total(max(together, key=lambda i: i.value) for together in by_step.values())
        runs_s.append(times.worker(list(by_step), attempts, by_daemon=how == DAEMON))
        waves.setdefault(run.wave, []).append(runs_s[-1])
    elapsed = times.elapsed([waves[w] for w in sorted(waves)], by_daemon=how == DAEMON)
    prices = [price_of(project, run.assets) for run in runs]
    unpriced = sorted({size for run in runs for size in _sizes(project, run.assets) if _price(project, size) is None})
    costs = [s.times(float(p) / 3600) for s, p in zip(runs_s, prices, strict=True) if p is not None]
    cost = total(costs) if len(costs) == len(runs) else None
    return Estimate(volumes, seconds, {a: m.basis for a, m in models.items()}, runs_s, elapsed, cost, unpriced)


def price_of(project: Project, assets: Sequence[str]) -> Decimal | None:
    """Of a worker-hour of a run: it is as big as the dearest of its assets asks for. None where one has no price."""
    prices = [_price(project, size) for size in _sizes(project, assets)]
    known = [p for p in prices if p is not None]
    return max(known) if known and len(known) == len(prices) else None


def _sizes(project: Project, assets: Sequence[str]) -> set[str]:
    served = {n.name: n.table for n in project.serving}
    return {(served.get(a) or project.tables[a]).dataset.runner.size for a in assets}


def _price(project: Project, size: str) -> Decimal | None:
    return project.platform.prices.of(size) if project.platform.prices else None


def _model(asset: str, history: History) -> StepModel:
    if attempts := history.attempts.get(asset):
        return fit(attempts)
    layer = asset.partition(".")[0]
    others = [a for name, found in history.attempts.items() if name.partition(".")[0] == layer for a in found]
    return fit(others, f"no history: that of other assets of {layer}" if others else "")


def _seconds(model: StepModel, steps: Sequence[PlannedStep], figures: "_Figures", share: float) -> Interval:
    """Of one attempt at these partitions. share: of those that may change, of which there will be an attempt."""
    certain, perhaps = [s for s in steps if s.is_certain], [s for s in steps if s.is_possible]
    low = model.seconds(figures.rows_in(certain)).low if certain else 0.0
    rows = figures.rows_in(certain) + share * figures.rows_in(perhaps)
    any_at_all = 1.0 if certain else 1.0 - (1.0 - share) ** len(perhaps)
    value = model.fixed_s * any_at_all + model.per_row_s * rows
    return Interval(value, low, model.seconds(figures.rows_in(steps)).high)


def _volume(figures: "_Figures", asset: str, steps: Sequence[PlannedStep], history: History, shares: Shares) -> Volume:
    """By what the same partitions hold now; of a new one, by the median of the others, or by what it reads."""
    low, high = history.drift.get(asset, DRIFT_ASSUMED)
    attempted, changed = shares.get(asset, UNSEEN)

    def of(share: float, amounts: Sequence[tuple[PlannedStep, float]]) -> Interval:
        certain = sum(n for s, n in amounts if s.is_certain)
        perhaps = sum(n for s, n in amounts if s.is_possible)
        value = certain + share * perhaps
        return Interval(value, min(value, certain * low), sum(n for _, n in amounts) * max(high, 1.0))

    return Volume(
        of(attempted, [(s, figures.rows_in([s])) for s in steps]),
        of(attempted, [(s, figures.bytes_in(s)) for s in steps]),
        of(changed, [(s, figures.out(s, "rows")) for s in steps]),
        of(changed, [(s, figures.out(s, "size_bytes")) for s in steps]),
    )


class _Figures:
    """Rows and bytes of partitions, as they are now."""

    def __init__(self, closure: Closure) -> None:
        self._closure = closure
        self._medians: dict[tuple[str, str], float] = {}

    def rows_in(self, steps: Sequence[PlannedStep]) -> float:
        """Rows that they read."""
        return sum(self._own(s, "rows_read") or self._read(s, "rows") for s in steps)

    def bytes_in(self, step: PlannedStep) -> float:
        """Of a source, whose bytes nobody counts, those that it becomes."""
        source = self._closure.nodes[step.asset].is_source
        return self._own(step, "size_bytes") if source else self._read(step, "size_bytes")

    def out(self, step: PlannedStep, what: str) -> float:
        """Rows or size_bytes that it gives."""
        return self._own(step, what) or self._read(step, what)

    def _own(self, step: PlannedStep, what: str) -> float:
        """Of what is published of the partition, else the median of the asset's others; 0 without any."""
        known = self._closure.known(step.asset, step.partition)
        if known is not None:
            return float(getattr(known, what))
        key = (step.asset, what)
        if key not in self._medians:
            others = [getattr(k, what) for k in self._closure.tables[step.asset].publishes.values()]
            self._medians[key] = float(median(others)) if others else 0.0
        return self._medians[key]

    def _read(self, step: PlannedStep, what: str) -> float:
        """Of all partitions that it reads."""
        places = self._closure.reads(step.asset, step.partition)
        return float(sum(getattr(k, what) for a, p in places if (k := self._closure.known(a, p)) is not None))
