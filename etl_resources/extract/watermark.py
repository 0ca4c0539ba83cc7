"""What changed in a table of Postgres since the last look, by its change stamps, and up to where all of it was seen.

A database stamps a row with the start of its transaction, and the row appears when that ends: stamps appear out of
order. So the watermark never passes the start of the oldest transaction that was open before the table was read; rows
past it are read again each time, and a digest of them tells whether they are the ones of before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from etl_resources.errors import PermanentError
from etl_resources.extract.source_query import select_changes
from etl_resources.ledger.connection import typed_errors
from etl_resources.manifest_sources import PostgresSource
from etl_resources.partition_sql import Placement

if TYPE_CHECKING:
    import psycopg

MARGIN_S = 30.0
"""A transaction takes its time a moment before others can see it, and a moment can be long on a busy machine."""


@dataclass(frozen=True)
class Bound:
    """How far the watermark may go: every row with an older stamp is committed, and visible to a later statement."""

    until: datetime
    now: datetime
    held_by: str | None = None
    """What keeps it back; None: nothing but the margin."""
    frozen: bool = False
    """Nothing may be concluded: the watermark stays where it is."""


@dataclass(frozen=True)
class Changes:
    """One look at one table."""

    partitions: frozenset[str]
    """In which rows changed since the last look, or may have."""
    watermark: datetime
    digests: Mapping[str, str] = field(default_factory=dict)
    """Partition → digest of its rows past the watermark, for the next look."""


def read_bound(connection: "psycopg.Connection[Any]", what: str) -> Bound:
    """To be asked before the tables are read, in a transaction of its own.

    Raises PermanentError where stamps can't be trusted: on a standby, and without the right to see other sessions.
    """
    with typed_errors(f"Observing {what}"):
        _prove_visible(connection, what)
        now, oldest, pid, silent = _row(
            connection,
            "select clock_timestamp(), min(xact_start), (array_agg(pid order by xact_start))[1], "
            "count(*) filter (where state = 'disabled') from pg_stat_activity where datname = current_database() "
            "and pid <> pg_backend_pid() and backend_type <> 'autovacuum worker' "
            "and (xact_start is not null or state = 'disabled')",
        )
        (prepared,) = _row(  # after the sessions: one that is prepared meanwhile was seen open, or is seen here
            connection, "select count(*) from pg_prepared_xacts where database = current_database()"
        )
    if prepared:
        return Bound(now, now, f"{prepared} prepared transactions, whose start nobody knows", frozen=True)
    if silent:
        return Bound(now, now, f"{silent} sessions with track_activities off", frozen=True)
    until = now - timedelta(seconds=MARGIN_S)
    if oldest is not None and oldest < until:
        return Bound(oldest, now, f"the transaction of session {pid}, open since {oldest:%Y-%m-%d %H:%M:%S} UTC")
    return Bound(until, now)


def find_changes(
    connection: "psycopg.Connection[Any]",
    source: PostgresSource,
    by: Placement | None,
    bound: Bound,
    watermark: datetime,
    digests: Mapping[str, str],
) -> Changes:
    """Partitions with rows that are stamped past the watermark and were not seen so before.

    bound: read before this, in an earlier transaction of the same connection. digests: of the last look.
    """
    stamp = source.columns[source.change_column].type if source.change_column else None
    if stamp != "timestamptz":
        raise PermanentError(
            f"{source.table}: {source.change_column} is {stamp}; what is observed is a timestamptz that the "
            "database keeps itself. Leave change_column out: then the sweep alone compares it."
        )
    passed = watermark if bound.frozen else max(watermark, bound.until)
    query = select_changes(source, by)
    changed, past, now = set[str](), dict[str, str](), set[str]()
    with typed_errors(f"Observing {source.table}"):
        for partition, since, beyond in connection.execute(query.encode(), {"since": watermark, "passed": passed}):
            if partition is None:
                continue  # a row without a period is in no partition
            now.add(partition)
            if since != digests.get(partition):
                changed.add(partition)
            if beyond is not None:
                past[partition] = beyond
    return Changes(frozenset(changed | (digests.keys() - now)), passed, past)


def _prove_visible(connection: "psycopg.Connection[Any]", what: str) -> None:
    standby, sees = _row(
        connection, "select pg_is_in_recovery(), pg_has_role(current_user, 'pg_read_all_stats', 'usage')"
    )
    if standby:
        raise PermanentError(
            f"{what} is a standby: open transactions of its primary can't be seen, so a change stamp proves nothing. "
            "Give the primary's address; until then its partitions are compared by the sweep alone."
        )
    if not sees:
        raise PermanentError(
            f"{what}: the role can't see other sessions, so a change stamp proves nothing: a late commit would be "
            "missed. Run `grant pg_read_all_stats to …` there; until then the sweep alone compares it."
        )


def _row(connection: "psycopg.Connection[Any]", query: str) -> tuple[Any, ...]:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None  # noqa: S101  (aggregates and functions always return a row)
    return tuple(row)
