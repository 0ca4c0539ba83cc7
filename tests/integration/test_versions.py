"""Version numbers, releases and differences of a real table, and what is said when a version is gone."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from unittest import mock

import pytest

from etl_resources.errors import PermanentError
from etl_resources.tables import commit
from etl_resources.tables.commit import build_snapshot, compare_and_swap
from etl_resources.tables.diff import ADDED, CHANGED, REMOVED, TableDiff, diff_versions
from etl_resources.tables.expiry import expire
from etl_resources.tables.version_numbers import head_number
from etl_resources.tables.versions import find_version, release
from tests.integration.versioned_table import CONTRACT, FEB, JAN, MAR, VersionedTable

pytest_plugins = ["tests.integration.versioned_table"]

WRITERS = 6


def forget(versioned: VersionedTable, *numbers: int) -> None:
    """Expire versions, as maintenance does."""
    table = versioned.table
    gone = [v.snapshot_id for v in versioned.versions if v.number in numbers]
    expire(versioned.store.catalog, table, gone)


def diff(versioned: VersionedTable, before: str, after: str, limit: int = 1_000) -> TableDiff:
    table, asset = versioned.table, versioned.address.asset
    old, new = find_version(table, asset, before), find_version(table, asset, after)
    return diff_versions(versioned.engine, versioned.ledger, table, asset, CONTRACT, old, new, limit)


def test_each_publish_is_the_next_version_and_says_what_it_did(versioned: VersionedTable) -> None:
    """What `versions` shows is read from the table alone: it is right without a ledger, too."""
    assert versioned.publish({JAN: {1: 10, 2: 20}, FEB: {3: 30}}).number == 1
    assert versioned.publish({JAN: {1: 11}}).number == 2

    newest, first = versioned.versions
    assert (newest.number, newest.rows, newest.rows_added, newest.current) == (2, 2, -1, True)
    assert (first.number, first.rows, first.rows_added, first.current) == (1, 3, 3, False)
    assert (set(newest.partitions), newest.run_id) == ({JAN}, "run-2")
    assert versioned.ledger_versions() == [1, 2]


def test_numbers_have_no_gap_and_no_double_under_parallel_writers(versioned: VersionedTable) -> None:
    """A number decided before the compare-and-swap would be given to two rebased publishes at once."""
    months = [f"2024-{m:02d}" for m in range(1, WRITERS + 1)]
    together = threading.Barrier(WRITERS)

    def write(session: VersionedTable, month: str) -> list[int | None]:
        batch = session.stage({month: {int(month[-1]): 1}})
        together.wait(60)
        return [batch.publish().number, session.publish({month: {int(month[-1]): 2}}).number]

    with ExitStack() as sessions, ThreadPoolExecutor(WRITERS) as pool:
        writers = [sessions.enter_context(versioned.another()) for _ in months]
        given = [number for numbers in pool.map(write, writers, months) for number in numbers]

    every = list(range(1, 2 * WRITERS + 1))
    assert sorted(n for n in given if n) == every
    assert [v.number for v in versioned.versions] == every[::-1]
    assert versioned.ledger_versions() == every


def test_a_table_from_before_versions_is_counted_and_goes_on(versioned: VersionedTable) -> None:
    """An upgrade must not start again at 1 while older snapshots can be read."""
    with mock.patch.object(commit, "numbered", lambda _table, summary: dict(summary)):
        versioned.publish({JAN: {1: 1}})
        versioned.publish({JAN: {1: 2}})
    assert [v.number for v in versioned.versions] == [2, 1]

    assert versioned.publish({JAN: {1: 3}}).number == 3
    forget(versioned, 1)

    assert [v.number for v in versioned.versions] == [3, 2]
    assert versioned.contents(find_version(versioned.table, "x", "2").snapshot_id) == {JAN: {1: 2}}


def test_rearranging_files_makes_no_version(versioned: VersionedTable) -> None:
    """Compaction keeps the number: its content is the version's."""
    versioned.publish({JAN: {1: 1}})
    table = versioned.table
    producer, updates = build_snapshot(table, add=[], delete=[], summary={})
    compare_and_swap(versioned.store.catalog, table, (), updates, producer)

    assert [(v.number, v.snapshot_id) for v in versioned.versions] == [(1, producer.snapshot_id)]
    assert head_number(versioned.table) == 1
    assert versioned.publish({JAN: {1: 2}}).number == 2


