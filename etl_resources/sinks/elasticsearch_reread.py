"""What an index holds now: every document read again, hashed as any other store's rows. Stored hashes aren't looked at.

A search with `filter_path` or a filtered `_source` would render its numbers anew, as doubles: whole answers are read,
and their numbers stay text until DuckDB casts them to the contract's types.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from etl_resources.contract import Contract
from etl_resources.quality.content_hash import content_hash, version_of
from etl_resources.quality.stored_content import StoredContent
from etl_resources.retries import retry_transient, with_retries_of_here
from etl_resources.sinks.elasticsearch_documents import as_text, typed_columns

if TYPE_CHECKING:
    import duckdb
    from elasticsearch import Elasticsearch

PAGE_DOCUMENTS = 2_000
_KEEP_ALIVE = "2m"
_MODULUS = 2**64
Hit = Mapping[str, Any]


def hits(client: "Elasticsearch", index: str, query: Mapping[str, Any] | None = None) -> Iterator[list[Hit]]:
    """Documents of one moment, page by page; the next page is fetched while one is used.

    Raises TransientError when a shard doesn't answer: never a part.
    """
    opened = retry_transient(lambda: client.open_point_in_time(index=index, keep_alive=_KEEP_ALIVE), index)
    request: dict[str, Any] = {
        "pit": {"id": opened["id"], "keep_alive": _KEEP_ALIVE},
        "size": PAGE_DOCUMENTS,
        "sort": ["_shard_doc"],
        "track_total_hits": False,
        "allow_partial_search_results": False,
        "query": query or {"match_all": {}},
    }
    fetch = with_retries_of_here(partial(_page, client, index))
    try:
        with ThreadPoolExecutor(1) as ahead:
            coming: Future[Mapping[str, Any]] | None = ahead.submit(fetch, request)
            while coming:
                page, coming = coming.result(), None
                found = page["hits"]["hits"]
                if len(found) == PAGE_DOCUMENTS:
                    request["pit"]["id"], request["search_after"] = page["pit_id"], found[-1]["sort"]
                    coming = ahead.submit(fetch, request)
                if found:
                    yield found
    finally:
        with suppress(Exception):  # it ends by itself; what went wrong before matters more
            client.close_point_in_time(id=request["pit"]["id"])


def _page(client: "Elasticsearch", index: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
    page: Mapping[str, Any] = retry_transient(lambda: client.search(**request).body, index)
    return page


def reread(
    client: "Elasticsearch",
    engine: "duckdb.DuckDBPyConnection",
    contract: Contract,
    index: str,
    query: Mapping[str, Any] | None = None,
) -> StoredContent:
    """Content of an index, or of the documents that a query finds. Memory is bounded by a page."""
    rows, total = 0, 0
    for page in hits(client, index, query):
        total = (total + int(page_hash(engine, contract, page), 16)) % _MODULUS
        rows += len(page)
    return StoredContent(rows, version_of(rows, f"{total:016x}"))


def page_hash(engine: "duckdb.DuckDBPyConnection", contract: Contract, page: Sequence[Hit]) -> str:
    """Content hash of a page's documents as 16 hex digits. Raises duckdb.Error for a value that isn't of its type."""
    with _rows(engine, contract, page) as (cursor, rows):
        found = cursor.execute(f"select {content_hash(contract, 'duckdb')} from {rows}").fetchone()
    assert found is not None  # noqa: S101  (an aggregate always returns a row)
    return str(found[0])


def copy_documents(
    engine: "duckdb.DuckDBPyConnection", contract: Contract, pages: Iterable[Sequence[Hit]], table: str
) -> None:
    """The documents as rows of the contract in a table of the engine."""
    with _rows(engine, contract, []) as (cursor, rows):
        cursor.execute(f"create table {table} as from {rows}")
    for page in pages:
        with _rows(engine, contract, page) as (cursor, rows):
            cursor.execute(f"insert into {table} from {rows}")


@contextmanager
def _rows(
    engine: "duckdb.DuckDBPyConnection", contract: Contract, page: Sequence[Hit]
) -> Iterator[tuple["duckdb.DuckDBPyConnection", str]]:
    """A cursor, and the page as a table expression in it."""
    import pyarrow as pa

    sources = [hit["_source"] for hit in page]
    texts = pa.table({c: pa.array([as_text(s.get(c)) for s in sources], pa.string()) for c in contract.names})
    with engine.cursor() as cursor:
        cursor.register("etl_page", texts)
        yield cursor, f"(select {typed_columns(contract)} from etl_page)"
