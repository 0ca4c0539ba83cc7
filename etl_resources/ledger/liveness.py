"""Who is alive, and what became of the others: asked by recovery, changed by nothing here.

An attempt lives as long as the session that opened it: it holds an advisory lock under the attempt's name. The lock is
looked at, not the row, so the answer holds also when the ledger's rows were lost.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from etl_resources.ledger.connection import connect, typed_errors
from etl_resources.ledger.ledger import Ledger
from etl_resources.settings import Settings

if TYPE_CHECKING:
    import psycopg

DEAD = "pg_try_advisory_xact_lock_shared(hashtextextended('attempt:' || attempt, 0))"
"""SQL of rows with an attempt: whether no session holds it. Not to be asked in a transaction that lasts."""


@dataclass(frozen=True)
class InUse:
    """Attempts at an asset that live, or ended since a moment."""

    attempts: frozenset[str]
    epochs: frozenset[int]


@dataclass(frozen=True)
class LiveAttempt:
    """An open attempt whose session still holds its lock; attempts of the asking session don't count."""

    attempt: str
    asset: str
    opened_at: datetime
    """Start of the transaction in which it was planned: before it pinned its inputs."""


def live_attempts(connection: "psycopg.Connection[Any]") -> list[LiveAttempt]:
    """The live attempts of every asset, oldest first."""
    rows = connection.execute(
        f"select attempt, asset, created_at from etl.intents where state = 'open' and not {DEAD} order by created_at"
    ).fetchall()
    return [LiveAttempt(*row) for row in rows]


@dataclass(frozen=True)
class DeliveredAttempt:
    """An attempt at a table that is delivered whole."""

    attempt: str
    state: str
    """open, published, failed or abandoned; superseded: it was fenced, another had published a newer delivery."""
    is_live: bool
    record: str | None
    """Path of its delivery's record in the raw zone; None before it staged, and for a rollback."""


def delivered_attempts(ledger: Ledger, asset: str) -> list[DeliveredAttempt]:
    """Every attempt that the ledger knows."""
    rows = ledger.connection.execute(
        "with mine as materialized (select asset, attempt, state from etl.intents where asset = %s), "
        f"opened as materialized (select attempt, not {DEAD} as live from mine where state = 'open') "
        "select mine.attempt, "
        "case when mine.state = 'published' and own.epoch is null and newer.epoch is not null then 'superseded' "
        "else mine.state end, "
        "coalesce(live, false), staged ->> 'raw' "
        "from mine left join opened using (attempt) left join etl.intent_partitions p using (attempt) "
        "left join etl.publishes own using (asset, partition, epoch) "
        "left join lateral (select max(n.epoch) as epoch from etl.publishes n "
        "where n.asset = mine.asset and n.partition = p.partition and n.epoch > p.epoch) newer on true",
        (asset,),
    ).fetchall()
    return [DeliveredAttempt(*row) for row in rows]


@contextmanager
def alone(ledger: Ledger, lock: str) -> Iterator[bool]:
    """Whether nobody else holds the lock; if so this session does, until the end. It dies with the session."""
    row = ledger.connection.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", (lock,)).fetchone()
    held = bool(row and row[0])
    try:
        yield held
    finally:
        if held and not ledger.connection.closed:
            ledger.connection.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", (lock,))


def clock(ledger: Ledger) -> datetime:
    """The ledger's time, which settled attempts are stamped with."""
    row = ledger.connection.execute("select clock_timestamp()").fetchone()
    assert row is not None  # noqa: S101  (a clock always answers)
    moment: datetime = row[0]
    return moment


def is_live(ledger: Ledger, attempt: str) -> bool:
    """Whether a session holds the attempt, this one included."""
    row = ledger.connection.execute(f"select {DEAD} from (select %s::text as attempt) a", (attempt,)).fetchone()
    return ledger.holds(attempt) or not (row and row[0])


def dead_attempts(ledger: Ledger, asset: str, *, dry_run: bool = False) -> list[str]:
    """Open attempts whose session is gone; this session holds them until it settles them, unless dry_run."""
    if not dry_run:
        return ledger.dead_attempts(asset)
    rows = ledger.connection.execute(
        "select attempt from etl.intents where asset = %s and state = 'open' order by created_at", (asset,)
    ).fetchall()
    return [attempt for (attempt,) in rows if not is_live(ledger, attempt)]


def assets_to_settle(settings: Settings) -> frozenset[str]:
    """Assets with attempts whose session is gone: one connection, one look. None without a ledger, which isn't made.

    Raises TransientError when its server can't be reached.
    """
    connection = connect(
        settings.require_postgres(), setting="ETL_POSTGRES_DSN", timeout_s=settings.postgres_connect_timeout_s
    )
    with connection, typed_errors("The ledger"):
        return _with_dead_attempts(connection)


def _with_dead_attempts(connection: "psycopg.Connection[Any]") -> frozenset[str]:
    exists = connection.execute("select to_regclass('etl.intents')").fetchone()
    if exists is None or exists[0] is None:
        return frozenset()
    rows = connection.execute(
        "with opened as materialized (select attempt, asset from etl.intents where state = 'open') "
        f"select distinct asset from opened where {DEAD}"
    ).fetchall()
    return frozenset(asset for (asset,) in rows)


def in_use(ledger: Ledger, asset: str, since: datetime) -> InUse:
    """What may still be published, or has been since."""
    rows = ledger.connection.execute(
        "with recent as materialized (select attempt, state from etl.intents "
        "where asset = %s and (state = 'open' or settled_at >= %s)) "
        f"select attempt, epoch, state = 'open' and {DEAD} from recent "
        "left join etl.intent_partitions using (attempt)",
        (asset, since),
    ).fetchall()
    used = [(attempt, epoch) for attempt, epoch, dead in rows if not dead or ledger.holds(attempt)]
    return InUse(frozenset(a for a, _ in used), frozenset(e for _, e in used if e is not None))


def epoch_states(ledger: Ledger, asset: str, epochs: Collection[int]) -> Mapping[int, str]:
    """Epoch → published | failed | abandoned; epochs that the ledger doesn't know are absent.

    An epoch counts as published when any of its partitions was. An open attempt here is a dead one: `in_use` has the
    living.
    """
    rows = ledger.connection.execute(
        "select p.epoch, bool_or(x.epoch is not null), min(i.state) "
        "from etl.intents i join etl.intent_partitions p using (attempt) "
        "left join etl.publishes x on x.asset = i.asset and x.partition = p.partition and x.epoch = p.epoch "
        "where i.asset = %s and p.epoch = any(%s) group by 1",
        (asset, list(epochs)),
    ).fetchall()
    return {
        epoch: "published" if published else ("abandoned" if state == "open" else state)
        for epoch, published, state in rows
    }


def others_hold_locks(connection: "psycopg.Connection[Any]") -> bool:
    """Whether any other session of this database is planning, capturing, committing or attempting."""
    row = connection.execute(
        "select exists (select from pg_locks where locktype = 'advisory' and granted and pid <> pg_backend_pid() "
        "and database = (select oid from pg_database where datname = current_database()))"
    ).fetchone()
    return bool(row and row[0])
