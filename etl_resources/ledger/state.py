"""What the ledger knows of many assets at once, read by a fixed number of statements: for plans and explanations.

Nothing here says what is current of a table whose writer died between its commit and its evidence: `recover`, or the
next run, settles that. Such attempts are counted.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from etl_resources.calendar import WHOLE
from etl_resources.ledger.closings import Closing, current_closings
from etl_resources.ledger.lineage import control_input
from etl_resources.ledger.pins import Pin, current_pins
from etl_resources.run_token import InputVersion

if TYPE_CHECKING:
    import psycopg

Place = tuple[str, str]
"""(asset, partition)."""


class Known(NamedTuple):
    """What is published of a partition now."""

    epoch: int
    token: str
    version: str
    rows: int
    size_bytes: int
    """Of the content: an attempt that found it unchanged wrote a marker of a few bytes."""
    rows_read: int
    inputs: tuple[InputVersion, ...]
    fingerprint: str | None
    run_id: str
    published_at: datetime
    restated: str | None = None
    """What its inputs give, where it is closed and keeps another content."""


class Ended(NamedTuple):
    """The last attempt at a partition that is newer than what is published of it, and published nothing of it."""

    epoch: int
    token: str | None
    state: str
    """open: it runs, or its process died; failed, abandoned; published: others of its partitions were."""
    reason: str | None
    run_id: str
    at: datetime


class Waiting(NamedTuple):
    """A KPI partition that a threshold keeps from being published."""

    token: str
    held_at: datetime
    accepted_by: str | None


@dataclass(frozen=True)
class KnownTable:
    """One asset as the ledger knows it; a VersionedTable of etl_resources/windows."""

    asset: str
    publishes: Mapping[str, Known]
    partitioned: bool

    def partition_for(self, partition: str) -> str:
        """Its partition that a dependant's partition reads: the same period, or all of a table without partitions."""
        return partition if self.partitioned else WHOLE

    def version(self, partition: str) -> InputVersion | None:
        """What is published of a partition; None when nothing is."""
        known = self.publishes.get(partition)
        return InputVersion(self.asset, partition, known.version, known.epoch) if known else None


@dataclass(frozen=True)
class LedgerState:
    """One instant of the ledger."""

    published: Mapping[str, Mapping[str, Known]] = field(default_factory=dict)
    """Asset → partition → what is current."""
    pins: Mapping[Place, Pin] = field(default_factory=dict)
    waiting: Mapping[Place, Waiting] = field(default_factory=dict)
    ended: Mapping[Place, Ended] = field(default_factory=dict)
    exchanged: Mapping[str, Sequence[tuple[str, int, Sequence[str]]]] = field(default_factory=dict)
    """Asset → (partition, epoch, partitions that it exchanged rows with in that publish)."""
    remembered: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    """(definition of a lookup, source's version, looked-up table's version) → version of what is found."""
    whole_versions: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """(asset without partitions, epoch that something current was made from) → content that it published."""
    newest_totals: Mapping[Place, int] = field(default_factory=dict)
    """(input of control totals, partition) → newest capture that took them."""
    open_attempts: int = 0
    closed: Mapping[Place, Closing] = field(default_factory=dict)

    def linked_since(self, asset: str, epochs: Mapping[str, int]) -> dict[str, set[str]]:
        """As Ledger.linked_since."""
        found: dict[str, set[str]] = {}
        for partition, epoch, others in self.exchanged.get(asset, ()):
            if epoch > epochs.get(partition, epoch):
                found.setdefault(partition, set()).update(o for o in others if o != partition)
        return {p: others for p, others in found.items() if others}


