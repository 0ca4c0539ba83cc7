"""How far each asset may be behind its sources, against what its manifest promises (M15b).

An asset is *complete until* the moment before which everything that its sources held is known to be in it: the oldest
of the last look at each source, a change that was seen and isn't in yet, and the end of the first complete period that
isn't published. Its lag is the time since. A pin is no lag: somebody wanted the old content.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from etl_assets.project import Project
from etl_resources.calendar import WHOLE, bounds
from etl_resources.ledger.freshness import Sight, sights
from etl_resources.manifest import Dataset
from etl_resources.manifest_sources import PostgresSource, S3FilesSource
from etl_resources.off_peak import zone_of

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class Lag:
    """How far one asset is behind."""

    asset: str
    complete_until: datetime | None
    """None: it was never published."""
    lag_s: float
    """Infinite for what was never published."""
    objective_s: float | None
    """None: its manifest promises nothing."""
    why: str
    """What it lacks, or which look is the oldest."""

    @property
    def is_late(self) -> bool:
        """Whether it is behind what its manifest promises."""
        return self.objective_s is not None and self.lag_s > self.objective_s

    def __str__(self) -> str:
        promised = f"its freshness is {self.objective_s / 3600:g} h" if self.objective_s is not None else "no objective"
        if self.complete_until is None:
            return f"{self.asset} was never published; {promised}"
        return f"{self.asset} is {self.lag_s / 3600:.1f} h behind; {promised}: {self.why}"


@dataclass(frozen=True)
class _Known:
    until: datetime | None
    why: str


def read_lags(project: Project, connection: "psycopg.Connection[Any]", now: datetime) -> list[Lag]:
    """Of every table and target, sources first; by one statement, however many partitions there are."""
    known, found = sights(connection), dict[str, _Known]()
    follows = project.platform.keep_fresh.enabled
    zone = zone_of(project.platform.calendar.time_zone)
    lags = []
    for node in project.nodes:
        name, dataset, upstream = node.name, node.dataset, node.upstream
        sight = known.get(name, Sight())
        bounds = [found[u] for u in upstream]
        if not upstream or not follows:
            bounds.append(_Known(_seen(dataset, sight) if follows else sight.run_at, f"{name} was last looked at then"))
        if sight.newest is None:
            bounds = [_Known(None, f"{name} was never published")]
        if sight.wanting_since is not None:
            bounds.append(_Known(sight.wanting_since, f"{name} has changes since then that are not in it yet"))
        if sight.newest is not None and (missing := _first_missing(project, dataset, sight.newest, now, zone)):
            bounds.append(missing)
        found[name] = _oldest(bounds)
        lags.append(_lag(name, dataset, found[name], now))
    return lags


def _seen(dataset: Dataset, sight: Sight) -> datetime | None:
    """When a source was last looked at: by a run, or by an observation that sees changes itself."""
    source = dataset.source
    watched = isinstance(source, S3FilesSource) or (isinstance(source, PostgresSource) and sight.has_watermark)
    return max(filter(None, (sight.run_at, sight.looked_at if watched else None)), default=None)


def _oldest(bounds: list[_Known]) -> _Known:
    return min(bounds, key=lambda b: (b.until is not None, b.until or datetime.min.replace(tzinfo=UTC)))


def _lag(name: str, dataset: Dataset, known: _Known, now: datetime) -> Lag:
    behind = (now - known.until).total_seconds() if known.until else float("inf")
    objective = dataset.freshness.within_hours * 3600 if dataset.freshness else None
    return Lag(name, known.until, max(behind, 0.0), objective, known.why)


def _first_missing(project: Project, dataset: Dataset, newest: str, now: datetime, zone: tzinfo) -> _Known | None:
    """The first complete period after the newest that is published; None where there is none."""
    if dataset.partitions is None or newest == WHOLE:
        return None
    following = next((k for k in project.platform.calendar.keys(dataset.partitions) if k > newest), None)
    if following is None:
        return None
    day = bounds(following)[1]
    ended = datetime(day.year, day.month, day.day, tzinfo=zone)
    return _Known(ended, f"{following} isn't published") if ended <= now else None


def objectives(project: Project) -> Mapping[str, timedelta]:
    """Asset → what its manifest promises."""
    promised = {node.name: node.dataset.freshness for node in project.nodes}
    return {name: timedelta(hours=f.within_hours) for name, f in promised.items() if f}
