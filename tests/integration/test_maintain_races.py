"""Maintenance beside writers, readers and another maintenance, and killed in the middle: nothing is lost."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from etl_resources.tables.metadata_files import referenced_metadata
from etl_resources.tables.orphans import referenced_paths
from tests.conftest import BUCKET
from tests.integration.local_table import FEB, JAN, MAR
from tests.integration.maintenance_child import POINTS
from tests.integration.stack_project import ROOT
from tests.integration.store_table import EAGER, ROWS, StoreTable, store_table

PUBLISHES = 12
TIMEOUT_S = 120


@pytest.fixture
def table(stack: object) -> Iterator[StoreTable]:
    with store_table(BUCKET) as made:
        yield made


def prove_whole(table: StoreTable) -> None:
    """Nothing referenced is missing, nothing unreferenced is left, the ledger knows the head, no branch is left."""
    assert set(table.objects("data")) == referenced_paths(table.table)
    assert set(table.objects("metadata")) == referenced_metadata(table.table)
    known = table.ledger.current(table.address.asset)
    assert {p: k.epoch for p, k in known.items()} == table.epochs()
    assert table.branches() == []
    open_ones = "select attempt from etl.intents where asset = %s and state = 'open'"
    assert table.ledger.connection.execute(open_ones, (table.address.asset,)).fetchall() == []


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_maintenance_is_finished_by_the_next(table: StoreTable, point: str) -> None:
    """Each step leaves a whole table; what it wrote for nothing is found and deleted."""
    for value in (1, 2):
        table.publish({JAN: value, FEB: value}, files=2)
    table.publish({MAR: 3})
    before = table.contents()
    child = subprocess.run(
        [sys.executable, "-m", "tests.integration.maintenance_child", table.dataset, point],
        cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert table.contents() == before
    await_session_end(table)

    table.maintain()

    assert table.contents() == before == {JAN: (2, 2 * ROWS), FEB: (2, 2 * ROWS), MAR: (3, ROWS)}
    assert [len(f) for f in table.files().values()] == [1, 1, 1]
    table.maintain()  # what was superseded by this compaction
    prove_whole(table)


def await_session_end(table: StoreTable) -> None:
    """A killed process's session ends when the server notices: until then its attempt counts as alive."""
    deadline = time.monotonic() + TIMEOUT_S
    with psycopg.connect(table.settings.require_postgres(), autocommit=True) as connection:
        while connection.execute(
            "select count(*) from pg_locks where locktype = 'advisory' and pid not in (pg_backend_pid(), %s)",
            (table.ledger.connection.info.backend_pid,),
        ).fetchone() != (0,):
            assert time.monotonic() < deadline


def test_maintenance_beside_publishers_and_a_reader_loses_nothing(table: StoreTable) -> None:
    """Compaction, expiry and publishes meet in every order; the reader sees whole partitions only."""
    table.publish({JAN: 0, FEB: 0}, files=2)

    def publishing(month: str) -> None:
        with store_table(BUCKET, table.dataset) as writer:
            for value in range(1, PUBLISHES + 1):
                writer.publish({month: value}, files=1 + value % 2)

    def maintaining(until: Callable[[], bool]) -> int:
        times = 0
        with store_table(BUCKET, table.dataset) as session:
            while not until():
                session.maintain()
                times += 1
        return times

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(publishing, month) for month in (JAN, FEB)]
        done = lambda: all(w.done() for w in writers)  # noqa: E731
        maintenance = pool.submit(maintaining, done)
        for writer in writers:
            writer.result(TIMEOUT_S)
        assert maintenance.result(TIMEOUT_S) > 0
    rows = (1 + PUBLISHES % 2) * ROWS
    assert table.contents() == {JAN: (PUBLISHES, rows), FEB: (PUBLISHES, rows)}
    table.maintain()
    table.maintain()
    prove_whole(table)


def test_two_maintenances_of_a_table_take_turns(table: StoreTable) -> None:
    """The second leaves the table alone and says so; many at once leave it as one does."""
    for value in (1, 2, 3):
        table.publish({JAN: value}, files=3)
    with store_table(BUCKET, table.dataset) as other:
        other.ledger.connection.execute(
            "select pg_advisory_lock(hashtextextended(%s, 0))", (f"maintain:{table.address.asset}",)
        )
        assert table.maintain().notes == ["left alone: another maintenance of it is at work"]

    def once(_: int) -> None:
        with store_table(BUCKET, table.dataset) as session:
            session.maintain()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(once, range(4)))
    table.maintain(EAGER)
    assert table.contents() == {JAN: (3, 3 * ROWS)}
    prove_whole(table)
