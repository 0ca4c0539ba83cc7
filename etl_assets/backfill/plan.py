"""`data-pipeline plan`: what a backfill would compute, prune, take and cost. It changes nothing."""

import gc
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from etl_assets.backfill.closure_nodes import closure_nodes, datasets_of, state_of
from etl_assets.backfill.estimate import Estimate, Estimator
from etl_assets.backfill.look import Comparer, Finder, Looked, look_at_sources
from etl_assets.backfill.runs import PlannedRun, build_runs, daemon_runs
from etl_assets.backfill.selection import select
from etl_assets.freshness import read_lags
from etl_assets.graph.runtime import Runtime
from etl_assets.project_spark_checks import portability_errors
from etl_assets.raised_sizes import due, largest, raise_size
from etl_assets.run_sizes import RunSizes
from etl_assets.size_categories import wrong_categories
from etl_resources.calendar import WHOLE, bounds, is_period
from etl_resources.closure import Closure, ClosureNode
from etl_resources.closure_plan import ClosurePlan, PlannedStep, plan_closure
from etl_resources.errors import ManifestErrors, PermanentError
from etl_resources.estimates import median_errors
from etl_resources.ledger.backfills import DAEMON, PROCESS
from etl_resources.ledger.history import read_history
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import clock
from etl_resources.manifest_targets import ElasticsearchTarget
from etl_resources.sizes import MANIFESTS, SizeChoice, allowed_sizes

ESTIMATED = ("elapsed_s", "seconds", "bytes_in", "bytes_out")
"""Figures of a backfill that are compared with what it came to."""


@dataclass(frozen=True)
class BackfillPlan:
    """What was asked for, what would be done, and at what price."""

    selection: tuple[str, ...]
    """As it was asked for."""
    first: str
    last: str
    assets: tuple[str, ...]
    """Selected, upstream first."""
    closure: Closure
    closure_plan: ClosurePlan
    runs: Sequence[PlannedRun]
    estimator: Estimator
    sizes: RunSizes
    """At which its runs are launched."""
    how: str
    """DAEMON or PROCESS: who would run it."""
    errors: Mapping[str, float]
    """Median error of the estimates of earlier backfills, as a share of what it came to, by figure of ESTIMATED."""
    notes: Sequence[str]
    currency: str | None
    """Of costs; None without prices."""

    @property
    def hash(self) -> str:
        """16 hex digits of what would be run, on which versions and at which size: the same state gives the same."""
        digest, choice = self.closure_plan.digest, self.choice
        return hashlib.sha256(f"{digest} {choice}".encode()).hexdigest()[:16] if choice != MANIFESTS else digest

    @property
    def choice(self) -> SizeChoice:
        """What is asked of its runs beyond the manifests."""
        return self.sizes.choice

    def at(self, choice: SizeChoice) -> "BackfillPlan":
        """The same partitions at other sizes."""
        return replace(self, sizes=replace(self.sizes, choice=choice))

    def of_hash(self, wanted: str) -> "BackfillPlan | None":
        """At that size at which it has this hash; None if it has it at none."""
        sizes = allowed_sizes(self.sizes.project.platform)
        others = [MANIFESTS, *(SizeChoice(s) for s in sizes), *(SizeChoice(raised_to=s) for s in sizes)]
        return next((p for p in map(self.at, (self.choice, *others)) if p.hash == wanted), None)

    @property
    def estimate(self) -> Estimate:
        """What it takes and costs."""
        return self.estimator.at(self.sizes)

    @property
    def by_size(self) -> Mapping[str, Estimate]:
        """What it would take at each size that may be asked for, from small to large."""
        sizes = allowed_sizes(self.sizes.project.platform)
        return {size: self.estimator.at(replace(self.sizes, choice=SizeChoice(size))) for size in sizes}

    @property
    def todo(self) -> list[PlannedStep]:
        """Partitions that are run."""
        return [s for run in self.runs for s in run.steps]


