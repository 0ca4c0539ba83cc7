"""Restatements of closed periods: which were published, and of which consumers were told.

What is to be told is part of the publish's own evidence, so that no publish is without its notice, whatever dies after
it. Told is what is recorded here: a notice may be sent twice, and is never lost.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class Restatement:
    """A published change of a closed partition."""

    asset: str
    partition: str
    epoch: int
    attempt: str
    run_id: str
    published_at: datetime
    told: dict[str, Any]
    """asset, partition, late_data, closed, who accepted it and why, before and after, rows, totals, targets."""

    def as_json(self) -> dict[str, Any]:
        """The notice; times in ISO 8601."""
        return {**self.told, "run_id": self.run_id, "published_at": self.published_at.isoformat()}

    def __str__(self) -> str:
        t = self.told
        who = f", accepted by {t['accepted_by']} ({t['accepted_because']})" if "accepted_by" in t else ""
        sums = "".join(f"; {m} {s['before']} → {s['after']}" for m, s in t["totals"].items())
        return (
            f"{self.asset} {self.partition}, closed on {t['closed']['at'][:10]} by {t['closed']['by']}, was restated "
            f"by {t['late_data']}{who}: {t['rows_added']} rows added, {t['rows_removed']} removed, "
            f"{t['rows_changed']} changed{sums}"
        )


def untold(connection: "psycopg.Connection[Any]") -> list[Restatement]:
    """Those of which nobody was told, oldest first."""
    rows = connection.execute(
        "select asset, partition, epoch, attempt, run_id, published_at, told from etl.untold_restatements "
        "order by published_at, asset, partition"
    ).fetchall()
    return [Restatement(*row) for row in rows]


def record_told(connection: "psycopg.Connection[Any]", restatement: Restatement) -> None:
    """Somebody took the notice. Idempotent."""
    connection.execute(
        "insert into etl.notices (attempt, asset, partition) values (%s, %s, %s) on conflict do nothing",
        (restatement.attempt, restatement.asset, restatement.partition),
    )
