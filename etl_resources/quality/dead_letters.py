"""Rejected rows, kept with reason, key and payload. Visible only while the attempt that rejected them is current."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etl_resources.identifiers import quote
from etl_resources.ledger.connection import typed_errors
from etl_resources.ledger.records import Publish

if TYPE_CHECKING:
    import duckdb
    import psycopg

BATCH_ROWS = 2_000


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
    keys = ", ".join(f"{quote(k)} := {quote(k)}" for k in key)
    cursor = engine.execute(
        f"select array_to_string(_reasons, '; '), to_json(struct_pack({keys}))::varchar, "
        f"to_json(_payload)::varchar from {judged} where len(_reasons) > 0"
    )
    with typed_errors(f"Keeping rejected rows of {asset}, partition {partition}"), connection.transaction():
        connection.execute(
            "delete from etl.dead_letters where asset = %s and partition = %s and attempt = %s",
            (asset, partition, attempt),
        )
        with (
            connection.cursor() as writer,
            writer.copy(
                "copy etl.dead_letters (asset, partition, epoch, attempt, reason, key, payload) from stdin"
            ) as copy,
        ):
            while rows := cursor.fetchmany(BATCH_ROWS):
                for reason, key_json, payload in rows:
                    copy.write_row((asset, partition, epoch, attempt, reason, key_json, payload))
    counts = engine.execute(
        f"select reason, count(*) from (select unnest(_reasons) as reason from {judged}) group by 1 order by 1"
    ).fetchall()
    return dict(counts)


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
