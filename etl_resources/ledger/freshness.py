"""From when on each asset may lack something, as far as the ledger knows: for freshness objectives."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class Sight:
    """What is known of one asset."""

    newest: str | None = None
    """Its newest published partition; None: nothing is published."""
    run_at: datetime | None = None
    """When a run last published it, or found it as it is published."""
    looked_at: datetime | None = None
    """When its source was last looked at, without a problem."""
    has_watermark: bool = False
    """Whether that look sees changed rows of a Postgres table, and doesn't only ask to compare it at times."""
    wanting_since: datetime | None = None
    """Oldest of: a change that was seen at its source, what was asked for and isn't fresh, what waits for a person."""


_SIGHTS = """
with published as (
    select asset, max(partition) as newest, max(published_at) as at from etl.current_versions group by 1
),
pruned as (
    select asset, last.at from published cross join lateral (
        select pruned_at as at from etl.prunes p where p.asset = published.asset order by pruned_at desc limit 1
    ) last
),
wanting as (
    select asset, min(at) as since from (
        select asset, marked_at as at from etl.marks where kind = 'changed'
        union all select asset, coalesce(late_since, requested_at) from etl.requests
        union all select asset, held_at from etl.waiting
    ) w group by 1
)
select asset, newest, greatest(published.at, pruned.at), looked_at, coalesce(watermarked, false), since
from published
left join pruned using (asset)
full join wanting using (asset)
full join (
    select source as asset, case when problem is null then looked_at end as looked_at,
           watermark is not null as watermarked
    from etl.source_looks
) looks using (asset)
"""


def sights(connection: "psycopg.Connection[Any]") -> Mapping[str, Sight]:
    """Of every asset that the ledger knows, by one statement."""
    return {asset: Sight(*rest) for asset, *rest in connection.execute(_SIGHTS).fetchall()}


def late(connection: "psycopg.Connection[Any]") -> Mapping[str, datetime | None]:
    """Assets of whose lateness somebody was told → since when they were late then."""
    return dict(connection.execute("select asset, since from etl.late").fetchall())


def tell_late(connection: "psycopg.Connection[Any]", assets: Mapping[str, datetime | None]) -> None:
    """Somebody was told that these are late."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into etl.late (asset, since) values (%s, %s) on conflict (asset) do nothing", list(assets.items())
        )


def forget_late(connection: "psycopg.Connection[Any]", assets: Iterable[str]) -> None:
    """These are fresh again, or have no objective any more."""
    connection.execute("delete from etl.late where asset = any(%s)", (list(assets),))
