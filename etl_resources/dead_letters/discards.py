"""Letters that a person set aside: each by its identity, so that it stays so when it is rejected again unchanged."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_resources.conventions import PARQUET
from etl_resources.identifiers import literal
from etl_resources.ledger.connection import typed_errors
from etl_resources.ledger.ledger import Ledger

if TYPE_CHECKING:
    import duckdb

FOLDER = "discards"
BATCH_ROWS = 50_000
RELATION = "etl_discarded"
"""Table of the engine with the discarded letters of some assets: asset, letter."""


@dataclass(frozen=True)
class Discard:
    """Who set letters of a table aside, and why. `path`: the file that keeps them beside the letters."""

    discard: str
    asset: str
    by: str
    reason: str
    path: str


def discard(ledger: Ledger, engine: "duckdb.DuckDBPyConnection", what: Discard, chosen: str) -> int:
    """Set the letters of a query aside; how many were not before. Nothing changes unless all of it does.

    chosen: query of one column, letter. Its letters are kept in a file, too: it outlives the ledger.
    """
    with typed_errors("Discarding letters"), ledger.connection.transaction():
        count = _insert(ledger, engine, what, chosen)
        if count:
            engine.execute(
                f"copy (select distinct letter, {literal(what.discard)} as discard, "
                f"{literal(what.by)} as discarded_by, {literal(what.reason)} as reason, now() as discarded_at "
                f"from ({chosen})) to {literal(what.path)} "
                f"({PARQUET})"
            )
    return count


def restore(ledger: Ledger, engine: "duckdb.DuckDBPyConnection", asset: str, path: str) -> int:
    """Put a discard back into a ledger that lost it; how many letters."""
    row = engine.execute(f"select discard, discarded_by, reason from read_parquet({literal(path)}) limit 1").fetchone()
    if row is None:
        return 0
    what = Discard(row[0], asset, row[1], row[2], path)
    with typed_errors("Restoring discarded letters"), ledger.connection.transaction():
        return _insert(ledger, engine, what, f"select letter from read_parquet({literal(path)})")


def load(ledger: Ledger, engine: "duckdb.DuckDBPyConnection", assets: "list[str]") -> None:
    """Make RELATION in the engine."""
    import pyarrow as pa

    engine.execute(f"create or replace temp table {RELATION} (asset varchar, letter varchar)")
    with ledger.connection.transaction(), ledger.connection.cursor("discarded") as rows:
        rows.execute("select asset, letter from etl.discarded_letters where asset = any(%s)", (assets,))
        while found := rows.fetchmany(BATCH_ROWS):
            batch = pa.table({"asset": [a for a, _ in found], "letter": [x for _, x in found]})  # noqa: F841  (read by name)
            engine.execute(f"insert into {RELATION} select asset, letter from batch")


def _insert(ledger: Ledger, engine: "duckdb.DuckDBPyConnection", what: Discard, chosen: str) -> int:
    connection = ledger.connection
    connection.execute("create temp table if not exists chosen_letters (letter text) on commit delete rows")
    with connection.cursor() as writer, writer.copy("copy pg_temp.chosen_letters from stdin") as copy:
        for rows in _batches(engine, chosen):
            for row in rows:
                copy.write_row(row)
    connection.execute(
        "insert into etl.discards (discard, asset, discarded_by, reason, letters, path) values (%s, %s, %s, %s, 0, %s)",
        (what.discard, what.asset, what.by, what.reason, what.path),
    )
    count = connection.execute(
        "insert into etl.discarded_letters (asset, letter, discard) select %s, letter, %s from pg_temp.chosen_letters "
        "on conflict do nothing",
        (what.asset, what.discard),
    ).rowcount
    if count:
        connection.execute("update etl.discards set letters = %s where discard = %s", (count, what.discard))
    else:
        connection.execute("delete from etl.discards where discard = %s", (what.discard,))
    return count


def _batches(engine: "duckdb.DuckDBPyConnection", query: str) -> "Iterator[list[tuple[Any, ...]]]":
    cursor = engine.execute(f"select distinct letter from ({query})")
    while rows := cursor.fetchmany(BATCH_ROWS):
        yield rows
