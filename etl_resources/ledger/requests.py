"""What the reconcile sensor asked for and isn't fresh yet: how often, when, and since when nothing helps."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from etl_resources.ledger.state import Place

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class Asked:
    """The tries of one partition since something of it was published, or looked at."""

    state: str
    """Of its inputs, at the last one."""
    since: str
    """What had been published then, and which mark waited: another one begins to count anew."""
    tries: int
    run_key: str
    requested_at: datetime
    stuck_since: datetime | None = None
    why: str = ""
    told_at: datetime | None = None


@dataclass(frozen=True)
class Stuck:
    """A partition that was asked for as often as is allowed, and is still out of date."""

    asset: str
    partition: str
    tries: int
    requested_at: datetime
    stuck_since: datetime
    why: str
    """Why it is out of date."""
    reason: str | None
    """How its last attempt ended, where the ledger knows one."""
    run_id: str | None

    def __str__(self) -> str:
        ended = f"; its last attempt ({self.run_id}) ended: {self.reason}" if self.reason else ""
        return f"{self.asset}, partition {self.partition}: {self.tries} tries ({self.why}){ended}"


def asked(connection: "psycopg.Connection[Any]") -> dict[Place, Asked]:
    """Every partition that was asked for and has not been found fresh since."""
    rows = connection.execute(
        "select asset, partition, state, since, tries, run_key, requested_at, stuck_since, why, told_at "
        "from etl.requests"
    ).fetchall()
    return {(asset, partition): Asked(*rest) for asset, partition, *rest in rows}


def ask(
    connection: "psycopg.Connection[Any]",
    run_key: str,
    places: Iterable[tuple[str, str, str, str, int, str]],
    at: datetime,
) -> None:
    """Count a try, now, of (asset, partition, state, since, tries, why). What is stuck stays so while it is tried."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into etl.requests as r (asset, partition, state, since, tries, why, run_key, requested_at, "
            "late_since) values (%s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (asset, partition) do update "
            "set state = excluded.state, since = excluded.since, tries = excluded.tries, why = excluded.why, "
            "run_key = excluded.run_key, requested_at = excluded.requested_at, "
            "stuck_since = case when r.since = excluded.since then r.stuck_since end, "
            "told_at = case when r.since = excluded.since then r.told_at end",
            [(*place, run_key, at, at) for place in places],
        )


def settle(connection: "psycopg.Connection[Any]", fresh: Collection[Place], stuck: Mapping[Place, str]) -> None:
    """Forget what is fresh, and note since when the stuck ones are."""
    with connection.cursor() as cursor:
        cursor.executemany("delete from etl.requests where asset = %s and partition = %s", list(fresh))
        cursor.executemany(
            "update etl.requests set stuck_since = now() where asset = %s and partition = %s and stuck_since is null",
            list(stuck),
        )


def tell(connection: "psycopg.Connection[Any]", places: Collection[Place]) -> None:
    """Somebody was told that these are stuck."""
    with connection.cursor() as cursor:
        cursor.executemany("update etl.requests set told_at = now() where asset = %s and partition = %s", list(places))


def stuck(connection: "psycopg.Connection[Any]", *, untold: bool = False) -> list[Stuck]:
    """What is stuck, oldest first. untold: of which nobody was told."""
    rows = connection.execute(
        "select r.asset, r.partition, r.tries, r.requested_at, r.stuck_since, r.why, i.reason, i.run_id "
        "from etl.requests r left join lateral ("
        "  select i.reason, i.run_id from etl.intents i join etl.intent_partitions p using (attempt) "
        "  where i.asset = r.asset and p.partition = r.partition and i.state in ('failed', 'abandoned') "
        "  and i.created_at >= r.requested_at - interval '1 day' order by p.epoch desc limit 1) i on true "
        "where r.stuck_since is not null and (not %(untold)s or r.told_at is null) "
        "order by r.stuck_since, r.asset, r.partition",
        {"untold": untold},
    ).fetchall()
    return [Stuck(*row) for row in rows]
