"""Pins: partitions that a rollback set back, and that no run recomputes until somebody unpins them.

A pin is written with its rollback's intent, before anything is committed, and holds by that intent's state
(view etl.current_pins): there is no moment in which a rolled-back partition is published and not pinned.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class Pin:
    """A pinned partition."""

    asset: str
    partition: str
    number: int
    """Version of the table whose content it holds."""
    reason: str
    epoch: int
    attempt: str
    pinned_at: datetime

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        return (
            f"pinned to version {self.number} of {self.asset} by rollback{why}; `data-pipeline unpin {self.asset} "
            f"--partition {self.partition}` lets it follow its inputs again"
        )


def current_pins(
    connection: "psycopg.Connection[Any]", assets: Collection[str] | None = None
) -> dict[tuple[str, str], Pin]:
    """(asset, partition) → pin, of these assets or of all; also those of a rollback that is under way."""
    rows = connection.execute(
        "select asset, partition, number, reason, epoch, attempt, pinned_at from etl.current_pins "
        "where %(assets)s::text[] is null or asset = any(%(assets)s) order by asset, partition",
        {"assets": None if assets is None else list(assets)},
    ).fetchall()
    return {(row[0], row[1]): Pin(*row) for row in rows}


def pins_of(connection: "psycopg.Connection[Any]", asset: str) -> Mapping[str, Pin]:
    """Partition → pin of one asset."""
    return {partition: pin for (_, partition), pin in current_pins(connection, [asset]).items()}


def write_pins(
    connection: "psycopg.Connection[Any]",
    attempt: str,
    asset: str,
    partitions: Mapping[str, int],
    number: int,
    why: str,
) -> None:
    """Pin partitions (→ epoch) to a version as part of an attempt's intent; call it in the intent's transaction."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into etl.pins (attempt, asset, partition, epoch, number, reason) values (%s, %s, %s, %s, %s, %s) "
            "on conflict do nothing",
            [(attempt, asset, partition, epoch, number, why) for partition, epoch in partitions.items()],
        )


def unpin(connection: "psycopg.Connection[Any]", asset: str, partitions: Iterable[str]) -> list[str]:
    """Let partitions follow their inputs again; those that were pinned. Pins of a rollback under way stay."""
    rows = connection.execute(
        "with held as (select partition from etl.current_pins where asset = %(asset)s and state = 'published' "
        "and partition = any(%(some)s)) "
        "update etl.pins p set unpinned_at = now() from etl.intents i "
        "where i.attempt = p.attempt and i.state <> 'open' and p.asset = %(asset)s and p.unpinned_at is null "
        "and p.partition in (select partition from held) returning p.partition",
        {"asset": asset, "some": list(partitions)},
    ).fetchall()
    return sorted({p for (p,) in rows})
