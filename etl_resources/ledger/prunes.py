"""Partitions that a step found as they are published, and left so: the proof of it, and what it saved."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from etl_resources.ledger.records import Publish

if TYPE_CHECKING:
    import psycopg


def record_pruned(
    connection: "psycopg.Connection[Any]",
    asset: str,
    run_id: str,
    found: Collection[Publish],
    *,
    files: int,
    size_bytes: int,
) -> None:
    """One row, whatever their number; none without any. files, size_bytes: what was not read for it."""
    if not found:
        return
    connection.execute(
        "insert into etl.prunes (asset, run_id, partitions, epochs, pruned, files, size_bytes) "
        "values (%s, %s, %s, %s, %s, %s, %s)",
        (asset, run_id, [p.partition for p in found], [p.epoch for p in found], len(found), files, size_bytes),
    )
