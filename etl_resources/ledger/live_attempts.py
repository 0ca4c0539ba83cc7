"""Attempts under way: what they read and write must not be cleaned away under them."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class LiveAttempt:
    """An open attempt whose session still holds its lock; attempts of the asking session don't count."""

    attempt: str
    asset: str
    opened_at: datetime
    """Start of the transaction in which it was planned: before it pinned its inputs."""


def live_attempts(connection: "psycopg.Connection[object]") -> list[LiveAttempt]:
    """The live attempts of every asset, oldest first."""
    rows = connection.execute(
        "select attempt, asset, created_at from etl.intents where state = 'open' "
        "and not pg_try_advisory_xact_lock_shared(hashtextextended('attempt:' || attempt, 0)) order by created_at"
    ).fetchall()
    return [LiveAttempt(*row) for row in rows]  # type: ignore[misc]
