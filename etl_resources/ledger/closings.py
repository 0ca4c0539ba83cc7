"""Closings: partitions that somebody closed, whose content changes only by an approval or by adjustments.

A closing is written with its attempt's intent, before anything is committed, and holds by that intent's state (view
etl.current_closings): there is no moment in which a period is published as closed and can be overwritten.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from etl_resources.errors import PermanentError

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class Closing:
    """A closed partition: who closed which content, and under which name it stays readable."""

    asset: str
    partition: str
    epoch: int
    attempt: str
    by: str
    note: str
    version: str
    """Content when it was closed."""
    rows: int
    tag: str
    at: datetime
    snapshot_id: int | None
    """Of the closing commit; None where it is under way, or the ledger lost it."""

    def __str__(self) -> str:
        why = f" ({self.note})" if self.note else ""
        return f"closed on {self.at:%Y-%m-%d} by {self.by}{why}, release {self.tag}"

    def as_json(self) -> dict[str, Any]:
        """For scripts and notices; times in ISO 8601."""
        return {**vars(self), "at": self.at.isoformat(), "snapshot_id": self.snapshot_id and str(self.snapshot_id)}


_COLUMNS = "asset, partition, epoch, attempt, by_whom, note, version, rows, tag, at, snapshot_id"


def current_closings(
    connection: "psycopg.Connection[Any]", assets: Collection[str] | None = None
) -> dict[tuple[str, str], Closing]:
    """(asset, partition) → closing, of these assets or of all; also one that is under way."""
    rows = connection.execute(
        f"select {_COLUMNS} from etl.current_closings "
        "where %(assets)s::text[] is null or asset = any(%(assets)s) order by asset, partition",
        {"assets": None if assets is None else list(assets)},
    ).fetchall()
    return {(row[0], row[1]): Closing(*row) for row in rows}


def closings_of(connection: "psycopg.Connection[Any]", asset: str) -> Mapping[str, Closing]:
    """Partition → closing of one asset."""
    return {partition: closing for (_, partition), closing in current_closings(connection, [asset]).items()}


def refuse_closed(connection: "psycopg.Connection[Any]", asset: str, partitions: Collection[str]) -> None:
    """Raises PermanentError when one of these is closed: only a reopening lets it be set back."""
    closed = closings_of(connection, asset)
    if found := [f"{p} was {closed[p]}" for p in partitions if p in closed]:
        raise PermanentError(
            f"{asset}: {'; '.join(found)}. Reopen it first: `data-pipeline reopen {asset} "
            f"{next(p for p in partitions if p in closed)} --by … --reason …`."
        )


def write_closing(connection: "psycopg.Connection[Any]", kind: str, closing: Closing) -> None:
    """Close or reopen a partition as part of an attempt's intent; call it in the intent's transaction."""
    connection.execute(
        "insert into etl.closings (attempt, asset, partition, epoch, kind, by_whom, note, version, rows, tag) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (closing.attempt, closing.asset, closing.partition, closing.epoch, kind, closing.by, closing.note,
         closing.version, closing.rows, closing.tag or None),
    )  # fmt: skip


def names_taken(connection: "psycopg.Connection[Any]", asset: str) -> set[str]:
    """Tags that closings of an asset have, or had."""
    rows = connection.execute("select tag from etl.closings where asset = %s and tag is not null", (asset,))
    return {tag for (tag,) in rows.fetchall()}


def untagged(connection: "psycopg.Connection[Any]", asset: str) -> list[tuple[str, str, int | None, str]]:
    """(attempt, tag, number of the table's version, partition) of published closings whose tag nobody has seen."""
    return connection.execute(
        "select k.attempt, k.tag, v.number, k.partition from etl.known_closings k "
        "left join etl.versions v on v.asset = k.asset and v.attempt = k.attempt "
        "where k.asset = %s and k.kind = 'closed' and k.state = 'published' and k.tagged_at is null order by k.epoch",
        (asset,),
    ).fetchall()


def record_tagged(connection: "psycopg.Connection[Any]", attempt: str, asset: str) -> None:
    """The tag of a closing is at the table."""
    connection.execute(
        "update etl.closings set tagged_at = now() where attempt = %s and asset = %s and tagged_at is null",
        (attempt, asset),
    )
