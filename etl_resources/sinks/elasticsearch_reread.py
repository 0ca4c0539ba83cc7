"""What an index holds now: every document is read again, and hashed as rows of any store. Kept hashes don't count."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from etl_resources.contract import Contract
from etl_resources.identifiers import quote
from etl_resources.quality.content_hash import content_hash, version_of
from etl_resources.quality.stored_content import StoredContent
from etl_resources.sinks.elasticsearch_documents import typed_columns
from etl_resources.sinks.elasticsearch_pages import Page, pages
from etl_resources.tables.schema import duckdb_type

if TYPE_CHECKING:
    import duckdb
    from elasticsearch import Elasticsearch

_MODULUS = 2**64


def reread(
    client: "Elasticsearch",
    engine: "duckdb.DuckDBPyConnection",
    contract: Contract,
    index: str,
    query: Mapping[str, Any] | None = None,
) -> StoredContent:
    """Content of an index, or of the documents that a query finds. Memory is bounded by a page."""
    rows, total = 0, 0
    for page in pages(client, index, contract, query):
        total = (total + int(page_hash(engine, contract, page), 16)) % _MODULUS
        rows += len(page.ids)
    return StoredContent(rows, version_of(rows, f"{total:016x}"))


def page_hash(engine: "duckdb.DuckDBPyConnection", contract: Contract, page: Page) -> str:
    """Content hash of a page's documents as 16 hex digits. Raises duckdb.Error for a value that isn't of its type."""
    with _rows(engine, contract, page) as (cursor, rows):
        found = cursor.execute(f"select {content_hash(contract, 'duckdb')} from {rows}").fetchone()
    assert found is not None  # noqa: S101  (an aggregate always returns a row)
    return str(found[0])


def copy_documents(engine: "duckdb.DuckDBPyConnection", contract: Contract, found: Iterable[Page], table: str) -> None:
    """The documents as rows of the contract in a table of the engine."""
    columns = ", ".join(f"{quote(c.name)} {duckdb_type(c.type)}" for c in contract.columns)
    engine.execute(f"create table {table} ({columns})")
    for page in found:
        with _rows(engine, contract, page) as (cursor, rows):
            cursor.execute(f"insert into {table} from {rows}")


@contextmanager
def _rows(
    engine: "duckdb.DuckDBPyConnection", contract: Contract, page: Page
) -> Iterator[tuple["duckdb.DuckDBPyConnection", str]]:
    """A cursor, and the page as a table expression in it."""
    with engine.cursor() as cursor:
        cursor.register("etl_page", page.rows)
        yield cursor, f"(select {typed_columns(contract)} from etl_page)"
