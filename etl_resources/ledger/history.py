"""What earlier runs took, for estimates: attempts of assets, how their content varies, backfills as they ended."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import psycopg

ATTEMPTS_MAX = 40
"""Newest attempts of an asset at one size that count: what it took a year ago says little."""
BACKFILLS_MAX = 20


class PastAttempt(NamedTuple):
    """One attempt that published."""

    seconds: float
    """From its intent to its evidence."""
    rows_read: int
    partitions: int
    size: str | None = None
    """Entry of `sizes`; None: by an earlier build."""
    engine: str = "duckdb"


class PastBackfill(NamedTuple):
    """One backfill that ended, with the figures that were estimated."""

    how: str
    """DAEMON or PROCESS."""
    estimated: Mapping[str, float | None]
    actual: Mapping[str, Any]
    """The same figures; `took`: its runs; `may_change`: asset → partitions that might change, of them attempted, and
    of these changed; `failed` and `resumed` tell which say nothing of how long it takes."""

    @property
    def counts(self) -> bool:
        """Whether what it took can be compared with what it was estimated at."""
        return not (self.actual.get("failed") or self.actual.get("not done") or self.actual.get("resumed"))


@dataclass(frozen=True)
class History:
    """What the ledger remembers of how long things took."""

    attempts: Mapping[str, Sequence[PastAttempt]] = field(default_factory=dict)
    """By asset, newest first, of each size and engine as many."""
    drift: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By asset: of ten changed partitions, eight have between so much and so much of the rows that they had before."""
    backfills: Sequence[PastBackfill] = ()


_ATTEMPTS = """
with recent as (
    select i.*, coalesce(i.engine, 'duckdb') as computed_by,
           row_number() over (partition by i.asset, size, i.engine order by settled_at desc) as newest
    from unnest(%(assets)s::text[]) as wanted(asset)
    cross join lateral (
        select * from etl.intents
        where asset = wanted.asset and state = 'published' and settled_at > created_at
        order by settled_at desc limit %(most)s * 4
    ) i
)
select i.asset, extract(epoch from i.settled_at - i.created_at)::float8, made.rows, made.partitions, size, computed_by
from recent i
cross join lateral (
    select sum(coalesce((p.counts ->> 'read')::bigint, p.rows))::bigint as rows, count(*) as partitions
    from etl.intent_partitions t
    join etl.publishes p on p.asset = i.asset and p.partition = t.partition and p.epoch = t.epoch
    where t.attempt = i.attempt and p.attempt = i.attempt
) made
where made.partitions > 0 and newest <= %(most)s order by i.asset, i.settled_at desc
"""
_INPUTS = """
select i.asset, max(made.size_bytes)
from unnest(%(assets)s::text[]) as wanted(asset)
cross join lateral (
    select * from etl.intents where asset = wanted.asset and state = 'published' order by settled_at desc limit %(most)s
) i
cross join lateral (
    select sum(coalesce((p.reads ->> 'size_bytes')::bigint, p.size_bytes))::bigint as size_bytes
    from etl.intent_partitions t
    join etl.publishes p on p.asset = i.asset and p.partition = t.partition and p.epoch = t.epoch
    where t.attempt = i.attempt and p.attempt = i.attempt
) made
where made.size_bytes is not null group by i.asset
"""
_DRIFT = """
select c.asset, percentile_cont(array[0.1, 0.9]) within group (order by c.rows::float8 / b.rows)
from etl.newest_publishes join etl.publishes c using (asset, partition, epoch)
cross join lateral (
    select rows from etl.publishes x
    where x.asset = c.asset and x.partition = c.partition and x.epoch < c.epoch and x.version <> c.version
    order by epoch desc limit 1
) b
where asset = any(%(assets)s) and b.rows > 0 group by c.asset
"""
_BACKFILLS = """
select how, estimate, actual from etl.backfills
where finished_at is not null and (actual ->> 'seconds')::float8 > 0
order by finished_at desc limit %(most)s
"""


def read_history(connection: "psycopg.Connection[Any]", assets: Collection[str]) -> History:
    """Of these assets, by three statements."""
    values = {"assets": list(assets), "most": ATTEMPTS_MAX}
    attempts: dict[str, list[PastAttempt]] = {}
    for asset, *attempt in connection.execute(_ATTEMPTS, values).fetchall():
        attempts.setdefault(asset, []).append(PastAttempt(*attempt))
    drift = {a: (float(low), float(high)) for a, (low, high) in connection.execute(_DRIFT, values).fetchall()}
    ended = connection.execute(_BACKFILLS, {"most": BACKFILLS_MAX}).fetchall()
    return History(attempts, drift, [PastBackfill(*row) for row in ended])


def read_inputs(connection: "psycopg.Connection[Any]", assets: Collection[str]) -> Mapping[str, int]:
    """Asset → the most bytes that one of its newest attempts read; of a source, whose bytes nobody counts, those that
    it became. Without an attempt, not in it."""
    values = {"assets": list(assets), "most": ATTEMPTS_MAX}
    return {asset: int(size_bytes) for asset, size_bytes in connection.execute(_INPUTS, values).fetchall()}
