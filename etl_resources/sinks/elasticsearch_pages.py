"""Documents of one moment, page by page: several parts of an index are read at once and parsed outside of Python.

A search with `filter_path` or a filtered `_source` would render its numbers anew, as doubles: whole answers are read as
the server keeps them. Arrow gives each value the type of the contract, decimals from their text.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from etl_resources.contract import Contract
from etl_resources.retries import retry_transient, with_retries_of_here
from etl_resources.tables.schema import arrow_type

if TYPE_CHECKING:
    import pyarrow as pa
    from elasticsearch import Elasticsearch

PAGE_DOCUMENTS = 4_000
SLICES = 2
"""Parts of an index that are read at once; a page of each is in memory, and one that is used."""
_KEEP_ALIVE = "2m"


@dataclass(frozen=True)
class Page:
    """Some documents."""

    ids: "pa.Array"
    rows: "pa.Table"
    """A column for each of the contract's, by name: typed by it; or all of text, where a value isn't of its type."""


@dataclass(frozen=True)
class _Answer:
    page: Page
    point_in_time: str
    last: list[Any]
    """Where the next page begins."""


def pages(
    client: "Elasticsearch", index: str, contract: Contract | None, query: Mapping[str, Any] | None = None
) -> Iterator[Page]:
    """What a query finds, in no order. contract: None where only the names of the documents are wanted.

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
        **({} if contract else {"source": False}),
    }
    fetch = with_retries_of_here(partial(_fetch, client, index, contract))
    try:
        with ThreadPoolExecutor(SLICES) as readers:
            slices = [{**request, "slice": {"id": i, "max": SLICES}} for i in range(SLICES)]
            coming: dict[Future[_Answer], dict[str, Any]] = {readers.submit(fetch, s): s for s in slices}
            while coming:
                for done in wait(coming, return_when=FIRST_COMPLETED).done:
                    answer, asked = done.result(), coming.pop(done)
                    if len(answer.page.ids) == PAGE_DOCUMENTS:
                        pit = {**request["pit"], "id": answer.point_in_time}
                        further = {**asked, "pit": pit, "search_after": answer.last}
                        coming[readers.submit(fetch, further)] = further
                    if len(answer.page.ids):
                        yield answer.page
    finally:
        with suppress(Exception):  # it ends by itself; what went wrong before matters more
            client.close_point_in_time(id=request["pit"]["id"])


def _fetch(client: "Elasticsearch", index: str, contract: Contract | None, request: Mapping[str, Any]) -> _Answer:
    answer: Any = retry_transient(lambda: client.search(**request).body, index)
    return parse(answer, contract)


def parse(answer: bytes, contract: Contract | None) -> _Answer:
    """A whole answer. A page that has a value of another type than the contract's is read as text, by Python."""
    import pyarrow as pa

    try:
        return _parsed(answer, contract)
    except pa.ArrowInvalid:
        return _parsed_as_text(answer, contract)


def _parsed(answer: bytes, contract: Contract | None) -> _Answer:
    import pyarrow as pa
    from pyarrow import json as arrow_json

    columns = [(c.name, _arrow_type(c.type)) for c in contract.columns] if contract else []
    source = [("_source", pa.struct(columns))] if columns else []
    hit = pa.struct([("_id", pa.string()), ("sort", pa.list_(pa.int64())), *source])
    schema = pa.schema([("pit_id", pa.string()), ("hits", pa.struct([("hits", pa.list_(hit))]))])
    whole = arrow_json.read_json(
        pa.BufferReader(answer),
        read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(answer) + 1),
        parse_options=arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )
    hits = whole["hits"].combine_chunks().field("hits").flatten()
    values = hits.field("_source").flatten() if columns else []
    page = Page(hits.field("_id"), pa.table(dict(zip([n for n, _ in columns], values, strict=True))))
    return _Answer(page, whole["pit_id"][0].as_py(), hits.field("sort")[-1].as_py() if len(hits) else [])


def _parsed_as_text(answer: bytes, contract: Contract | None) -> _Answer:
    import pyarrow as pa

    found = json.loads(answer, parse_float=str)
    hits = found["hits"]["hits"]
    names = contract.names if contract else ()
    sources = [hit["_source"] for hit in hits] if names else []
    rows = pa.table({c: pa.array([_as_text(s.get(c)) for s in sources], pa.string()) for c in names})
    ids = pa.array([hit["_id"] for hit in hits], pa.string())
    return _Answer(Page(ids, rows), found["pit_id"], hits[-1]["sort"] if hits else [])


def _arrow_type(column_type: str) -> "pa.DataType":
    """Dates and times are text, which DuckDB casts."""
    import pyarrow as pa

    return pa.string() if column_type in ("date", "timestamptz") else arrow_type(column_type)


def _as_text(value: Any) -> str | None:
    """A value of a document as the text that DuckDB casts; decimals come as text already."""
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()  # half a character is no text of ours
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
