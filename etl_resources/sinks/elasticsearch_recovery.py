"""Recovery of an Elasticsearch target from the server: dead attempts, indexes left behind, publishes that were lost."""

from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING

from etl_resources.failpoints import failpoint
from etl_resources.ledger.attempt_records import restore_attempt
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import clock, dead_attempts, live_attempts
from etl_resources.retries import retry_transient
from etl_resources.sinks.elasticsearch_names import PartitionIndex, every_index, mark_of

if TYPE_CHECKING:
    from etl_resources.sinks.elasticsearch_replace import ReplacingSink
    from etl_resources.sinks.elasticsearch_sink import ElasticsearchSink


def settle_target(sink: "ElasticsearchSink", ledger: Ledger, *, dry_run: bool = False) -> dict[str, str]:
    """Dead attempt → published or abandoned. The fence comes first: what it may write through, or publish, is gone."""
    settled: dict[str, str] = {}
    dead = dead_attempts(ledger, sink.asset, dry_run=dry_run)
    if dead and not dry_run:
        sink.fence(dead)
        failpoint("elasticsearch.settle_fenced", sink.asset)
    served = sink.served() if dead else {}
    for attempt in dead:
        published = sorted(p for p, s in served.items() if s.attempt == attempt)
        if published:
            ledger.record_published(attempt, published, None)
        else:
            ledger.settle(attempt, "abandoned", "its session ended before it published")
        settled[attempt] = "published" if published else "abandoned"
    if not dry_run:
        sink.tidy(ledger)
    return settled


def rebuild_target(sink: "ElasticsearchSink", ledger: Ledger) -> tuple[list[str], list[str]]:
    """(partitions whose publish is in the ledger again, partitions of which there is no evidence)."""
    served = sink.served()
    known = ledger.at_epochs(sink.asset, {p: s.epoch for p, s in served.items()})
    lost = {p: s for p, s in served.items() if p not in known}
    restored: list[str] = []
    for partition, found in sorted(lost.items()):
        if found.evidence is not None:
            with ledger.connection.transaction():
                restore_attempt(ledger.connection, found.evidence, [partition])
                ledger.record_published(found.attempt, [partition], None)
            restored.append(partition)
    return restored, sorted(lost.keys() - set(restored))


def drop_orphans(
    sink: "ReplacingSink",
    ledger: Ledger,
    older_than: timedelta,
    *,
    besides: Collection[str] = (),
    dry_run: bool = False,
) -> list[str]:
    """Unpublished indexes whose attempt is over, but for attempts in `besides`; superseded ones among them.

    The guard counts from when an index was created: a live attempt of a ledger that was lost has that long.
    """
    state = sink.state()
    kept = {mark_of(a.attempt) for a in live_attempts(ledger.connection)} | set(map(mark_of, besides))
    unpublished = [i for i in state.filled() if sink.target not in state.indexes[str(i)] and i.mark not in kept]
    created = _created_ms(sink, unpublished)
    before_ms = (clock(ledger) - older_than).timestamp() * 1000
    dropped = [i for i in unpublished if created.get(str(i), before_ms + 1) <= before_ms]
    if dropped and not dry_run:
        sink.remove(dropped)
    return sorted(map(str, dropped))


def _created_ms(sink: "ReplacingSink", indexes: Collection[PartitionIndex]) -> dict[str, int]:
    """Index → when it was made, in milliseconds since 1970; those that are gone meanwhile are absent."""
    if not indexes:
        return {}
    found = retry_transient(
        lambda: (
            sink.client.indices.get_settings(
                index=every_index(sink.target), expand_wildcards="all", name="index.creation_date"
            ).body
        ),
        sink.asset,
    )
    return {str(i): int(found[str(i)]["settings"]["index"]["creation_date"]) for i in indexes if str(i) in found}
