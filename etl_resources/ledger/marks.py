"""Partitions of bronze that are to be looked at, as observation marked them, and what it knows of each source.

A mark carries a number drawn from the sequence of epochs after the source was read, in the lock that orders captures:
a capture with a greater epoch took its snapshot later, so that it has seen whatever led to the mark.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from etl_resources.ledger.state import Place

if TYPE_CHECKING:
    import psycopg

CHANGED, SWEEP, POLL = "changed", "sweep", "poll"


@dataclass(frozen=True)
class Mark:
    """A partition to look at."""

    seen: int
    kind: str
    """changed: rows of it were seen to change; sweep: it is its turn to be compared; poll: only a run can tell."""
    marked_at: datetime
    first_seen: int = 0
    """As seen, of the first mark that no capture has answered."""


@dataclass(frozen=True)
class SourceLook:
    """What the last look at the source of a bronze table left."""

    source: str
    looked_at: datetime | None = None
    watermark: datetime | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    """Partition → digest of its rows past the watermark."""
    held_by: str | None = None
    swept_at: datetime | None = None
    problem: str | None = None
    problem_since: datetime | None = None
    told_at: datetime | None = None
    failed_at: datetime | None = None
    """When the last look failed as a whole."""


_LOOK = "source, looked_at, watermark, digests, held_by, swept_at, problem, problem_since, told_at, failed_at"


def looks(connection: "psycopg.Connection[Any]") -> dict[str, SourceLook]:
    """Bronze table → its source's last look."""
    rows = connection.execute(f"select {_LOOK} from etl.source_looks").fetchall()
    return {row[0]: SourceLook(*row) for row in rows}


def record_look(connection: "psycopg.Connection[Any]", look: SourceLook) -> None:
    """What a look left. A problem that lasts keeps its beginning, and whether it was told; another look ends it."""
    from psycopg.types.json import Jsonb

    connection.execute(
        "insert into etl.source_looks (source, looked_at, watermark, digests, held_by, swept_at, problem, "
        "problem_since) values (%s, now(), %s, %s, %s, %s, %s, case when %s::text is null then null else now() end) "
        "on conflict (source) do update set looked_at = excluded.looked_at, watermark = excluded.watermark, "
        "digests = excluded.digests, held_by = excluded.held_by, swept_at = excluded.swept_at, "
        "problem = excluded.problem, "
        "problem_since = case when excluded.problem is not null "
        "then coalesce(etl.source_looks.problem_since, now()) end, "
        "told_at = case when excluded.problem is not null then etl.source_looks.told_at end, failed_at = null",
        (
            *(look.source, look.watermark, Jsonb(dict(look.digests)), look.held_by, look.swept_at),
            *(look.problem, look.problem),
        ),
    )


def record_problem(connection: "psycopg.Connection[Any]", source: str, problem: str, at: datetime) -> None:
    """A look that failed as a whole. What is known stays, so that the next one sees all that changed since."""
    connection.execute(
        "insert into etl.source_looks (source, problem, problem_since, failed_at) values (%(source)s, %(problem)s, "
        "%(at)s, %(at)s) on conflict (source) do update set problem = excluded.problem, "
        "failed_at = excluded.failed_at, problem_since = coalesce(etl.source_looks.problem_since, excluded.failed_at)",
        {"source": source, "problem": problem, "at": at},
    )


def tell_problems(connection: "psycopg.Connection[Any]", sources: Collection[str]) -> None:
    """Somebody was told of the problems of these sources."""
    connection.execute("update etl.source_looks set told_at = now() where source = any(%s)", (list(sources),))


def marks(connection: "psycopg.Connection[Any]") -> dict[Place, Mark]:
    """Every mark that no capture has taken away."""
    rows = connection.execute("select asset, partition, seen, kind, marked_at, first_seen from etl.marks").fetchall()
    return {(asset, partition): Mark(*rest) for asset, partition, *rest in rows}


def mark(connection: "psycopg.Connection[Any]", asset: str, partitions: Iterable[str], *, seen: int, kind: str) -> None:
    """Mark partitions of a bronze table; a change stays one when it is its turn to be compared, too."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into etl.marks (asset, partition, seen, first_seen, kind) values (%s, %s, %s, %s, %s) "
            "on conflict (asset, partition) do update set seen = excluded.seen, marked_at = now(), "
            "kind = case when etl.marks.kind = 'changed' then 'changed' else excluded.kind end",
            [(asset, partition, seen, seen, kind) for partition in partitions],
        )


def looked_at(
    connection: "psycopg.Connection[Any]", assets: Iterable[str], partitions: Iterable[str], epoch: int
) -> None:
    """A capture of this epoch found these partitions as they are published: what was marked before it is done."""
    places = {"assets": list(assets), "partitions": list(partitions), "epoch": epoch}
    of = "asset = any(%(assets)s) and partition = any(%(partitions)s)"
    connection.execute(f"delete from etl.marks where {of} and seen < %(epoch)s", places)
    connection.execute(f"update etl.marks set first_seen = seen where {of} and first_seen < %(epoch)s", places)


def record_compared(connection: "psycopg.Connection[Any]", asset: str) -> None:
    """All of a source was compared just now by a capture that found it as it is published: no poll is due."""
    connection.execute(
        "insert into etl.source_looks (source, swept_at) values (%s, now()) "
        "on conflict (source) do update set swept_at = greatest(source_looks.swept_at, excluded.swept_at)",
        (asset,),
    )


def forget_published(connection: "psycopg.Connection[Any]") -> None:
    """Take away marks that a publish has answered."""
    connection.execute(
        "delete from etl.marks m using etl.publishes p "
        "where p.asset = m.asset and p.partition = m.partition and p.epoch > m.seen"
    )
