"""Handles on published tables and served tables, for assets that load their inputs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from etl_assets.graph.runtime import Runtime
from etl_resources.engines.embedded import attach_postgres, connect
from etl_resources.errors import PermanentError
from etl_resources.identifiers import literal, quote_qualified
from etl_resources.io_managers.reader import PublishedRows
from etl_resources.ledger.ledger import Ledger
from etl_resources.manifest_targets import ElasticsearchTarget
from etl_resources.partition_sql import PartitionBy
from etl_resources.sinks.elasticsearch_reread import copy_documents
from etl_resources.sinks.elasticsearch_sink import ElasticsearchSink
from etl_resources.tables.input_tables import parquet_scan

if TYPE_CHECKING:
    import duckdb

DOCUMENTS = "etl_documents"


def read_table(runtime: Runtime, asset: str, partitions: Sequence[str]) -> PublishedRows:
    """Rows of a table's partitions as published now. Raises PermanentError naming what is not published."""
    with Ledger.open(runtime.settings) as ledger:
        pinned = runtime.store.pin(ledger, runtime.addresses[asset])
    missing = [p for p in partitions if p not in pinned.heads]
    if missing:
        raise PermanentError(f"{asset} has no published partition {', '.join(missing)}. Materialize it first.")
    paths = [path for p in partitions for path in pinned.heads[p].data_paths]
    return PublishedRows(
        asset, tuple(partitions), parquet_scan(paths, pinned.schema), lambda: connect(runtime.settings)
    )


def read_served(runtime: Runtime, asset: str, partitions: Sequence[str]) -> PublishedRows:
    """Rows of a target's served partitions."""
    node = next(n for n in runtime.project.serving if n.name == asset)
    if isinstance(node.target, ElasticsearchTarget):
        sink = runtime.search_sink(node)
        return PublishedRows(asset, tuple(partitions), DOCUMENTS, lambda: _with_documents(runtime, sink, partitions))
    where = PartitionBy.of(node.table.contract).keep(partitions)
    query = f"select * from {quote_qualified(node.target.place)} where {where}"

    def open_engine():  # type: ignore[no-untyped-def]
        engine = connect(runtime.settings, extensions=("postgres_scanner",))
        attach_postgres(engine, runtime.settings.require_postgres(), "served")
        return engine

    return PublishedRows(asset, tuple(partitions), f"postgres_query('served', {literal(query)})", open_engine)


def _with_documents(
    runtime: Runtime, sink: ElasticsearchSink, partitions: Sequence[str]
) -> "duckdb.DuckDBPyConnection":
    """An engine that holds the documents, read page by page; it spills to disk."""
    engine = connect(runtime.settings)
    copy_documents(engine, sink.contract, sink.documents(partitions), DOCUMENTS)
    return engine
