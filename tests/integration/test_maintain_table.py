"""Maintenance of one table on real Postgres and S3: what it may take away, and what it must spare."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from etl_resources.errors import FencedError
from etl_resources.ledger.liveness import live_attempts
from etl_resources.tables import compaction
from etl_resources.tables.commit import ConflictError
from etl_resources.tables.compaction import Rewrite, compact, plan_rewrites
from etl_resources.tables.expiry import Retention, expirable, expire
from etl_resources.tables.head import read_head
from etl_resources.tables.maintenance import MaintenancePolicy
from etl_resources.tables.metadata_files import referenced_metadata
from etl_resources.tables.orphans import referenced_paths
from etl_resources.tables.publish import drop_branch
from etl_resources.tables.version_numbers import head_number
from tests.conftest import BUCKET
from tests.fault.scenarios import until
from tests.integration.local_table import FEB, JAN, MAR
from tests.integration.store_table import EAGER, ROWS, StoreTable, store_table

TARGET = EAGER.file_bytes
DAY_S = 86_400.0


@pytest.fixture
def table(stack: object) -> Iterator[StoreTable]:
    with store_table(BUCKET) as made:
        yield made


def test_small_files_and_markers_become_one_file_of_the_same_version(table: StoreTable) -> None:
    """Dependants, planner and verify know a partition by epoch, token and version: none may change."""
    table.publish({JAN: 1, FEB: 2}, files=3)
    table.publish({JAN: 1}, alias=True)
    table.publish({MAR: 3})
    before, known = table.contents(), table.ledger.current(table.address.asset)
    heads, number = read_head(table.table), head_number(table.table)
    assert [len(f) for f in table.files().values()] == [4, 3, 1]

    assert table.maintain().compacted == {JAN: 4, FEB: 3}

    after = read_head(table.table)
    assert [len(f) for f in table.files().values()] == [1, 1, 1]
    assert table.contents() == before == {JAN: (1, 3 * ROWS), FEB: (2, 3 * ROWS), MAR: (3, ROWS)}
    assert {p: (h.epoch, h.token_prefix) for p, h in after.items()} == {
        p: (h.epoch, h.token_prefix) for p, h in heads.items()
    }
    assert table.ledger.current(table.address.asset) == known
    assert head_number(table.table) == number
    assert table.branches() == []
    again = table.maintain()
    assert (again.compacted, again.snapshots_expired, again.data_files) == ({}, 0, 0)


def test_a_partition_of_large_files_is_left_alone(table: StoreTable) -> None:
    """Rewriting a large file to be rid of a marker costs more than it gives."""
    table.publish({JAN: 1}, files=2)
    size = max(f.file_size_in_bytes for f in read_head(table.table)[JAN].files)
    assert plan_rewrites(read_head(table.table), size) == []
    (rewrite,) = plan_rewrites(read_head(table.table), 2 * size)
    assert len(rewrite.files) == 2


def test_a_publish_after_compaction_replaces_the_compacted_file(table: StoreTable) -> None:
    """Also one that was staged before it, whose head is gone then."""
    table.publish({JAN: 1, FEB: 2}, files=2)
    with store_table(BUCKET, table.dataset) as writer:
        staged = writer.stage({JAN: 7})
        alias = writer.stage({FEB: 2}, alias=True)
        table.maintain()
        assert staged.publish().how == "rebase"
        assert alias.publish().how == "rebase"
    assert table.contents() == {JAN: (7, ROWS), FEB: (2, 2 * ROWS)}
    assert table.maintain().compacted == {FEB: 2}
    assert table.contents() == {JAN: (7, ROWS), FEB: (2, 2 * ROWS)}


def test_a_partition_that_is_published_meanwhile_is_left_out(
    table: StoreTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer content wins, the others are compacted all the same."""
    table.publish({JAN: 1, FEB: 2}, files=2)
    rewrite = compaction._rewrite

    def publish_first(*arguments: object) -> tuple[str, ...]:
        paths = rewrite(*arguments)  # type: ignore[arg-type]
        if table.contents()[JAN][0] == 1:
            with store_table(BUCKET, table.dataset) as writer:
                writer.publish({JAN: 9})
        return paths

    monkeypatch.setattr(compaction, "_rewrite", publish_first)
    done = table.maintain()
    assert done.compacted == {FEB: 2}
    assert any(JAN in note for note in done.notes)
    assert table.contents() == {JAN: (9, ROWS), FEB: (2, 2 * ROWS)}


