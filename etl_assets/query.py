"""A reading SQL session over everything that is published: tables, targets in both stores, the ledger.

Tables are views over iceberg_scan of the metadata that is current when the statement starts: one pinned snapshot per
table, the files that any other Iceberg reader sees, with deletes and schema evolution honoured and months pruned by
the table's own statistics. (read_parquet over the pinned files starts a second sooner but repeats in our code what the
format promises.) Documents of a target in Elasticsearch, those of one moment, are copied page by page, and spill to
disk beyond the engine's memory. Only what a statement names is opened. Without ORDER BY the order of rows is open, as
in all SQL.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etl_assets.graph.runtime import Runtime
from etl_assets.project import ServingNode
from etl_assets.query_statement import QueryRefusedError, Statement, check_statement
from etl_resources.dead_letters.index import files
from etl_resources.dead_letters.reading import letters
from etl_resources.engines.embedded import attach_postgres, connect
from etl_resources.engines.transform import engine_error
from etl_resources.errors import PermanentError, TransientError
from etl_resources.identifiers import literal, quote, quote_qualified
from etl_resources.ledger.ledger import Ledger
from etl_resources.manifest_targets import ElasticsearchTarget
from etl_resources.sinks.elasticsearch_pages import pages
from etl_resources.sinks.elasticsearch_reread import copy_documents
from etl_resources.suggest import hint
from etl_resources.tables.versions import find_version

if TYPE_CHECKING:
    import duckdb

BATCH_ROWS = 1_000
"""Rows fetched at once; what is shown is never held as a whole."""
POSTGRES = "postgres"
LEDGER_VIEWS = {
    "ledger.publishes": "etl.publishes",
    "ledger.current_versions": "etl.current_versions",
    "ledger.dead_letter_reasons": "etl.current_dead_letter_reasons",
    "ledger.intents": "etl.intents",
}
"""Name in SQL → table of the ledger. Of the dead letters only those of current attempts."""
DEAD_LETTERS = "ledger.dead_letters"
"""The letters themselves, which are in tables of their own: what was rejected of what is published."""


@dataclass
class QueryResult:
    """Columns, and rows as they arrive."""

    columns: Sequence[str]
    types: Sequence[str]
    batches: Iterator[list[tuple[Any, ...]]] = field(repr=False)


@contextmanager
def run_query(runtime: Runtime, sql: str, as_of: str | None = None) -> Iterator[QueryResult]:
    """Run one reading statement and stream its rows; leaving the context stops it.

    as_of: a release of every table that it names (of a closing, say), read as it was then.

    Raises QueryRefusedError, PermanentError for an unknown or unpublished table or a wrong query, TransientError when
    a store can't be reached.
    """
    statement = check_statement(sql)
    names = queryable(runtime)
    for name in statement.tables:
        if name not in names:
            raise PermanentError(f"Unknown table {name!r}; {hint(name, names)}.")
    if statement.lists_tables:
        yield QueryResult(["name"], ["VARCHAR"], iter([[(n,) for n in names]]))
        return
    engine = _open(runtime, statement, as_of)
    try:
        yield _execute(engine, statement.sql)
    finally:
        engine.interrupt()
        engine.close()


def queryable(runtime: Runtime) -> list[str]:
    """Names that a query may use: tables in the order of the flow, served tables, the ledger."""
    return [*runtime.project.tables, *(n.name for n in runtime.project.serving), *LEDGER_VIEWS, DEAD_LETTERS]


def _open(runtime: Runtime, statement: Statement, as_of: str | None) -> "duckdb.DuckDBPyConnection":
    tables = [t for t in statement.tables if t in runtime.project.tables]
    searched = [n for n in runtime.project.serving if isinstance(n.target, ElasticsearchTarget)]
    documents = [n for n in searched if n.name in statement.tables]
    others = {*runtime.project.tables, *(n.name for n in searched), DEAD_LETTERS}
    in_postgres = [t for t in statement.tables if t not in others]
    if as_of is not None and (no_version := [t for t in statement.tables if t not in tables]):
        raise PermanentError(
            f"{', '.join(no_version)} has no releases, only tables in Iceberg have. Leave --as-of out."
        )
    extensions = (("avro", "iceberg") if tables else ()) + (("postgres_scanner",) if in_postgres else ())
    with ThreadPoolExecutor(1) as pool:  # each takes a second: the engine loads while the catalog answers
        opening = pool.submit(connect, runtime.settings, extensions=extensions)
        scans = {name: _scan(runtime, name, as_of) for name in tables}
        engine = opening.result()
    if in_postgres:
        _migrate_ledger(runtime, in_postgres)
        attach_postgres(engine, runtime.settings.require_postgres(), POSTGRES)
        _prove_served(engine, [n for n in in_postgres if n not in LEDGER_VIEWS])
    for node in documents:
        _copy_documents(engine, runtime, node)
    if DEAD_LETTERS in statement.tables:
        with Ledger.open(runtime.settings) as ledger:
            _create_view(engine, DEAD_LETTERS, letters(files(ledger.connection)))
    for name, scan in scans.items():
        _create_view(engine, name, scan)
    for name in in_postgres:
        if name in LEDGER_VIEWS:
            _create_view(engine, name, f"{POSTGRES}.{quote_qualified(LEDGER_VIEWS[name])}")
    _lock(engine, runtime.bucket)
    return engine


def _scan(runtime: Runtime, name: str, as_of: str | None) -> str:
    from pyiceberg.exceptions import NoSuchTableError

    try:
        table = runtime.store.catalog.load_table(runtime.addresses[name].identifier)
    except NoSuchTableError as e:
        raise PermanentError(_not_published(name)) from e
    version = "" if as_of is None else f", snapshot_from_id = {find_version(table, name, as_of).snapshot_id}"
    return f"iceberg_scan({literal(table.metadata_location)}{version})"


def _prove_served(engine: "duckdb.DuckDBPyConnection", names: Sequence[str]) -> None:
    for name in names:
        found = engine.execute(
            "select 1 from duckdb_tables() where database_name || '.' || schema_name || '.' || table_name = ?", [name]
        ).fetchone()
        if found is None:
            raise PermanentError(_not_published(name))


def _not_published(name: str) -> str:
    return f"{name} is not published yet. Materialize it, or run `data-pipeline demo`."


def _migrate_ledger(runtime: Runtime, names: Sequence[str]) -> None:
    if any(name in LEDGER_VIEWS for name in names):
        with Ledger.open(runtime.settings):
            pass


def _copy_documents(engine: "duckdb.DuckDBPyConnection", runtime: Runtime, node: ServingNode) -> None:
    runtime.settings.require_elasticsearch()
    sink = runtime.search_sink(node)
    _create_schema(engine, node.name)
    try:
        if not sink.exists() or not sink.published_epochs():
            raise PermanentError(_not_published(node.name))
        found = pages(sink.client, sink.target, sink.contract)
        copy_documents(engine, sink.contract, found, quote_qualified(node.name))
    except TransientError as e:
        raise type(e)(f"{node.name} can't be read: {e}") from e


def _create_schema(engine: "duckdb.DuckDBPyConnection", name: str) -> None:
    schema, _, _table = name.partition(".")
    engine.execute(f"create schema if not exists {quote(schema)}")


def _create_view(engine: "duckdb.DuckDBPyConnection", name: str, expression: str) -> None:
    _create_schema(engine, name)
    engine.execute(f"create view {quote_qualified(name)} as from {expression}")


def _lock(engine: "duckdb.DuckDBPyConnection", bucket: str) -> None:
    """From here on the engine reads the bucket and what is attached, and nothing else, whatever the statement says."""
    engine.execute(f"set allowed_directories = [{literal(f's3://{bucket}/')}]")
    engine.execute("set enable_external_access = false")
    engine.execute("set lock_configuration = true")


def _execute(engine: "duckdb.DuckDBPyConnection", sql: str) -> QueryResult:
    import duckdb

    try:
        found = engine.extract_statements(sql)
        kinds = {s.type for s in found}
        if len(found) != 1 or not kinds <= {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}:
            raise QueryRefusedError("The engine reads this as something else than one query. Write it more simply.")
        cursor = engine.execute(found[0])
    except duckdb.Error as e:
        raise _query_error(e) from e
    described = cursor.description or []
    return QueryResult([d[0] for d in described], [str(d[1]) for d in described], _fetch(cursor))


def _fetch(cursor: "duckdb.DuckDBPyConnection") -> Iterator[list[tuple[Any, ...]]]:
    import duckdb

    try:
        while rows := cursor.fetchmany(BATCH_ROWS):
            yield rows
    except duckdb.Error as e:
        raise _query_error(e) from e


def _query_error(error: Exception) -> Exception:
    """The engine's message with its position: a binder error without the marked line is of little use."""
    import duckdb

    if isinstance(error, duckdb.BinderException | duckdb.CatalogException | duckdb.ParserException):
        return PermanentError(f"The query can't run: {str(error).strip()}")
    return engine_error("The query failed", error)
