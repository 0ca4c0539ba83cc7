"""When a run is bigger than its manifests say: its estimate misses a freshness, and they allow a larger size (M15b)."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import isfinite

from etl_assets.freshness import Lag
from etl_assets.project import Project
from etl_resources.sizes import MANIFESTS, SizeChoice


@dataclass(frozen=True)
class Due:
    """By when a run must have ended for what it makes to be as fresh as its manifests promise."""

    asset: str
    """Whose objective ends first."""
    left_s: float
    """From now on; negative: it is behind already."""
    within_hours: float


@dataclass(frozen=True)
class Raised:
    """What is chosen for a run, and why, for people; empty where nothing is raised and no objective is missed."""

    choice: SizeChoice = MANIFESTS
    why: str = ""


def largest(project: Project, assets: Collection[str]) -> list[str]:
    """Sizes to which a run of these may be raised, from small to large; none where no manifest allows it."""
    order = list(project.platform.sizes)
    allowed = {n.dataset.runner.up_to for n in project.nodes if n.name in assets} - {None}
    if not allowed:
        return []
    least = min(order.index(n.dataset.runner.size) for n in project.nodes if n.name in assets)
    return order[least + 1 : max(order.index(size) for size in allowed if size is not None) + 1]


def due(project: Project, lags: Collection[Lag], assets: Collection[str]) -> Due | None:
    """Of the objectives of these assets, and of all that is made from them, the one that ends first; None without any.
    What was never published has the whole of its objective left."""
    after = set(assets)
    for node in project.nodes:  # in the order of the flow
        if after.intersection(node.upstream):
            after.add(node.name)
    found = [
        Due(lag.asset, lag.objective_s - (lag.lag_s if isfinite(lag.lag_s) else 0.0), lag.objective_s / 3600)
        for lag in lags
        if lag.asset in after and lag.objective_s is not None
    ]
    return min(found, key=lambda d: d.left_s, default=None)


def raise_size(sizes: Collection[str], needed: Due | None, seconds_at: Callable[[SizeChoice], float]) -> Raised:
    """The smallest of these sizes that keeps the objective; else the fastest, and of equally fast ones the largest.

    sizes: from small to large. seconds_at: what the run is estimated to take.
    """
    if not sizes or needed is None or (first := seconds_at(MANIFESTS)) <= needed.left_s:
        return Raised()
    left = f"has {_time(needed.left_s)} left" if needed.left_s > 0 else "is late already"
    missed = (
        f"{_time(first)} at the sizes of the manifests, and {needed.asset}, fresh within "
        f"{needed.within_hours:g} h, {left}"
    )
    choices = [SizeChoice(raised_to=size) for size in sizes]
    best, best_s = MANIFESTS, first
    for choice in choices:
        seconds = seconds_at(choice)
        if seconds <= needed.left_s:
            return Raised(choice, f"{choice}: {missed}")
        if seconds <= best_s:
            best, best_s = choice, seconds
    if best == MANIFESTS:
        return Raised(why=f"misses a freshness: {missed}; no larger size that is allowed was faster")
    return Raised(best, f"{best}, which misses the freshness as well: {missed}")


def _time(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 60 else f"{seconds / 60:.1f} minutes"
