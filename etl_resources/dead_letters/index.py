"""The index of dead letters in the ledger: which files hold them, how many letters of which reason.

It has rows per attempt and reason, none per letter, so it stays small however many rows are bad.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from etl_resources.errors import PermanentError
from etl_resources.ledger.records import Publish

if TYPE_CHECKING:
    import psycopg

    from etl_resources.ledger.ledger import Ledger

REASONS_MAX = 200
"""Reasons of one partition that are told apart, the most frequent; a store's reasons may quote the row."""
OTHER_REASONS = "(other reasons)"
REASON_CHARS = 500
Which = Literal["current", "refused", "known"]
"""Of publishes that are current; of the newest attempt that was refused since; of every publish that is known."""
_VIEWS: Mapping[Which, str] = {
    "current": "etl.current_dead_letter_files",
    "refused": "etl.refused_dead_letter_files",
    "known": "(select f.* from etl.dead_letter_files f join etl.publishes using (asset, partition, epoch, attempt))",
}


@dataclass(frozen=True)
class LetterFile:
    """The letters of one attempt at one partition."""

    asset: str
    partition: str
    epoch: int
    attempt: str
    run_id: str
    path: str
    rows: int
    version: str
    """Number and content hash of the letters, in any order."""


@dataclass(frozen=True)
class ReasonCount:
    """Letters of one partition that give one reason. `sample`: JSON of one of them."""

    rule: str
    column: str
    reason: str
    rows: int
    first_seen: datetime
    last_seen: datetime
    sample: str


@dataclass(frozen=True)
class WrittenLetters:
    """A file of letters, and what it holds."""

    file: LetterFile
    reasons: Sequence[ReasonCount]

    @property
    def counts(self) -> dict[str, int]:
        """Reason → letters; a letter may have several."""
        found: dict[str, int] = {}
        for r in self.reasons:
            found[r.reason] = found.get(r.reason, 0) + r.rows
        return dict(sorted(found.items()))


def printable(text: str) -> str:
    """Text in which what a terminal acts upon, or Postgres can't keep (NUL), is written out: `\\x00`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def samples(
    connection: "psycopg.Connection[Any]", asset: str, partitions: Collection[str]
) -> dict[str, dict[str, str | None]]:
    """Reason → key, value and source of one visible letter of these partitions, printable."""
    rows = connection.execute(
        "select distinct on (reason) reason, sample from etl.current_dead_letter_reasons "
        "where asset = %s and partition = any(%s) order by reason, rows desc, partition",
        (asset, list(partitions)),
    ).fetchall()
    return {
        reason: {k: None if v is None else printable(str(v)) for k, v in json.loads(sample).items()}
        for reason, sample in rows
    }


def record(connection: "psycopg.Connection[Any]", written: Iterable[WrittenLetters]) -> None:
    """Files and counts in one transaction. What is there already stays."""
    with connection.transaction(), connection.cursor() as cursor:
        for w in written:
            place = (w.file.asset, w.file.partition, w.file.epoch, w.file.attempt)
            cursor.execute(
                "insert into etl.dead_letter_files (asset, partition, epoch, attempt, run_id, path, rows, version) "
                "values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
                (*place, w.file.run_id, w.file.path, w.file.rows, w.file.version),
            )
            if cursor.rowcount:
                cursor.executemany(
                    "insert into etl.dead_letter_reasons (asset, partition, epoch, attempt, rule, column_name, "
                    "reason, rows, first_seen, last_seen, sample) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                    [
                        (*place, r.rule, r.column, r.reason, r.rows, r.first_seen, r.last_seen, r.sample)
                        for r in w.reasons
                    ],
                )


def files(
    connection: "psycopg.Connection[Any]",
    which: Which = "current",
    assets: Collection[str] | None = None,
    partitions: Collection[str] | None = None,
) -> list[LetterFile]:
    """Files of letters, by asset, partition and epoch."""
    rows = connection.execute(
        f"select asset, partition, epoch, attempt, run_id, path, rows, version from {_VIEWS[which]} v "
        "where (%(assets)s::text[] is null or asset = any(%(assets)s)) "
        "and (%(some)s::text[] is null or partition = any(%(some)s)) order by 1, 2, 3".encode(),
        {
            "assets": None if assets is None else list(assets),
            "some": None if partitions is None else list(partitions),
        },
    ).fetchall()
    return [LetterFile(*row) for row in rows]


def letters_of(connection: "psycopg.Connection[Any]", publish: Publish) -> LetterFile | None:
    """The letters of one publish; None: it rejected no row. Raises PermanentError when the index lost some."""
    known = files(connection, "known", [publish.asset], [publish.partition])
    found = next((f for f in known if (f.epoch, f.attempt) == (publish.epoch, publish.attempt)), None)
    held, expected = found.rows if found else 0, publish.counts.get("rejected", 0)
    if held != expected:
        raise PermanentError(
            f"{publish.asset}, partition {publish.partition}: the ledger holds {held} of the {expected} rejected rows "
            "of what is published. Run `data-pipeline recover`, or materialize it again."
        )
    return found


def rejected_version(connection: "psycopg.Connection[Any]", publish: Publish) -> str | None:
    """Which rows a publish rejected, without reading them. Raises as `letters_of`."""
    found = letters_of(connection, publish)
    return found.version if found else None


def rejected_by_reason(connection: "psycopg.Connection[Any]") -> Mapping[tuple[str, str], int]:
    """(asset, reason) → visible dead letters."""
    rows = connection.execute(
        "select asset, reason, sum(rows)::bigint from etl.current_dead_letter_reasons group by 1, 2 order by 1, 3 desc"
    ).fetchall()
    return {(asset, reason): count for asset, reason, count in rows}


def forget(ledger: "Ledger", asset: str, places: Collection[tuple[str, int]]) -> None:
    """Drop (partition, epoch) pairs from the index."""
    ledger.connection.execute(
        "delete from etl.dead_letter_files f using unnest(%s::text[], %s::bigint[]) as gone(p, e) "
        "where f.asset = %s and f.partition = gone.p and f.epoch = gone.e",
        ([p for p, _ in places], [e for _, e in places], asset),
    )