def test_a_compaction_that_recovery_took_for_dead_commits_nothing(
    table: StoreTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have slept until its files were deleted as orphans: its branch is the fence."""
    table.publish({JAN: 1}, files=2)
    files, rewrite = table.files(), compaction._rewrite

    def fenced(*arguments: object) -> tuple[str, ...]:
        paths = rewrite(*arguments)  # type: ignore[arg-type]
        (branch,) = table.branches()
        assert drop_branch(table.catalog, table.address.identifier, branch.removeprefix("wap-"))
        return paths

    monkeypatch.setattr(compaction, "_rewrite", fenced)
    with pytest.raises(FencedError, match="may no longer commit"):
        table.maintain()
    assert table.files() == files
    monkeypatch.undo()
    assert table.maintain().compacted == {JAN: 2}
    assert len(table.objects("data")) == 3  # the old files are the previous version's; the fenced file is gone


def test_a_file_of_other_content_is_not_published(table: StoreTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof is the content hash of what was written, reread."""
    table.publish({JAN: 1}, files=2)
    before, contents = table.files(), iter([(4, "a"), (4, "b")])
    monkeypatch.setattr(compaction, "_content", lambda *_: next(contents))
    heads = plan_rewrites(read_head(table.table), TARGET)
    with pytest.raises(Exception, match="hold 4 rows with hash b, the files that they replace 4 with a"):
        compact(table.catalog, table.ledger, table.engine, table.address, heads)
    assert table.files() == before
    assert table.branches() == []


def test_a_reader_within_the_guard_reads_all_of_what_it_pinned(table: StoreTable) -> None:
    """Its snapshot is superseded, its files are rewritten, and it reads on."""
    table.publish({JAN: 1, FEB: 2}, files=2)
    with store_table(BUCKET, table.dataset) as reader:
        pinned = reader.store.pin(reader.ledger, reader.address)
        table.publish({JAN: 5})
        guarded = replace(EAGER, retention=replace(EAGER.retention, guard_s=3600))
        table.maintain(guarded)
        table.maintain(guarded)
        assert reader.read({p: h.data_paths for p, h in pinned.heads.items()}) == {
            JAN: (1, 2 * ROWS),
            FEB: (2, 2 * ROWS),
        }
        assert pinned.snapshot_id in {s.snapshot_id for s in table.table.snapshots()}
    assert table.contents() == {JAN: (5, ROWS), FEB: (2, 2 * ROWS)}


def test_what_an_attempt_under_way_pinned_stays_however_long_it_takes(table: StoreTable) -> None:
    """No guard is long enough for every run: what was current since the oldest live attempt began is kept."""
    table.publish({JAN: 1})
    with store_table(BUCKET, table.dataset) as writer, store_table(BUCKET) as derived:
        pinned = writer.store.pin(writer.ledger, writer.address)
        derived.ledger.open_attempt(derived.address.asset, "run-live")
        table.publish({JAN: 2})
        done = table.maintain()
        assert writer.read({JAN: pinned.heads[JAN].data_paths}) == {JAN: (1, ROWS)}
        assert any("kept what was current since" in note for note in done.notes)
    table.maintain()
    assert len(table.objects("data")) == 1


def test_tags_and_branches_survive_with_all_their_files(table: StoreTable) -> None:
    """A release is for ever; a staged attempt whose writer lives will publish."""
    table.publish({JAN: 1}, files=2)
    table.table.manage_snapshots().create_tag(table.table.metadata.current_snapshot_id or 0, "closed").commit()
    for value in (2, 3, 4):
        table.publish({JAN: value})
    with store_table(BUCKET, table.dataset) as writer:
        staged = writer.stage({JAN: 9, FEB: 8})
        table.maintain()
        assert table.contents("closed") == {JAN: (1, 2 * ROWS)}
        assert staged.publish().published
    assert table.contents() == {JAN: (9, ROWS), FEB: (8, ROWS)}
    table.maintain()
    assert table.contents("closed") == {JAN: (1, 2 * ROWS)}
    assert set(table.objects("data")) == referenced_paths(table.table)
    assert set(table.objects("metadata")) == referenced_metadata(table.table)


def test_a_dead_attempts_branch_and_files_go(table: StoreTable) -> None:
    """Maintenance settles first: what a dead writer staged can never be published."""
    table.publish({JAN: 1})
    with store_table(BUCKET, table.dataset) as writer:
        writer.stage({JAN: 9})
    assert len(table.branches()) == 1
    mine = table.address.asset
    until(
        lambda: mine not in {a.asset for a in live_attempts(table.ledger.connection)},
        "the server knows that the writer is gone",
    )
    table.maintain()
    assert table.branches() == []
    assert len(table.objects("data")) == 1
    assert table.contents() == {JAN: (1, ROWS)}


def test_a_snapshot_tagged_at_the_last_moment_is_not_expired(table: StoreTable) -> None:
    """Removing a snapshot removes its tags: the commit must see a tag that came after the decision."""
    for value in (1, 2, 3):
        table.publish({JAN: value})
    decided = table.table
    gone = expirable(decided, EAGER.retention, now=datetime.now(UTC), pinned_since=None)
    assert len(gone) == 3  # the empty snapshot and two versions
    table.table.manage_snapshots().create_tag(gone[-1], "late").commit()
    with pytest.raises(ConflictError):
        expire(table.catalog, decided, gone)
    table.maintain()
    assert table.contents("late") == {JAN: (2, ROWS)}


def test_versions_are_kept_by_number_age_and_guard(table: StoreTable) -> None:
    """The newest ones always, young ones up to a bound, and nothing that a reader may still hold."""
    for value in range(1, 7):
        table.publish({JAN: value})
    now, found = datetime.now(UTC), table.table

    def left(after_s: float, **rules: float) -> int:
        retention = replace(Retention(keep_versions=2, keep_s=7 * DAY_S, max_versions=4, guard_s=3600), **rules)  # type: ignore[arg-type]
        moment = now + timedelta(seconds=after_s)
        return len(found.snapshots()) - len(expirable(found, retention, now=moment, pinned_since=None))

    assert left(0) == 7
    assert left(2 * 3600) == 4
    assert left(2 * 3600, max_versions=50) == 7
    assert left(8 * DAY_S) == 2
    assert left(8 * DAY_S, keep_versions=5) == 5


def test_a_dry_run_tells_and_changes_nothing(table: StoreTable) -> None:
    """Objects, metadata and ledger are the same before and after."""
    for value in (1, 2, 3):
        table.publish({JAN: value, FEB: value}, files=2)

    def everything() -> tuple[object, ...]:
        rows = table.ledger.connection.execute("select * from etl.intents order by attempt").fetchall()
        return table.objects("data"), table.objects("metadata"), table.table.metadata_location, rows

    before = everything()
    told = table.maintain(dry_run=True)
    assert everything() == before
    assert told.compacted == {JAN: 2, FEB: 2}
    assert told.snapshots_expired == table.maintain().snapshots_expired == 3


def test_sixty_publishes_leave_bounded_metadata(table: StoreTable) -> None:
    """Metadata that grows with every publish ends as a table that nobody can open."""
    policy = MaintenancePolicy(Retention(keep_versions=5, keep_s=0, max_versions=10, guard_s=0), TARGET)
    sizes = []
    for n in range(1, 61):
        table.publish({f"2024-{n % 12 + 1:02d}": n})
        if n % 20 == 0:
            table.maintain(policy)
            sizes.append(sum(table.objects("metadata").values()))
    snapshot = table.table.current_snapshot()
    assert snapshot is not None
    assert len(snapshot.manifests(table.table.io)) < 12
    assert len(table.table.snapshots()) == 5
    assert set(table.objects("data")) == referenced_paths(table.table)
    assert set(table.objects("metadata")) == referenced_metadata(table.table)
    assert sizes[2] < 1.2 * sizes[1] < 2_000_000, sizes
    assert len(table.contents()) == 12


def test_rewrites_of_one_partition_stay_in_one_commit() -> None:
    """Otherwise its marker could go before the file that carries its epoch comes."""
    some = [Rewrite(p, 1, "a", ()) for p in (JAN, JAN, FEB)]
    assert list(compaction.batches(some)) == [some]