UNPUBLISHED = """
select n.* from etl.newest_intents n left join etl.newest_publishes c using (asset, partition)
where c.epoch is null or n.epoch > c.epoch
"""
"""SQL of the newest attempts at partitions of which nothing newer is published."""
_PUBLISHED = """
select asset, partition, epoch, token, version, rows, n.size_bytes,
       coalesce((counts ->> 'read')::bigint, rows), inputs, fingerprint, run_id, published_at,
       account ->> 'restated'
from etl.newest_publishes n join etl.publishes p using (asset, partition, epoch) where asset = any(%(assets)s)
"""
_WAITING = (
    "select distinct on (asset, partition) asset, partition, epoch, token, held_at, accepted_by from etl.held "
    "where asset = any(%(assets)s) order by asset, partition, epoch desc"
)
_ENDED = f"""
select n.asset, n.partition, n.epoch, p.token, i.state, i.reason, i.run_id, coalesce(i.settled_at, i.created_at)
from ({UNPUBLISHED}) n
cross join lateral (select * from etl.intents where attempt = n.attempt limit 1) i
join etl.intent_partitions p on p.attempt = n.attempt and p.partition = n.partition
where n.asset = any(%(assets)s)
"""
_EXCHANGED = (
    "select asset, partition, epoch, linked from etl.publishes "
    "where asset = any(%(assets)s) and cardinality(linked) > 0 order by epoch"
)
_REMEMBERED = (
    "select definition, source, looked_up, version from etl.lookup_versions where definition = any(%(lookups)s)"
)
_WHOLE = """
select asset, epoch, version from etl.publishes
where partition = %(whole)s and (asset, epoch) in (select * from unnest(%(read)s::text[], %(epochs)s::bigint[]))
"""
_TOTALS = """
with recursive taken as (
    select control, n.partition from unnest(%(controls)s::text[]) as wanted(control) cross join lateral (
        select partition from etl.control_totals o where o.control = wanted.control order by 1 limit 1
    ) n
    union all
    select control, n.partition from taken t cross join lateral (
        select partition from etl.control_totals o
        where o.control = t.control and o.partition > t.partition order by 1 limit 1
    ) n
)
select control, partition, (
    select epoch from etl.control_totals n
    where n.control = t.control and n.partition = t.partition order by epoch desc limit 1
) from taken t
"""
"""From one partition to the next, however many captures took totals of it."""
_OPEN = "select count(*) from etl.intents where asset = any(%(assets)s) and state = 'open'"


def read_state(
    connection: "psycopg.Connection[Any]",
    assets: Collection[str],
    lookups: Collection[str] = (),
    controls: Collection[str] = (),
) -> LedgerState:
    """All that the ledger knows of these assets, by ten statements.

    lookups: definitions of their lookups; controls: keys of the control totals that they are compared with.
    """
    values = {"assets": list(assets), "lookups": list(lookups), "controls": list(controls)}

    def rows(query: str, **more: Any) -> list[tuple[Any, ...]]:
        return connection.execute(query.encode(), {**values, **more}).fetchall()

    published: dict[str, dict[str, Known]] = {}
    for asset, partition, epoch, token, version, n, size, n_read, inputs, *rest in rows(_PUBLISHED):
        known = Known(epoch, token, version, n, size, n_read, tuple(InputVersion(**i) for i in inputs), *rest)
        published.setdefault(asset, {})[partition] = known
    whole = {
        (i.asset, i.epoch) for of in published.values() for k in of.values() for i in k.inputs if i.partition == WHOLE
    }
    read, epochs = [asset for asset, _ in whole], [epoch for _, epoch in whole]
    exchanged: dict[str, list[tuple[str, int, Sequence[str]]]] = {}
    for asset, *link in rows(_EXCHANGED):
        exchanged.setdefault(asset, []).append((link[0], link[1], link[2]))
    return LedgerState(
        published,
        current_pins(connection, list(assets)),
        {
            (a, p): Waiting(*rest)
            for a, p, epoch, *rest in rows(_WAITING)
            if p not in published.get(a, {}) or epoch > published[a][p].epoch  # as etl.waiting says
        },
        {(a, p): Ended(*rest) for a, p, *rest in rows(_ENDED)},
        exchanged,
        {(d, s, t): v for d, s, t, v in rows(_REMEMBERED)},
        {(a, e): v for a, e, v in rows(_WHOLE, whole=WHOLE, read=read, epochs=epochs)},
        {(control_input(c), p): e for c, p, e in rows(_TOTALS)},
        int(rows(_OPEN)[0][0]),
        current_closings(connection, list(assets)),
    )


def content_since(connection: "psycopg.Connection[Any]", asset: str, partition: str) -> tuple[str, datetime] | None:
    """(run id, time) of the publish that made the content that a partition has now; later ones found it unchanged."""
    row = connection.execute(
        "with mine as (select epoch, version, run_id, published_at, "
        "first_value(version) over (order by epoch desc) as now from etl.publishes "
        "where asset = %(asset)s and partition = %(partition)s) "
        "select run_id, published_at from mine where version = now "
        "and epoch > coalesce((select max(epoch) from mine where version <> now), -1) order by epoch limit 1",
        {"asset": asset, "partition": partition},
    ).fetchone()
    return (str(row[0]), row[1]) if row else None
