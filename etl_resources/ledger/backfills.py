"""Backfills on record: from which plan they were started, whether they still run, and what came of them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from etl_resources.errors import PermanentError
from etl_resources.ledger.state import Place
from etl_resources.sizes import MANIFESTS, SizeChoice

if TYPE_CHECKING:
    import psycopg

Planned = Mapping[Place, Sequence[tuple[str, str, str]]]
"""(asset, partition) → (asset, partition, version) of the inputs that it was planned on."""
DAEMON, PROCESS = "daemon", "process"


@dataclass(frozen=True)
class BackfillRecord:
    """One backfill that was started."""

    backfill: str
    plan_hash: str
    selection: tuple[str, ...]
    first: str
    last: str
    how: str
    """DAEMON or PROCESS: who runs it."""
    planned: Planned
    estimate: Mapping[str, Any]
    choice: SizeChoice = MANIFESTS
    """At which its runs are launched, also after an interruption."""
    started_at: datetime | None = None


def start(connection: "psycopg.Connection[Any]", record: BackfillRecord) -> None:
    """Put a backfill on record, before its first run. It takes the place of interrupted ones of the same range."""
    from psycopg.types.json import Jsonb

    planned: dict[str, dict[str, list[list[str]]]] = {}
    for (asset, partition), inputs in record.planned.items():
        planned.setdefault(asset, {})[partition] = [list(i) for i in inputs]
    connection.execute(
        "update etl.backfills set finished_at = now(), planned = null, actual = %s "
        "where finished_at is null and selection = %s and first = %s and last = %s",
        (Jsonb({"superseded_by": record.backfill}), list(record.selection), record.first, record.last),
    )
    connection.execute(
        "insert into etl.backfills (backfill, plan_hash, selection, first, last, how, planned, estimate, "
        "size, raised_to) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            record.backfill,
            record.plan_hash,
            list(record.selection),
            record.first,
            record.last,
            record.how,
            Jsonb(planned),
            Jsonb(dict(record.estimate)),
            record.choice.asked,
            record.choice.raised_to,
        ),
    )


def unfinished(
    connection: "psycopg.Connection[Any]", selection: Sequence[str], first: str, last: str
) -> BackfillRecord | None:
    """The newest backfill of exactly this selection and range that hasn't ended; it runs, or it was interrupted."""
    row = connection.execute(
        "select backfill, plan_hash, selection, first, last, how, planned, estimate, started_at, size, raised_to "
        "from etl.backfills "
        "where finished_at is null and selection = %s and first = %s and last = %s order by started_at desc limit 1",
        (list(selection), first, last),
    ).fetchone()
    if row is None:
        return None
    backfill, plan_hash, terms, start_at, end_at, how, planned, estimate, at, size, raised_to = row
    found = {(a, p): [(x, y, z) for x, y, z in inputs] for a, ps in planned.items() for p, inputs in ps.items()}
    choice = SizeChoice(size, raised_to)
    return BackfillRecord(backfill, plan_hash, tuple(terms), start_at, end_at, how, found, estimate, choice, at)


def finish(connection: "psycopg.Connection[Any]", backfill: str, actual: Mapping[str, Any]) -> None:
    """A backfill ended, whatever came of it."""
    from psycopg.types.json import Jsonb

    connection.execute(
        "update etl.backfills set actual = %s, finished_at = now(), planned = null where backfill = %s",
        (Jsonb(dict(actual)), backfill),
    )


@contextmanager
def running(connection: "psycopg.Connection[Any]", backfill: str) -> Iterator[None]:
    """Hold a backfill while this session runs it. Raises PermanentError when another process does."""
    key = (f"backfill:{backfill}",)
    row = connection.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", key).fetchone()
    if not (row and row[0]):
        raise PermanentError(f"Backfill {backfill} is running in another process. Wait for it, or stop that process.")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", key)


@dataclass(frozen=True)
class MadeBy:
    """What runs published of the partitions of some assets, and how long their attempts took."""

    published: Mapping[Place, bool]
    """Place → whether its content is new; False: it was found as it was."""
    attempts: Sequence[tuple[str, str, float, float]] = ()
    """(run id, asset, begin, end in seconds since 1970) of attempts that ended."""
    bytes_in: int = 0
    """Of the partitions that were read, each as often as it was; of a source, those that it became."""
    bytes_out: int = 0
    """Of new content."""

    @property
    def attempts_s(self) -> float:
        """Of all attempts."""
        return sum(end - begin for _, _, begin, end in self.attempts)


def made_by(connection: "psycopg.Connection[Any]", run_ids: Sequence[str]) -> MadeBy:
    """By these runs together."""
    rows = connection.execute(
        "select asset, partition, bool_or(alias_of is null) from etl.publishes where run_id = any(%s) group by 1, 2",
        (list(run_ids),),
    ).fetchall()
    attempts = connection.execute(
        "select run_id, asset, extract(epoch from created_at)::float8, extract(epoch from settled_at)::float8 "
        "from etl.intents where run_id = any(%s) and settled_at is not null order by created_at",
        (list(run_ids),),
    ).fetchall()
    volume = connection.execute(_VOLUME, (list(run_ids),)).fetchone()
    assert volume is not None  # noqa: S101  (an aggregate always returns a row)
    return MadeBy({(a, p): bool(new) for a, p, new in rows}, attempts, int(volume[0]), int(volume[1]))


_VOLUME = """
with made as (select * from etl.publishes where run_id = any(%s)),
sizes as (
    select asset, partition, epoch, case when alias_of is null then size_bytes else (
        select max(y.size_bytes) from etl.publishes y
        where y.asset = x.asset and y.partition = x.partition and y.version = x.version
    ) end as size_bytes
    from etl.publishes x where (asset, partition, epoch) in (
        select i ->> 'asset', i ->> 'partition', (i ->> 'epoch')::bigint
        from made cross join lateral jsonb_array_elements(inputs) i
        union all select asset, partition, epoch from made
    )
)
select coalesce(sum(coalesce(
           (select sum(s.size_bytes) from jsonb_array_elements(m.inputs) i
            join sizes s on s.asset = i ->> 'asset' and s.partition = i ->> 'partition'
                        and s.epoch = (i ->> 'epoch')::bigint),
           own.size_bytes)), 0)::bigint,
       coalesce(sum(m.size_bytes) filter (where m.alias_of is null), 0)::bigint
from made m join sizes own using (asset, partition, epoch)
"""
