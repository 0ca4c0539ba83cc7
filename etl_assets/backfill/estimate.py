"""What a plan will read, write, take and cost: by asset, then by run, each with an interval.

What is known to be out of date counts in full; what may change counts in the value by the share that did change in
earlier backfills (in full without one), in full in the upper bound, and not at all in the lower one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import Any

from etl_assets.backfill.runs import PlannedRun
from etl_assets.backfill.taken import past_runs, shares_changed, step_name
from etl_assets.project import Project
from etl_assets.run_sizes import RunSizes
from etl_resources.closure import Closure
from etl_resources.closure_plan import PlannedStep
from etl_resources.estimates import DRIFT_ASSUMED, NOTHING, Interval, StepModel, fit, fit_at, total
from etl_resources.ledger.backfills import DAEMON, PROCESS
from etl_resources.ledger.history import History
from etl_resources.manifest_runner import Engine
from etl_resources.run_times import RunTimes
from etl_resources.sizes import SizeChoice

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


@dataclass(frozen=True)
class _Amounts:
    """What one asset reads in one run."""

    certain: bool
    """Whether anything of it is known to be computed."""
    certain_rows: float
    perhaps: int
    """Partitions that may be."""
    perhaps_rows: float
    all_rows: float


class Estimator:
    """Estimates one plan at any size: what is read and written is the same at each."""

    def __init__(
        self, project: Project, closure: Closure, runs: Sequence[PlannedRun], history: History, how: str = PROCESS
    ) -> None:
        """how: who runs it."""
        self._project, self._runs, self._history, self._by_daemon = project, runs, history, how == DAEMON
        self._shares = shares_changed(history.backfills)
        self._times = RunTimes(past_runs(history.backfills))
        figures = _Figures(closure)
        by_asset: dict[str, list[PlannedStep]] = {}
        for step in (s for run in runs for s in run.steps):
            by_asset.setdefault(step.asset, []).append(step)
        self._volumes = {a: _volume(figures, a, steps, history, self._shares) for a, steps in by_asset.items()}
        self._amounts = [_amounts(figures, run) for run in runs]
        self._estimates: dict[SizeChoice, Estimate] = {}

    def at(self, sizes: RunSizes) -> Estimate:
        """From the ledger's history of the same assets at these sizes; labelled otherwise."""
        if sizes.choice not in self._estimates:
            self._estimates[sizes.choice] = self._estimate(sizes)
        return self._estimates[sizes.choice]

    def _estimate(self, sizes: RunSizes) -> Estimate:
        models = {a: _model(a, *told, self._history) for a, told in told_of(sizes, self._volumes).items()}
        seconds: dict[str, Interval] = {}
        runs_s: list[Interval] = []
        waves: dict[int, list[Interval]] = {}
        for run, amounts in zip(self._runs, self._amounts, strict=True):
            by_step: dict[str, list[Interval]] = {}
            for asset, amount in amounts.items():
                found = _seconds(models[asset], amount, self._shares.get(asset, UNSEEN)[0])
                seconds[asset] = seconds.get(asset, NOTHING) + found
                by_step.setdefault(step_name(self._project, asset), []).append(found)
            attempts = total(max(together, key=lambda i: i.value) for together in by_step.values())
            runs_s.append(self._times.worker(list(by_step), attempts, by_daemon=self._by_daemon))
            waves.setdefault(run.wave, []).append(runs_s[-1])
        elapsed = self._times.elapsed([waves[w] for w in sorted(waves)], by_daemon=self._by_daemon)
        prices = [price_of(sizes, run.assets) for run in self._runs]
        costs = [s.times(float(p) / 3600) for s, p in zip(runs_s, prices, strict=True) if p is not None]
        cost = total(costs) if len(costs) == len(self._runs) else None
        bases, unpriced = {a: m.basis for a, m in models.items()}, _unpriced(sizes, self._volumes)
        return Estimate(self._volumes, seconds, bases, runs_s, elapsed, cost, unpriced)


def price_of(sizes: RunSizes, assets: Sequence[str]) -> Decimal | None:
    """Of an hour of a run: it is as big as the dearest of its assets asks for. None where one has no price.

    In AWS Glue that is all workers of as many jobs as a step has at once: at most what it costs.
    """
    prices = set(_prices(sizes, assets).values())
    return None if None in prices else max((p for p in prices if p is not None), default=None)


def _prices(sizes: RunSizes, assets: Sequence[str]) -> Mapping[str, Decimal | None]:
    """Asset → price of an hour of all workers that it takes at once."""
    prices, found = sizes.project.platform.prices, dict[str, Decimal | None]()
    for asset, (size, engine) in told_of(sizes, assets).items():
        price, workers = prices.of(size, engine) if prices else None, sizes.workers(asset)
        found[asset] = price * workers if price is not None and workers is not None else None
    return found


def told_of(sizes: RunSizes, assets: Iterable[str]) -> Mapping[str, tuple[str, Engine]]:
    """Asset → its size and engine."""
    names = list(assets)
    return dict(zip(names, sizes.told(names), strict=True))


def _unpriced(sizes: RunSizes, assets: Iterable[str]) -> list[str]:
    names = list(assets)
    told = told_of(sizes, names)
    missing = {told[asset] for asset, price in _prices(sizes, names).items() if price is None}
    return sorted(size if engine == "duckdb" else f"{size} on {engine}" for size, engine in missing)


def _model(asset: str, size: str, engine: Engine, history: History) -> StepModel:
    if attempts := history.attempts.get(asset):
        return fit_at(attempts, size, engine)
    layer = asset.partition(".")[0]
    others = [a for name, found in history.attempts.items() if name.partition(".")[0] == layer for a in found]
    return fit(others, f"no history: that of other assets of {layer}" if others else "")


def _amounts(figures: "_Figures", run: PlannedRun) -> dict[str, _Amounts]:
    found = {}
    for asset in run.assets:
        mine = [s for s in run.steps if s.asset == asset]
        certain, perhaps = [s for s in mine if s.is_certain], [s for s in mine if s.is_possible]
        found[asset] = _Amounts(
            bool(certain), figures.rows_in(certain), len(perhaps), figures.rows_in(perhaps), figures.rows_in(mine)
        )
    return found


def _seconds(model: StepModel, amount: _Amounts, share: float) -> Interval:
    """Of one attempt. share: of the partitions that may change, of which there will be an attempt."""
    low = model.seconds(amount.certain_rows).low if amount.certain else 0.0
    any_at_all = 1.0 if amount.certain else 1.0 - (1.0 - share) ** amount.perhaps
    value = model.fixed_s * any_at_all + model.per_row_s * (amount.certain_rows + share * amount.perhaps_rows)
    return Interval(value, low, model.seconds(amount.all_rows).high)


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
