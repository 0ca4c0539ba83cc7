"""Recovery of a serving table from its database: dead attempts, staging tables left behind, lost publishes."""

from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from etl_resources.failpoints import failpoint
from etl_resources.identifiers import quote
from etl_resources.ledger.attempt_records import restore_attempt
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import dead_attempts, is_live
from etl_resources.sinks.postgres_tables import COMMITS, STAGING_SCHEMA, STAGING_TABLES

if TYPE_CHECKING:
    import psycopg

    from etl_resources.sinks.postgres_sink import PostgresSink

ATTEMPT = r"_([0-9A-Za-z-]{1,8}-[0-9a-f]{12})$"
"""The attempt at the end of a staging table's name."""


def settle_target(sink: "PostgresSink", ledger: Ledger, *, dry_run: bool = False) -> dict[str, str]:
    """Dead attempt → published or abandoned. The fence comes first: its staging table is dropped."""
    settled: dict[str, str] = {}
    for attempt in dead_attempts(ledger, sink.asset, dry_run=dry_run):
        with sink.connection() as connection:
            if not dry_run:
                connection.execute(f"drop table if exists {sink.staging_table(attempt)}")
            published = [c["partition"] for c in _commits(connection, sink.target) if c["attempt"] == attempt]
        failpoint("postgres.settle_fenced", sink.asset)
        if published:
            ledger.record_published(attempt, published, None)
        else:
            ledger.settle(attempt, "abandoned", "its session ended before it published")
        settled[attempt] = "published" if published else "abandoned"
    return settled


def rebuild_target(sink: "PostgresSink", ledger: Ledger) -> tuple[list[str], list[str]]:
    """(partitions whose publish is in the ledger again, partitions of which there is no evidence)."""
    with sink.connection() as connection:
        commits = [c for c in _commits(connection, sink.target) if c["epoch"] > 0]
    known = ledger.at_epochs(sink.asset, {c["partition"]: c["epoch"] for c in commits})
    lost = [c for c in commits if c["partition"] not in known]
    restored: list[str] = []
    for commit in lost:
        record = commit["evidence"]
        if record is not None:
            with ledger.connection.transaction():
                restore_attempt(ledger.connection, record, [commit["partition"]])
                ledger.record_published(commit["attempt"], [commit["partition"]], None)
                ledger.connection.execute(
                    "update etl.publishes set published_at = %s where asset = %s and partition = %s and epoch = %s",
                    (commit["published_at"], sink.asset, commit["partition"], commit["epoch"]),
                )
            restored.append(commit["partition"])
    return sorted(restored), sorted(c["partition"] for c in lost if c["partition"] not in restored)


def drop_dead_staging(
    ledger: Ledger, older_than: timedelta, *, besides: Collection[str] = (), dry_run: bool = False
) -> list[str]:
    """Staging tables, of whatever target, whose attempt is over, but for attempts in `besides`.

    The guard counts from when the attempt was opened, where the ledger knows it: a live one holds its lock anyway.
    """
    connection, dropped = ledger.connection, []
    rows = connection.execute(
        f"select t.relname, substring(t.relname from %(attempt)s) from ({STAGING_TABLES}) t left join etl.intents i "
        "on i.attempt = substring(t.relname from %(attempt)s) "
        "where coalesce(i.created_at <= now() - %(older_than)s, true) order by 1",
        {"attempt": ATTEMPT, "older_than": older_than},
    ).fetchall()
    for table, attempt in rows:
        if attempt is None or attempt in besides or is_live(ledger, attempt):
            continue
        if not dry_run:
            connection.execute(f"drop table if exists {quote(STAGING_SCHEMA)}.{quote(table)}")
        dropped.append(table)
    return dropped


def _commits(connection: "psycopg.Connection[Any]", target: str) -> list[dict[str, Any]]:
    """Rows of the commit table, of whatever version it is; evidence as text."""
    exists = connection.execute("select to_regclass(%s)", (COMMITS,)).fetchone()
    if exists is None or exists[0] is None:
        return []
    rows = connection.execute(
        "select partition, epoch, attempt, published_at, (to_jsonb(c) -> 'evidence')::text "
        f"from {COMMITS} c where target = %s order by partition",
        (target,),
    ).fetchall()
    names = ("partition", "epoch", "attempt", "published_at", "evidence")
    commits = [dict(zip(names, row, strict=True)) for row in rows]
    return [{**c, "evidence": None if c["evidence"] == "null" else c["evidence"]} for c in commits]