def make_plan(
    runtime: Runtime,
    ledger: Ledger,
    selection: Iterable[str],
    first: str | None,
    last: str | None,
    *,
    look: bool = True,
    how: str = PROCESS,
    size: str | None = None,
) -> BackfillPlan:
    """The plan of a selection over periods; omitted: from the calendar's first, to its last.

    look: at sources and at rows that are looked up; else from the ledger alone. how: who would run it. size: of every
    dataset; None: as the manifests say, raised where they allow it and a freshness would be missed. Raises
    PermanentError for a selection, a period or a size that doesn't exist, ManifestErrors for SQL that Spark, where the
    size makes it compute, can't run.
    """
    project, terms = runtime.project, tuple(selection)
    asked = SizeChoice(size).check(project.platform, "--size") if size else runtime.sizes.choice
    nodes, notes = closure_nodes(project), list[str]()
    first, last = span(runtime, first, last)
    assets = select(nodes, datasets_of(project), terms)
    if without := _without_server(runtime, assets):
        notes.append(f"no Elasticsearch: {', '.join(without)} left out")
        assets = [a for a in assets if a not in without]
    state = state_of(ledger, nodes)
    if state.open_attempts:
        notes.append(f"{state.open_attempts} attempts are under way, or their process died (`data-pipeline recover`)")
    wanted = _wanted(nodes, assets, first, last)
    looked = look_at_sources(runtime, ledger, state, wanted) if look else Looked()
    unobservable = looked.unobservable if look else {n.name: "no source is looked at" for n in nodes if n.is_source}
    closure = Closure(
        nodes, state, looked.observed, Finder(runtime, state) if look else None, Comparer(runtime, ledger)
    )
    planned = plan_closure(closure, wanted, unobservable)
    todo = [s for s in planned.steps.values() if s.action.runs]
    runs = daemon_runs(closure, todo) if how == DAEMON else build_runs(closure, todo)
    running = {a for run in runs for a in run.assets}
    history = read_history(ledger.connection, running)
    if running - history.attempts.keys():  # others of their layer tell more than nothing
        history = read_history(ledger.connection, [n.name for n in nodes])
    estimator = Estimator(project, closure, runs, history, how)
    sizes = runtime.sizes_of(asked)
    if asked.asked is not None:
        _prove_portable(sizes, running)
    elif allowed := largest(project, running):
        needed = due(project, read_lags(project, ledger.connection, clock(ledger)), running)
        raised = raise_size(allowed, needed, lambda c: estimator.at(replace(sizes, choice=c)).elapsed_s.value)
        sizes = replace(sizes, choice=raised.choice)
        notes += [raised.why] if raised.why else []
    errors = median_errors(history.backfills, ESTIMATED)
    currency = project.platform.prices.currency if project.platform.prices else None
    notes += [*looked.notes, *wrong_categories(project, ledger.connection, assets)]
    return BackfillPlan(
        terms, first, last, tuple(assets), closure, planned, runs, estimator, sizes, how, errors, notes, currency
    )  # fmt: skip


def plan_of(
    runtime: Runtime,
    selection: Iterable[str],
    first: str | None,
    last: str | None,
    *,
    look: bool = True,
    how: str = PROCESS,
    size: str | None = None,
) -> BackfillPlan:
    """As make_plan, in one snapshot of the ledger that nothing is written to."""
    with _without_collections(), Ledger.at_one_instant(runtime.settings) as ledger:
        return make_plan(runtime, ledger, selection, first, last, look=look, how=how, size=size)


@contextmanager
def _without_collections() -> Iterator[None]:
    """A plan of 10,000 partitions is a hundred thousand small objects that all live: searching them took a third."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _prove_portable(sizes: RunSizes, assets: Iterable[str]) -> None:
    project = sizes.project
    tables = [a for a in assets if a in project.tables and sizes.spark(project.tables[a]) is not None]
    if tables and (errors := portability_errors(project.root, tables)):
        raise ManifestErrors(errors)


def span(runtime: Runtime, first: str | None, last: str | None) -> tuple[str, str]:
    """First and last period, by default the calendar's. Raises PermanentError for what is no period."""
    calendar = runtime.project.platform.calendar
    first, last = first or calendar.start, last or calendar.end
    start, end = calendar.span
    for name, period in (("--from", first), ("--to", last)):
        if not is_period(period) or bounds(period)[0] >= end or bounds(period)[1] <= start:
            raise PermanentError(
                f"{name} {period} is no period of the calendar; valid: {calendar.start} to {calendar.end}, "
                "or a day, week or quarter of these."
            )
    if bounds(last)[1] <= bounds(first)[0]:
        raise PermanentError(f"--to {last} lies before --from {first}.")
    return first, last


def _wanted(nodes: Sequence[ClosureNode], assets: Sequence[str], first: str, last: str) -> Mapping[str, list[str]]:
    """All partitions that share a day with the periods."""
    chosen, start, end = set(assets), bounds(first)[0], bounds(last)[1]

    def shares(partition: str) -> bool:
        return partition == WHOLE or (bounds(partition)[0] < end and bounds(partition)[1] > start)

    return {n.name: list(filter(shares, n.partitions)) for n in nodes if n.name in chosen}


def _without_server(runtime: Runtime, assets: Iterable[str]) -> list[str]:
    """Targets in an Elasticsearch that isn't there."""
    if runtime.settings.elasticsearch_url:
        return []
    targets = {n.name for n in runtime.project.serving if isinstance(n.target, ElasticsearchTarget)}
    return [a for a in assets if a in targets]
