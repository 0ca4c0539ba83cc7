"""Observation of a Postgres table by its change stamps: no late commit is missed, none is seen twice."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from etl_resources.errors import PermanentError
from etl_resources.extract import watermark
from etl_resources.extract.watermark import Bound, Changes, find_changes, read_bound
from etl_resources.manifest_sources import PostgresSource
from etl_resources.partition_sql import Placement
from tests.databases import query, server_dsn

pytestmark = pytest.mark.timeout(300)
SOURCE = PostgresSource.model_validate({
    "kind": "postgres", "system": "erp", "table": "public.orders", "key": ["id"], "change_column": "changed_at",
    "columns": {"id": "bigint", "day": "date", "changed_at": "timestamptz"},
})  # fmt: skip
MONTHS = [f"2024-{m:02d}" for m in range(1, 13)]


@pytest.fixture(scope="module")
def dsn(stack: object) -> Iterator[str]:
    """A database with one table, whose stamps the database keeps."""
    server, name = server_dsn(), f"observed_{uuid4().hex[:8]}"
    query(server, f"create database {name}")
    found = make_conninfo(server, dbname=name)
    query(
        found,
        "create table orders (id bigint generated always as identity primary key, day date, "
        "changed_at timestamptz not null default now()); create index on orders (changed_at)",
    )
    yield found
    query(server, f"drop database {name} with (force)")


class Observer:
    """One source, looked at again and again."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True, options="-c timezone=UTC")
        self.last = Changes(frozenset(), read_bound(self.connection, "the test").until)
        self.look()  # what is there already

    def look(self) -> set[str]:
        bound = read_bound(self.connection, "the test")
        self.last = find_changes(
            self.connection, SOURCE, Placement("day"), bound, self.last.watermark, self.last.digests
        )
        return set(self.last.partitions)


def write(dsn: str, seed: int, transactions: int, look: Callable[[], set[str]]) -> Iterator[tuple[set[str], set[str]]]:
    """Sixteen sessions that begin, insert and commit in a random order; (seen, committed since) of each look."""
    rng, open_now, committed, begun = random.Random(seed), dict[int, str | None](), set[str](), 0
    with ExitStack() as sessions:
        writers = [sessions.enter_context(psycopg.connect(dsn)) for _ in range(16)]
        while begun < transactions or open_now:
            writer = rng.randrange(len(writers))
            if rng.random() < 0.01:
                yield look(), committed
                committed = set()
            elif writer not in open_now:
                if begun < transactions:
                    writers[writer].execute("select")  # its stamp is that of now, whenever it writes and commits
                    open_now[writer], begun = None, begun + 1
            elif open_now[writer] is None:
                month = open_now[writer] = rng.choice(MONTHS)
                writers[writer].execute("insert into orders (day) values (%s)", [f"{month}-15"])
            elif writer != 0 or rng.random() < 0.05:  # one of them is slow
                writers[writer].commit()
                committed.add(str(open_now.pop(writer)))
    yield look(), committed


@pytest.mark.parametrize("seed", [7])
def test_of_ten_thousand_late_commits_none_is_missed_and_none_seen_twice(
    dsn: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Transactions appear in another order than their stamps; without the margin the open ones alone hold it back."""
    monkeypatch.setattr(watermark, "MARGIN_S", 0.0)
    observer = Observer(dsn)
    for seen, committed in write(dsn, seed, 10_000, observer.look):
        assert seen == committed
    before = observer.last.watermark
    assert observer.look() == set()
    assert observer.last.watermark > before
    assert observer.last.digests == {}, "all of it lies before the watermark"


def test_a_watermark_that_ignores_open_transactions_misses_rows(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the test above could fail."""
    observer = Observer(dsn)

    def naive() -> set[str]:
        (now,) = observer.connection.execute("select clock_timestamp()").fetchone() or (None,)
        bound = Bound(now, now)
        observer.last = find_changes(
            observer.connection, SOURCE, Placement("day"), bound, observer.last.watermark, observer.last.digests
        )
        return set(observer.last.partitions)

    assert any(committed - seen for seen, committed in write(dsn, 7, 1_000, naive))
    assert monkeypatch


def test_a_row_that_is_deleted_or_moved_before_the_watermark_passes_is_seen(dsn: str) -> None:
    """Its month lost it."""
    observer = Observer(dsn)
    ((row,),) = query(dsn, "insert into orders (day) values ('2024-01-01') returning id")
    assert observer.look() == {"2024-01"}
    query(dsn, "update orders set day = '2024-05-01', changed_at = now() where id = %s", [row])
    assert observer.look() == {"2024-01", "2024-05"}
    query(dsn, "delete from orders where id = %s", [row])
    assert observer.look() == {"2024-05"}
    assert observer.look() == set()


def test_a_role_that_sees_no_other_session_is_refused(dsn: str) -> None:
    """Its watermark would pass transactions that it can't see."""
    role = f"blind_{uuid4().hex[:8]}"
    query(dsn, f"create role {role} login password 'x'; grant select on orders to {role}")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"set role {role}".encode())
        with pytest.raises(PermanentError, match="pg_read_all_stats"):
            read_bound(connection, "env:ERP_DSN")
    query(dsn, f"drop owned by {role}; drop role {role}")


@pytest.mark.parametrize(
    ("fake", "held"),
    [
        ("create view fake.pg_prepared_xacts as select current_database() as database", "prepared"),
        (
            "create view fake.pg_stat_activity as select a.pid + 1 as pid, a.datname, a.backend_type, "
            "null::timestamptz as xact_start, 'disabled' as state from pg_catalog.pg_stat_activity a "
            "where a.pid = pg_backend_pid()",
            "track_activities",
        ),
    ],
)
def test_what_nobody_can_see_holds_the_watermark(dsn: str, fake: str, held: str) -> None:
    """A prepared transaction has no session, and a silent session tells no start: nothing is concluded."""
    query(dsn, f"drop schema if exists fake cascade; create schema fake; {fake}")
    observer = Observer(dsn)
    before = observer.last.watermark
    observer.connection.execute("set search_path = fake, pg_catalog, public")
    query(dsn, "insert into orders (day) values ('2024-07-01')")
    assert observer.look() == {"2024-07"}, "what can be seen is seen"
    assert observer.last.watermark == before
    assert held in (read_bound(observer.connection, "the test").held_by or "")


def test_a_standby_is_refused(dsn: str) -> None:
    """The open transactions are those of its primary."""
    query(
        dsn,
        "drop schema if exists fake cascade; create schema fake; "
        "create function fake.pg_is_in_recovery() returns bool return true",
    )
    observer: Any = Observer(dsn)
    observer.connection.execute("set search_path = fake, pg_catalog, public")
    with pytest.raises(PermanentError, match="standby"):
        observer.look()
