"""What doesn't become fresh by itself any more: for the command line."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from etl_resources.errors import PermanentError
from etl_resources.ledger import marks, requests
from etl_resources.ledger.connection import connect, typed_errors
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.requests import Stuck
from etl_resources.settings import Settings


@dataclass(frozen=True)
class Trouble:
    """Partitions that are stuck, and sources that can't be observed."""

    stuck: tuple[Stuck, ...] = ()
    unobserved: Mapping[str, str] | None = None
    """Bronze table → since when and why."""

    def lines(self) -> list[str]:
        """For people."""
        sources = [f"{name} isn't observed {why}" for name, why in (self.unobserved or {}).items()]
        return [*map(str, self.stuck), *sources]

    def as_json(self) -> dict[str, Any]:
        """For scripts; times in ISO 8601."""
        found = [asdict(s) for s in self.stuck]
        for row in found:
            row |= {k: row[k].isoformat() for k in ("requested_at", "stuck_since")}
        return {"stuck": found, "unobserved": dict(self.unobserved or {})}


def find_trouble(settings: Settings) -> Trouble:
    """All of it. Raises SettingsError or TransientError without a ledger's server; changes nothing."""
    dsn, timeout_s = settings.require_postgres(), settings.postgres_connect_timeout_s
    connection = connect(dsn, setting="ETL_POSTGRES_DSN", timeout_s=timeout_s)
    with connection, typed_errors("The ledger"):
        exists = connection.execute("select to_regclass('etl.requests')").fetchone()
        if exists is None or exists[0] is None:
            return Trouble()
        looks = marks.looks(connection).values()
        problems = {
            look.source: f"since {look.problem_since:%Y-%m-%d %H:%M} UTC: {look.problem}"
            for look in looks
            if look.problem and look.problem_since
        }
        return Trouble(tuple(requests.stuck(connection)), problems)


def ask_again(settings: Settings, asset: str | None) -> int:
    """Let the sensor begin to count anew, for one asset or for all; how many partitions.

    Raises PermanentError when an asset is named of which nothing is stuck.
    """
    with Ledger.open(settings) as ledger:
        found = {(s.asset, s.partition) for s in requests.stuck(ledger.connection) if asset in (None, s.asset)}
        if asset is not None and not found:
            raise PermanentError(f"No partition of {asset} is stuck. `data-pipeline stuck` lists what is.")
        requests.settle(ledger.connection, found, {})
    return len(found)