def test_a_release_is_a_tag_that_outlives_its_version(versioned: VersionedTable) -> None:
    """A closed period is read by its name for years, by any engine, after the versions around it have expired."""
    catalog, asset, identifier = versioned.store.catalog, versioned.address.asset, versioned.address.identifier
    for value in range(1, 5):
        versioned.publish({JAN: {1: value}})
    assert release(catalog, identifier, asset, "close-2024-01", "2", dry_run=True).number == 2
    assert set(versioned.table.refs()) == {"main"}

    named = release(catalog, identifier, asset, "close-2024-01", "2")
    assert release(catalog, identifier, asset, "close-2024-01", "2") == find_version(versioned.table, asset, "2")
    forget(versioned, 1, 3)

    assert versioned.table.refs()["close-2024-01"].snapshot_ref_type == "tag"
    assert versioned.contents(named.snapshot_id) == {JAN: {1: 2}}
    assert [(v.number, v.names) for v in versioned.versions] == [(4, ()), (2, ("close-2024-01",))]
    with pytest.raises(PermanentError, match=r"'close-2024-01' names version 2 already"):
        release(catalog, identifier, asset, "close-2024-01", "current")
    with pytest.raises(PermanentError, match=r"version 3 has expired\. Available: 2, 4, close-2024-01 = 2\."):
        find_version(versioned.table, asset, "3")
    with pytest.raises(PermanentError, match="version 9 does not exist"):
        find_version(versioned.table, asset, "9")
    with pytest.raises(PermanentError, match=r"no release 'close-2024-1'; did you mean 'close-2024-01'"):
        find_version(versioned.table, asset, "close-2024-1")


@pytest.mark.parametrize("name", ["main", "current", "7", "v7", "wap-x", "", "a b", "-a", "ü", "a/b", "x" * 64])
def test_a_name_that_could_be_taken_for_something_else_is_refused(versioned: VersionedTable, name: str) -> None:
    """`rollback --to 7` must mean the version."""
    versioned.publish({JAN: {1: 1}})
    with pytest.raises(PermanentError, match="can't name a release"):
        release(versioned.store.catalog, versioned.address.identifier, versioned.address.asset, name, "current")


def test_a_diff_is_what_sql_finds(versioned: VersionedTable) -> None:
    """Against a comparison of both contents in Python, over random content with moves, gaps and equal partitions."""
    seeded = random.Random(7)
    old = {m: {k: seeded.randint(1, 9) for k in seeded.sample(range(n * 100, n * 100 + 90), 60)} for n, m in
           enumerate((JAN, FEB))}  # fmt: skip
    versioned.publish({**old, MAR: {900: 1}})
    new = {m: {k: seeded.randint(1, 9) for k in seeded.sample(list(rows), 40)} for m, rows in old.items()}
    moved = next(k for k in old[JAN] if k not in new[JAN])
    new[FEB][moved] = old[JAN][moved]
    versioned.publish({**new, "2024-04": {990: 5}})

    found = diff(versioned, "1", "current")

    expected = set()
    for month in (JAN, FEB, "2024-04"):
        before, after = old.get(month, {}), {**new, "2024-04": {990: 5}}[month]
        for key in before.keys() | after.keys():
            if before.get(key) != after.get(key):
                expected.add((month, ADDED if key not in before else REMOVED if key not in after else CHANGED, key))
    assert {(r.partition, r.kind, r.key["id"]) for r in found.rows} == expected
    assert found.differing_rows == len(expected)
    assert found.equal_partitions == 1
    by_kind = {(p.partition, k): n for p in found.partitions
               for k, n in ((ADDED, p.added), (REMOVED, p.removed), (CHANGED, p.changed)) if n}  # fmt: skip
    assert by_kind == {pair: sum(e[:2] == pair for e in expected) for pair in {e[:2] for e in expected}}
    changed = next(r for r in found.rows if r.kind == CHANGED)
    assert changed.changes == {"value": (old[changed.partition][changed.key["id"]],
                                         new[changed.partition][changed.key["id"]])}  # fmt: skip
    assert len(diff(versioned, "1", "2", limit=3).rows) == 3
    assert diff(versioned, "2", "2").partitions == []


def test_a_diff_reads_only_partitions_that_differ(versioned: VersionedTable) -> None:
    """Comparing two closes of a year must not read the year: here the equal partition can't even be read."""
    versioned.publish({JAN: {1: 1}, FEB: {2: 2}})
    versioned.publish({JAN: {1: 3}})
    (path,) = [f for f in versioned.table.inspect.files()["file_path"].to_pylist() if FEB in f]
    versioned.table.io.delete(path)

    assert [p.partition for p in diff(versioned, "1", "2").partitions] == [JAN]
    versioned.publish({FEB: {2: 3}})  # the head is whole again


def test_files_that_somebody_deleted_are_named_with_what_is_left(versioned: VersionedTable) -> None:
    """A version whose snapshot is there and whose files are not is no crash: the versions to use instead are named."""
    versioned.publish({JAN: {1: 1}})
    (path,) = versioned.table.inspect.files()["file_path"].to_pylist()
    versioned.publish({JAN: {1: 2}})
    versioned.publish({JAN: {1: 3}})
    versioned.table.io.delete(path)

    with pytest.raises(PermanentError, match=r"files of version 1 or 3 are gone .*Available: 2\."):
        diff(versioned, "1", "3")
    with pytest.raises(PermanentError, match=r"files of version 1 are gone .*Available: 2-3\."):
        versioned.roll_back(1)
    assert versioned.contents() == {JAN: {1: 3}}
    assert versioned.pinned == set()
