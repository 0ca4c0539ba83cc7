"""Recovery of serving targets, whichever store they are in."""

from collections.abc import Collection
from datetime import timedelta

from etl_assets.graph.runtime import Runtime
from etl_assets.project import ServingNode
from etl_resources.ledger.ledger import Ledger
from etl_resources.manifest_targets import ElasticsearchTarget
from etl_resources.sinks import elasticsearch_recovery, postgres_recovery
from etl_resources.sinks.elasticsearch_replace import ReplacingSink


def settle_serving(runtime: Runtime, node: ServingNode, ledger: Ledger, *, dry_run: bool) -> dict[str, str]:
    """Dead attempt → published or abandoned."""
    if isinstance(node.target, ElasticsearchTarget):
        sink = runtime.search_sink(node)
        return elasticsearch_recovery.settle_target(sink, ledger, dry_run=dry_run) if sink.exists() else {}
    return postgres_recovery.settle_target(runtime.postgres_sink(node), ledger, dry_run=dry_run)


def rebuild_serving(runtime: Runtime, node: ServingNode, ledger: Ledger) -> tuple[list[str], list[str]]:
    """(partitions whose publish is in the ledger again, partitions of which there is no evidence)."""
    if isinstance(node.target, ElasticsearchTarget):
        sink = runtime.search_sink(node)
        return elasticsearch_recovery.rebuild_target(sink, ledger) if sink.exists() else ([], [])
    return postgres_recovery.rebuild_target(runtime.postgres_sink(node), ledger)


def drop_indexes(
    runtime: Runtime,
    node: ServingNode,
    ledger: Ledger,
    older_than: timedelta,
    *,
    besides: Collection[str] = (),
    dry_run: bool = False,
) -> list[str]:
    """Indexes of a target that nobody searches and no live attempt fills; none of a target in Postgres."""
    if not isinstance(node.target, ElasticsearchTarget):
        return []
    sink = runtime.search_sink(node)
    if not isinstance(sink, ReplacingSink) or not sink.exists():
        return []
    return elasticsearch_recovery.drop_orphans(sink, ledger, older_than, besides=besides, dry_run=dry_run)
