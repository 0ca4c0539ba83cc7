"""What serving targets hold, reread for `data-pipeline verify`: rows of Postgres by SQL, documents one by one."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_assets.graph.runtime import Runtime
from etl_assets.project import ServingNode
from etl_assets.verify_differences import Commit
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import live_attempts
from etl_resources.manifest_targets import ElasticsearchTarget
from etl_resources.quality.stored_content import StoredContent, read_served, served_columns
from etl_resources.sinks.elasticsearch_names import mark_of
from etl_resources.sinks.elasticsearch_replace import ReplacingSink
from etl_resources.sinks.postgres_tables import COMMITS, STAGING_SCHEMA, STAGING_TABLES

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class FoundServed:
    """Content by partition, and what the store itself says of it."""

    stores: tuple[str, ...]
    content: Mapping[str, StoredContent]
    commits: Mapping[str, Commit]
    missing_columns: Collection[str] = ()
    foreign: Sequence[str] = ()
    """What else readers find, in words."""


def reread_served(
    runtime: Runtime, node: ServingNode, engine: "duckdb.DuckDBPyConnection", wanted: Callable[[str], bool]
) -> FoundServed:
    """A target as found. wanted: the partitions of which each document is reread."""
    if isinstance(node.target, ElasticsearchTarget):
        return _documents(runtime, node, engine, wanted)
    return _rows(runtime, node)


def _rows(runtime: Runtime, node: ServingNode) -> FoundServed:
    contract, target = node.table.contract, node.target.place
    with runtime.postgres_sink(node).connection() as connection, connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        columns = served_columns(connection, target)
        missing = [c for c in contract.names if c not in columns] if columns else []
        content = read_served(connection, contract, target) if columns and not missing else {}
        exists = connection.execute("select to_regclass(%s)", (COMMITS,)).fetchone()
        rows: list[Any] = []
        if exists and exists[0]:
            rows = connection.execute(
                f"select partition, epoch, version from {COMMITS} where target = %s", (target,)
            ).fetchall()
    commits = {p: Commit(epoch, version) for p, epoch, version in rows}
    return FoundServed(("Postgres", "its commit table", "ledger", "Iceberg"), content, commits, missing)


def _documents(
    runtime: Runtime, node: ServingNode, engine: "duckdb.DuckDBPyConnection", wanted: Callable[[str], bool]
) -> FoundServed:
    sink = runtime.search_sink(node)
    stores = ("Elasticsearch", "its commit records", "ledger", "Iceberg")
    if not sink.exists():
        return FoundServed(stores, {}, {})
    served = sink.served()
    content = {p: sink.content(engine, p) for p in sorted({*served, *sink.searched()}) if wanted(p)}
    commits = {p: Commit(s.epoch, s.version) for p, s in served.items()}
    return FoundServed(stores, content, commits, foreign=sink.foreign())


def leftovers_of(runtime: Runtime, nodes: Iterable[ServingNode], ledger: Ledger) -> list[str]:
    """What attempts that are over left in the stores."""
    live = {a.attempt for a in live_attempts(ledger.connection)}
    rows = ledger.connection.execute(f"{STAGING_TABLES} order by 1".encode()).fetchall()
    found = [f"staging table {STAGING_SCHEMA}.{t}" for (t,) in rows if not any(t.endswith(a) for a in live)]
    for node in nodes:
        if isinstance(node.target, ElasticsearchTarget):
            sink = runtime.search_sink(node)
            if isinstance(sink, ReplacingSink) and sink.exists():
                marks = set(map(mark_of, live))
                found += [f"index {i}" for i in sink.unpublished(keep=1) if i.mark not in marks]
    return found
