"""Rejected rows, kept with reason, key and payload. Visible only while the attempt that rejected them is current."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etl_resources.errors import PermanentError
from etl_resources.identifiers import literal, quote
from etl_resources.ledger.connection import typed_errors
from etl_resources.ledger.records import Publish
from etl_resources.quality.rules import REASON_TEXTS

if TYPE_CHECKING:
    import duckdb
    import psycopg

BATCH_ROWS = 2_000
ROWS = "rows"
"""Instead of a column: the number of rejected rows."""


def keep_rejected(
    connection: "psycopg.Connection[Any]",
    engine: "duckdb.DuckDBPyConnection",
    judged: str,
    key: Sequence[str],
    *,
    asset: str,
    partition: str,
    epoch: int,
    attempt: str,
) -> dict[str, int]:
    """Copy the rejected rows of table `judged` to the ledger, batch by batch. Reason → rows (a row may have several).

    Idempotent for one attempt: what an earlier try of the same step wrote is replaced.
    """
    cursor = engine.execute(_rejected(judged, key))
    with typed_errors(f"Keeping rejected rows of {asset}, partition {partition}"), connection.transaction():
        _copy(connection, cursor, asset=asset, partition=partition, epoch=epoch, attempt=attempt)
    counts = engine.execute(
        f"select reason, count(*) from (select unnest({REASON_TEXTS}) as reason from {judged}) group by 1 order by 1"
    ).fetchall()
    return dict(counts)


def keep_refused(
    connection: "psycopg.Connection[Any]",
    engine: "duckdb.DuckDBPyConnection",
    refused: str,
    *,
    asset: str,
    partition: str,
    epoch: int,
    attempt: str,
) -> int:
    """Copy rows that a store refused, a query of (reason, key, payload), to the ledger; as `keep_rejected`."""
    with typed_errors(f"Keeping refused rows of {asset}, partition {partition}"), connection.transaction():
        rows = engine.execute(refused)
        return _copy(connection, rows, asset=asset, partition=partition, epoch=epoch, attempt=attempt)


def store_rejected(engine: "duckdb.DuckDBPyConnection", judged: str, key: Sequence[str], path: str) -> None:
    """The rejected rows of table `judged` as a Parquet file: evidence that outlives the ledger."""
    engine.execute(f"copy ({_rejected(judged, key)}) to {literal(path)} (format parquet, compression zstd)")


def restore_rejected(
    connection: "psycopg.Connection[Any]",
    engine: "duckdb.DuckDBPyConnection",
    path: str,
    *,
    asset: str,
    partition: str,
    epoch: int,
    attempt: str,
) -> int:
    """Copy rejected rows from their file back to a ledger that lost them. How many."""
    with typed_errors(f"Restoring rejected rows of {asset}, partition {partition}"), connection.transaction():
        cursor = engine.execute(f"select reason, key, payload from read_parquet({literal(path)})")
        return _copy(connection, cursor, asset=asset, partition=partition, epoch=epoch, attempt=attempt)


def _rejected(judged: str, key: Sequence[str]) -> str:
    keys = ", ".join(f"{quote(k)} := {quote(k)}" for k in key)
    return (
        f"select array_to_string({REASON_TEXTS}, '; ') as reason, to_json(struct_pack({keys}))::varchar as key, "
        f"to_json(_payload)::varchar as payload from {judged} where len(_reasons) > 0"
    )


def _copy(
    connection: "psycopg.Connection[Any]",
    rejected: "duckdb.DuckDBPyConnection",
    *,
    asset: str,
    partition: str,
    epoch: int,
    attempt: str,
) -> int:
    """Replaces what the attempt wrote before; (reason, key, payload) batch by batch."""
    connection.execute(
        "delete from etl.dead_letters where asset = %s and partition = %s and attempt = %s",
        (asset, partition, attempt),
    )
    copied = 0
    with (
        connection.cursor() as writer,
        writer.copy(
            "copy etl.dead_letters (asset, partition, epoch, attempt, reason, key, payload) from stdin"
        ) as copy,
    ):
        while rows := rejected.fetchmany(BATCH_ROWS):
            for row in rows:
                copy.write_row((asset, partition, epoch, attempt, *row))
            copied += len(rows)
    return copied


def rejected_sums(
    connection: "psycopg.Connection[Any]", publish: Publish, by: Sequence[str], columns: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Rejected rows of one publish summed by group: the columns of `by`, then each measure of `columns`.

    columns: measure → column, or ROWS. A sum of which a row has no number is null. Raises PermanentError when the
    ledger doesn't hold as many rejected rows as the publish had.
    """
    sums = {
        measure: ("count(*)", ())
        if column == ROWS
        else ("case when count(payload ->> %s) = count(*) then sum((payload ->> %s)::numeric) end", (column, column))
        for measure, column in columns.items()
    }
    groups = ", ".join("payload ->> %s" for _ in by)
    rows = connection.execute(
        f"select count(*), {', '.join([groups, *(sql for sql, _ in sums.values())])} from etl.dead_letters "
        f"where asset = %s and partition = %s and epoch = %s and attempt = %s "
        f"group by {', '.join(str(2 + i) for i in range(len(by)))}".encode(),
        (*by, *(p for _, used in sums.values() for p in used),
         publish.asset, publish.partition, publish.epoch, publish.attempt),
    ).fetchall()  # fmt: skip
    found, expected = sum(row[0] for row in rows), publish.counts.get("rejected", 0)
    if found != expected:
        raise PermanentError(
            f"{publish.asset}, partition {publish.partition}: the ledger holds {found} of the {expected} rejected rows "
            "of what is published. Run `data-pipeline recover`, or materialize it again."
        )
    return [dict(zip((*by, *sums), row[1:], strict=True)) for row in rows]


def rejected_by_reason(connection: "psycopg.Connection[Any]") -> Mapping[tuple[str, str], int]:
    """(asset, reason) → visible dead letters."""
    rows = connection.execute(
        "select asset, reason, count(*) from etl.current_dead_letters group by 1, 2 order by 1, 3 desc"
    ).fetchall()
    return {(asset, reason): count for asset, reason, count in rows}


def carry_over(connection: "psycopg.Connection[Any]", publish: Publish, *, epoch: int, attempt: str) -> None:
    """Give a rolled-back partition the rejected rows of the publish whose content it takes."""
    connection.execute(
        "insert into etl.dead_letters (asset, partition, epoch, attempt, reason, key, payload) "
        "select asset, partition, %s, %s, reason, key, payload from etl.dead_letters "
        "where asset = %s and partition = %s and epoch = %s and attempt = %s",
        (epoch, attempt, publish.asset, publish.partition, publish.epoch, publish.attempt),
    )
