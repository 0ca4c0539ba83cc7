"""Which documents of a partition differ from its rows: the others needn't be written again.

What is left alone is known by its content of now: every document is read, unless nothing happened to the index since
its content was proved to be that of rows which can still be read. Ids and hashes are in tables of the engine, which
spills to disk; a page of documents is in memory.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_resources.contract import Contract
from etl_resources.quality.content_hash import hash_of, row_number, sum_of_numbers, version_of, version_of_sum
from etl_resources.quality.stored_content import StoredContent
from etl_resources.sinks.elasticsearch_documents import document, document_id, typed_columns
from etl_resources.sinks.elasticsearch_pages import pages

if TYPE_CHECKING:
    import duckdb
    from elasticsearch import Elasticsearch

VANISHED_MAX = 20_000
"""Documents whose rows are gone, remembered until they are deleted; of more, everything is written anew."""
_INDEXED, _ROWS, _CHANGED = "etl_indexed", "etl_rows", "etl_changed"


@dataclass(frozen=True)
class Proved:
    """What the documents of an untouched index are known to be."""

    rows: str
    """Table expression of the rows that they were made of …"""
    version: str
    """… and the version that was proved of the documents."""


@dataclass(frozen=True)
class Changes:
    """A partition's documents against its rows."""

    changed: str
    """The rows whose document differs or isn't there, as a table expression of the engine."""
    unchanged: int
    """Documents that are as their rows …"""
    unchanged_hash: str
    """… and the hash of them as they were read, 16 hex digits."""
    vanished: Sequence[str]
    """Ids of documents that no row has."""

    def with_written(self, written: StoredContent) -> StoredContent:
        """The partition's content, when its other documents were written and reread."""
        rows = self.unchanged + written.rows
        total = int(self.unchanged_hash, 16) + int(hash_of(written.version), 16)
        return StoredContent(rows, version_of_sum(rows, total))


def form_of(contract: Contract, key: Sequence[str]) -> str:
    """Digest of how a row is written as a document: documents of another form are written anew, equal or not."""
    return hashlib.sha256(f"{document_id(key)} {document(contract)}".encode()).hexdigest()[:16]


def find_changes(
    client: "Elasticsearch",
    engine: "duckdb.DuckDBPyConnection",
    contract: Contract,
    key: Sequence[str],
    scan: str,
    index: str,
    query: Mapping[str, Any],
    proved: Proved | None = None,
) -> Changes | None:
    """Compare the rows of a table expression with the documents that a query finds. Call it when these can be searched.

    proved: stands for the documents, if its rows have its version; else they are read. None where they can't be
    compared: a value of a document isn't of its column's type, or too many rows are gone.
    """
    import duckdb

    try:
        if proved is None or not _read_proved(engine, contract, key, proved):
            _read_documents(client, engine, contract, index, query)
    except duckdb.ConversionException:
        return None
    identity, number = document_id(key), row_number(contract)
    engine.execute(
        f"create or replace table {_ROWS} as select {identity} as etl_row_id, {number} as etl_row_number from {scan}"
    )
    gone = f"from {_INDEXED} where not exists (from {_ROWS} where etl_row_id = etl_id)"
    vanished = engine.execute(f"select etl_id {gone} limit {VANISHED_MAX + 1}").fetchall()
    if len(vanished) > VANISHED_MAX:
        return None
    same = engine.execute(
        f"select count(*), {sum_of_numbers('etl_number')} from {_INDEXED} "
        f"where exists (from {_ROWS} where etl_row_id = etl_id and etl_row_number = etl_number)"
    ).fetchone()
    assert same is not None  # noqa: S101  (an aggregate always returns a row)
    engine.execute(
        f"create or replace table {_CHANGED} as select etl_row_id from {_ROWS} "
        f"where not exists (from {_INDEXED} where etl_id = etl_row_id and etl_number = etl_row_number)"
    )
    engine.execute(f"drop table {_ROWS}")
    changed = f"(from {scan} where {identity} in (from {_CHANGED}))"
    return Changes(changed, int(same[0]), str(same[1]), [i for (i,) in vanished])


def indexed_among(engine: "duckdb.DuckDBPyConnection", ids: str) -> list[str]:
    """Of ids that a query of the engine gives, those of documents that were compared."""
    rows = engine.execute(f"select etl_id from {_INDEXED} where etl_id in ({ids})").fetchall()
    return [i for (i,) in rows]


def _read_proved(engine: "duckdb.DuckDBPyConnection", contract: Contract, key: Sequence[str], proved: Proved) -> bool:
    """As _read_documents, of the rows. False when they aren't what was proved, or their files were deleted."""
    import duckdb

    rows = f"select {document_id(key)} as etl_id, {row_number(contract)} as etl_number from {proved.rows}"
    try:
        engine.execute(f"create or replace table {_INDEXED} as {rows}")
    except duckdb.IOException:
        return False
    found = engine.execute(f"select count(*), {sum_of_numbers('etl_number')} from {_INDEXED}").fetchone()
    assert found is not None  # noqa: S101  (an aggregate always returns a row)
    return version_of(int(found[0]), str(found[1])) == proved.version


def _read_documents(
    client: "Elasticsearch",
    engine: "duckdb.DuckDBPyConnection",
    contract: Contract,
    index: str,
    query: Mapping[str, Any],
) -> None:
    """Into a table that every cursor of the engine sees; temporary ones belong to one."""
    engine.execute(f"create or replace table {_INDEXED} (etl_id varchar, etl_number ubigint)")
    for page in pages(client, index, contract, query):
        with engine.cursor() as cursor:
            cursor.register("etl_page", page.rows.append_column("etl_id", page.ids))
            cursor.execute(
                f"insert into {_INDEXED} select etl_id, {row_number(contract)} "
                f"from (select etl_id, {typed_columns(contract)} from etl_page)"
            )
