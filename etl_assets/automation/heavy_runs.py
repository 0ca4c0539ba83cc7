"""Runs of the reconcile sensor that are too heavy for the day: they wait for the next off-peak window (M11).

How long a run takes is what its assets took for so many rows before, counted in full: what turns out unchanged, and is
pruned, makes it shorter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from etl_assets.run_sizes import RunSizes
from etl_resources.calendar import WHOLE
from etl_resources.closure import Closure
from etl_resources.estimates import fit_at
from etl_resources.ledger.history import PastAttempt, read_history
from etl_resources.off_peak import OffPeakWindows
from etl_resources.reconcile import Request

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class Put:
    """What may start now, and what waits."""

    now: Sequence[Request]
    waiting: Sequence[tuple[Request, float]] = field(default=())
    """With the minutes that each is estimated at."""
    opens: datetime | None = None

    def told(self) -> str:
        """For the tick; empty where nothing waits."""
        if not self.waiting or self.opens is None:
            return ""
        (first, minutes), more = self.waiting[0], len(self.waiting) - 1
        span = first.first if first.first == first.last else f"{first.first} … {first.last}"
        others = f" and {more} more" if more else ""
        heavy = f"{first.assets[0]} {span}, assets {len(first.assets)}, some {minutes:.0f} min{others}"
        return f"waiting for off-peak, from {self.opens:%Y-%m-%d %H:%M} on: {heavy}"


def put_off(
    sizes: RunSizes,
    connection: "psycopg.Connection[Any]",
    closure: Closure | None,
    requests: Sequence[Request],
    now: datetime,
) -> Put:
    """Which of the requests wait. One that waits is not counted as a try, and is found anew at each tick.

    sizes: of the process.
    """
    platform = sizes.project.platform
    rules, windows = platform.keep_fresh, OffPeakWindows.of(platform)
    if rules.heavy_runs != "off_peak" or not requests or closure is None or windows.is_open(now):
        return Put(requests)
    models = read_history(connection, {a for r in requests for a in r.assets}).attempts
    minutes = {r.key: request_seconds(closure, models, r, sizes) / 60 for r in requests}
    heavy = [(r, minutes[r.key]) for r in requests if minutes[r.key] > rules.heavy_minutes]
    held = {r.key for r, _ in heavy}
    return Put([r for r in requests if r.key not in held], heavy, windows.next_open(now) if heavy else None)


def request_seconds(
    closure: Closure, attempts: Mapping[str, Sequence[PastAttempt]], request: Request, sizes: RunSizes
) -> float:
    """What one run is estimated to take at these sizes."""
    found = 0.0
    for asset, (size, engine) in zip(request.assets, sizes.told(request.assets), strict=True):
        mine = [p for p in closure.nodes[asset].partitions if p == WHOLE or request.first <= p <= request.last]
        known = [k for p in mine if (k := closure.known(asset, p)) is not None]
        found += fit_at(attempts.get(asset, ()), size, engine).seconds(sum(k.rows_read for k in known)).value
    return found
