"""Partitions that wait for a person: written, judged, not published, until somebody accepts exactly that content."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from etl_resources.errors import PermanentError

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class Acceptance:
    """Who accepted a content that a threshold refused, and why."""

    by: str
    reason: str
    at: datetime

    def as_json(self) -> dict[str, str]:
        """For evidence and events."""
        return {"accepted_by": self.by, "accepted_because": self.reason, "accepted_at": self.at.isoformat()}


@dataclass(frozen=True)
class Held:
    """A partition that isn't published because a threshold of its table doesn't hold."""

    asset: str
    partition: str
    token: str
    version: str
    epoch: int
    attempt: str
    run_id: str
    rows: int
    path: str
    judged: str = ""
    """Digest of the checks that failed, with what they found: another difference is another question."""
    findings: Mapping[str, Any] = field(default_factory=dict)
    """checks: name, metadata, differences; rejected: asset, reason, rows."""
    held_at: datetime | None = None
    acceptance: Acceptance | None = None


_COLUMNS = (
    "asset, partition, token, version, epoch, attempt, run_id, rows, path, judged, findings, held_at, accepted_by, "
    "reason, accepted_at"
)


def hold(connection: "psycopg.Connection[Any]", held: Held) -> None:
    """Let a partition wait. What waited before for other inputs or another result no longer does."""
    from psycopg.types.json import Jsonb

    with connection.transaction():
        connection.execute(
            "delete from etl.held where asset = %s and partition = %s and epoch < %s and accepted_at is null",
            (held.asset, held.partition, held.epoch),
        )
        connection.execute(
            "insert into etl.held (asset, partition, token, version, judged, epoch, attempt, run_id, rows, path, "
            "findings) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "on conflict (asset, partition, token, version, judged) do update "
            "set epoch = excluded.epoch, attempt = excluded.attempt, run_id = excluded.run_id, path = excluded.path, "
            "findings = excluded.findings, held_at = now() where etl.held.epoch < excluded.epoch",
            (*_place(held), held.epoch, held.attempt, held.run_id, held.rows, held.path, Jsonb(dict(held.findings))),
        )  # fmt: skip


def release(connection: "psycopg.Connection[Any]", asset: str, partitions: Collection[str]) -> None:
    """These partitions are as published again: nothing of them waits."""
    connection.execute(
        "delete from etl.held where asset = %s and partition = any(%s) and accepted_at is null",
        (asset, list(partitions)),
    )


def forget(connection: "psycopg.Connection[Any]", asset: str, partition: str) -> None:
    """What a closed period made wait is to be judged anew, also what was accepted and isn't published."""
    connection.execute("delete from etl.held where asset = %s and partition = %s", (asset, partition))


def acceptance_of(connection: "psycopg.Connection[Any]", held: Held) -> Acceptance | None:
    """Whether exactly this content, made from these inputs by this logic and judged so, was accepted."""
    row = connection.execute(
        "select accepted_by, reason, accepted_at from etl.held where asset = %s and partition = %s and token = %s "
        "and version = %s and judged = %s and accepted_at is not null",
        _place(held),
    ).fetchone()
    return Acceptance(*row) if row else None


def waiting(connection: "psycopg.Connection[Any]", asset: str | None = None) -> list[Held]:
    """What waits, of one table or of all."""
    rows = connection.execute(
        f"select {_COLUMNS} from etl.waiting where %(asset)s::text is null or asset = %(asset)s order by 1, 2",
        {"asset": asset},
    ).fetchall()
    return [_held(row) for row in rows]


def accept(connection: "psycopg.Connection[Any]", held: Held, by: str, reason: str) -> Acceptance:
    """Accept a waiting content; the same person again goes on with what was begun.

    Raises PermanentError when somebody else was faster, or when it doesn't wait any more.
    """
    connection.execute(
        "update etl.held set accepted_by = %s, reason = %s, accepted_at = now() where asset = %s and partition = %s "
        "and token = %s and version = %s and judged = %s and accepted_at is null",
        (by, reason, *_place(held)),
    )
    found = acceptance_of(connection, held)
    what = f"{held.asset}, partition {held.partition}"
    if found is None:
        raise PermanentError(f"{what} was made again meanwhile: look at it again, `data-pipeline acceptance list`.")
    if found.by != by:
        raise PermanentError(
            f"{what} was accepted by {found.by} at {found.at:%Y-%m-%d %H:%M} UTC already ({found.reason}). Materialize "
            "it to publish it."
        )
    return found


def kept_paths(connection: "psycopg.Connection[Any]", asset: str) -> set[str]:
    """Files that nobody may clean away: they wait, or adjustments of a closed partition are made from them, and were
    until a day ago."""
    rows = connection.execute(
        "select path from etl.waiting where asset = %(asset)s union "
        "select p.account ->> 'restated_path' from etl.publishes p "
        "where p.asset = %(asset)s and p.account ? 'restated_path' and not exists (select from etl.publishes n "
        "where n.asset = p.asset and n.partition = p.partition and n.epoch > p.epoch "
        "and n.published_at < now() - interval '1 day')",
        {"asset": asset},
    ).fetchall()
    return {path for (path,) in rows}


def _place(held: Held) -> tuple[str, ...]:
    return held.asset, held.partition, held.token, held.version, held.judged


def _held(row: Any) -> Held:
    *values, by, reason, at = row
    return replace(Held(*values), acceptance=Acceptance(by, reason, at) if at else None)
