"""Orphan files go when nothing can need them, and not a moment earlier."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from etl_resources.conventions import staged_folder
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.records import IntendedPartition
from etl_resources.object_store import ObjectStore
from etl_resources.tables.orphans import delete_orphans, referenced_paths
from tests.invariants import prove_whole
from tests.lake import Lake

pytest_plugins = ["tests.lake"]

FIRST, LAST = "2024-01", "2024-02"
TABLE = "kpi.kpi_net_revenue"
NOW = timedelta(0)


@pytest.fixture(scope="module")
def published(module_lake: Lake) -> Lake:
    run = module_lake.materialize(FIRST, LAST)
    assert run.success, run.error
    return module_lake


@pytest.fixture
def write(published: Lake) -> Callable[..., str]:
    """Writes a file as an attempt of that epoch would; its path."""
    address = published.runtime.addresses[TABLE]
    io = published.runtime.store.catalog.load_table(address.identifier).io

    def one(epoch: int, name: str = "part-0.parquet") -> str:
        path = f"{staged_folder(address.location, FIRST, epoch, 'ab' * 8)}/{name}"
        with io.new_output(path).create(overwrite=True) as stream:
            stream.write(b"rows")
        return path

    return one


def orphans(lake: Lake, older_than: timedelta = NOW, *, dry_run: bool = False) -> list[tuple[str, str]]:
    with Ledger.open(lake.settings) as ledger:
        found = delete_orphans(
            lake.runtime.store.catalog, lake.runtime.addresses[TABLE], ledger, older_than=older_than, dry_run=dry_run
        )
    return [(o.path, o.why) for o in found]


def objects(lake: Lake) -> set[str]:
    address = lake.runtime.addresses[TABLE]
    return {o.path for o in ObjectStore.of(lake.runtime.store.catalog, address.location).list("data")}


def test_a_healthy_table_has_no_orphans(published: Lake) -> None:
    """Everything in the folder is referenced, old versions included."""
    assert orphans(published) == []
    table = published.runtime.store.catalog.load_table(published.runtime.addresses[TABLE].identifier)
    assert objects(published) == referenced_paths(table)


def test_a_file_of_an_unknown_attempt_goes_after_the_guard(published: Lake, write: Callable[..., str]) -> None:
    """The guard protects what is being written; a dry run only tells."""
    before, path = objects(published), write(10**9)

    assert orphans(published, timedelta(hours=1)) == []
    assert orphans(published, dry_run=True) == [(path, "no attempt is known that wrote it")]
    assert objects(published) == {*before, path}
    assert orphans(published) == [(path, "no attempt is known that wrote it")]
    assert objects(published) == before
    prove_whole(published)


def test_a_live_attempt_keeps_its_files_however_old(published: Lake, write: Callable[..., str]) -> None:
    """A run may take longer than any guard. When its session has ended its files go."""
    path = write(10**9 + 1)
    with Ledger.open(published.settings) as writer:
        attempt = writer.open_attempt(TABLE, "run-live")
        writer.intend(attempt, [IntendedPartition(FIRST, 10**9 + 1, "ab" * 32)])
        assert orphans(published) == []
    assert orphans(published) == [(path, "its attempt abandoned")]
    with Ledger.open(published.settings) as ledger:
        published.runtime.store.settle(ledger, published.runtime.addresses[TABLE])


def test_a_file_unknown_to_the_ledger_waits_for_every_writer(published: Lake, write: Callable[..., str]) -> None:
    """A ledger that lost its rows can't name the living; their locks still can."""
    path = write(10**9 + 2)
    with Ledger.open(published.settings) as writer:
        writer.connection.execute("select pg_advisory_lock(hashtextextended('attempt:lost', 0))")
        assert orphans(published) == []
    assert [p for p, _ in orphans(published)] == [path]


def test_a_file_that_somebody_else_wrote_stays(published: Lake, write: Callable[..., str]) -> None:
    """Only paths of our own form are ours to delete."""
    address = published.runtime.addresses[TABLE]
    store = ObjectStore.of(published.runtime.store.catalog, address.location)
    io = published.runtime.store.catalog.load_table(address.identifier).io
    path = f"{address.location}/data/notes.txt"
    with io.new_output(path).create(overwrite=True) as stream:
        stream.write(b"mine")
    assert orphans(published) == []
    assert path in objects(published)
    store.delete([path])
