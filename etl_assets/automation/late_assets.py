"""Assets behind their declared freshness: told once, and again when they were fresh in between."""

from collections.abc import Callable

from etl_assets.automation.alerts import alert
from etl_assets.freshness import Lag, read_lags
from etl_assets.graph.runtime import Runtime
from etl_resources.ledger.freshness import forget_late, late, tell_late
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import clock
from etl_resources.retries import retries_of_tick


def tell_of_late(runtime: Runtime, log: Callable[[str], None]) -> list[Lag]:
    """All that are late now; an alert of those of which nobody was told."""
    with retries_of_tick(), Ledger.open(runtime.settings) as ledger:
        connection = ledger.connection
        found = [lag for lag in read_lags(runtime.project, connection, clock(ledger)) if lag.is_late]
        told = late(connection)
        forget_late(connection, told.keys() - {lag.asset for lag in found})
        new = [lag for lag in found if lag.asset not in told]
        details = [
            {
                "asset": lag.asset,
                "complete_until": lag.complete_until.isoformat() if lag.complete_until else None,
                "within_hours": (lag.objective_s or 0.0) / 3600,
                "why": lag.why,
            }
            for lag in new
        ]
        if new and alert(runtime.settings, "late", list(map(str, new)), details, log):
            tell_late(connection, {lag.asset: lag.complete_until for lag in new})
    return found
