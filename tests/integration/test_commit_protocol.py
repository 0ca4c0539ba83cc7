"""Stage, publish, alias and fence on a real Iceberg table: what every reader sees after every order of events (M7).

What happens *during* a commit is in test_commit_races.py; a model of the protocol in tests/property.
"""

import pytest

from etl_resources.conventions import branch_name
from etl_resources.errors import FencedError, PermanentError, TransientError
from etl_resources.tables.data_files import data_files
from etl_resources.tables.head import read_head
from etl_resources.tables.publish import drop_branch, find_published
from tests.integration.local_table import EMPTY, FEB, IDENTIFIER, JAN, MAR, LocalTable, token_of

pytest_plugins = ["tests.integration.local_table"]


def test_what_is_staged_is_seen_by_nobody(table: LocalTable) -> None:
    """Staging is before the audit: main must not move."""
    table.commit("a", 1, {JAN: 10})
    table.stage("b", 2, {JAN: 20, FEB: 20})
    assert table.contents() == {JAN: 10}
    assert table.branches() == {"b"}


def test_a_publish_onto_an_unmoved_head_is_a_fast_forward(table: LocalTable) -> None:
    """The audited snapshot itself becomes main; its branch is dropped in the same commit."""
    staged = table.stage("a", 1, {JAN: 10, FEB: 11})
    outcome = table.publish("a", staged)
    assert (outcome.how, outcome.snapshot_id, outcome.tries) == ("fast_forward", staged, 1)
    assert {p.partition: p.epoch for p in outcome.published} == {JAN: 1, FEB: 1}
    assert table.contents() == {JAN: 10, FEB: 11}
    assert table.branches() == set()


def test_a_publish_replaces_a_partition_whole(table: LocalTable) -> None:
    """Overwrite, not append; the partitions beside it keep their files."""
    table.commit("a", 1, {JAN: 10, FEB: 11})
    untouched = table.files(FEB)
    table.commit("b", 2, {JAN: 20})
    assert table.contents() == {JAN: 20, FEB: 11}
    assert table.files(FEB) == untouched


def test_a_replaced_file_is_found_whatever_pyiceberg_thinks_of_its_manifest(
    table: LocalTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its evaluator is one object for all threads: one reads the bounds of another's manifest and skips its own."""
    table.commit("a", 1, {JAN: 1, FEB: 1})
    monkeypatch.setattr("pyiceberg.table.update.snapshot.manifest_evaluator", lambda *_: lambda _manifest: False)

    table.commit("b", 2, {JAN: 2})

    assert table.contents() == {JAN: 2, FEB: 1}


def test_a_publish_onto_a_moved_head_is_rebased_without_rewriting_data(table: LocalTable) -> None:
    """Another partition was published in between: both stay, and the audited files are those that are published."""
    table.commit("a", 1, {JAN: 10, FEB: 10})
    staged = table.stage("b", 2, {JAN: 20})
    table.commit("c", 3, {FEB: 30, MAR: 30})
    outcome = table.publish("b", staged)
    assert outcome.how == "rebase"
    assert table.contents() == {JAN: 20, FEB: 30, MAR: 30}
    assert all("epoch=2-" in f for f in table.files(JAN))
    assert find_published(table.table, "b") is not None
    assert table.branches() == set()


def test_a_zombie_is_fenced(table: LocalTable) -> None:
    """W1 staged old inputs and slept; W2 published newer ones. W1's content must not come back."""
    asleep = table.stage("w1", 5, {JAN: 50})
    table.commit("w2", 6, {JAN: 60})
    outcome = table.publish("w1", asleep)
    assert (outcome.how, outcome.published, outcome.fenced) == ("fenced", (), (JAN,))
    assert table.contents() == {JAN: 60}
    assert table.branches() == set()


def test_only_the_overtaken_partitions_of_a_zombie_are_fenced(table: LocalTable) -> None:
    """Its other partitions are the newest there are, and are published."""
    asleep = table.stage("w1", 5, {JAN: 50, FEB: 50})
    table.commit("w2", 6, {JAN: 60})
    outcome = table.publish("w1", asleep)
    assert (outcome.how, outcome.fenced) == ("rebase", (JAN,))
    assert table.contents() == {JAN: 60, FEB: 50}


def test_a_writer_with_the_newer_epoch_wins_whoever_staged_first(table: LocalTable) -> None:
    """Epochs order attempts, not the clock of staging or publishing."""
    newer = table.stage("w2", 6, {JAN: 60})
    table.commit("w1", 5, {JAN: 50})
    assert table.publish("w2", newer).how == "rebase"
    assert table.contents() == {JAN: 60}


def test_inputs_that_revert_are_published_again(table: LocalTable) -> None:
    """A → B → A: the third publish has the first one's token and must not be taken for published."""
    for attempt, epoch, value, token in (("t1", 1, 10, "A"), ("t2", 2, 20, "B"), ("t3", 3, 10, "A")):
        outcome = table.commit(attempt, epoch, {JAN: value}, token=token_of(token))
        assert outcome.how == "fast_forward"
    assert table.contents() == {JAN: 10}
    assert read_head(table.table)[JAN].token_prefix == token_of("A")[:16]


@pytest.mark.parametrize(("first", "second", "seen"), [("a", "b", 66), ("b", "a", 66)])
def test_an_attempt_publishes_what_it_audited(table: LocalTable, first: str, second: str, seen: int) -> None:
    """Two attempts of one token with different content (a broken engine): neither can publish the other's rows."""
    ids = {
        "a": table.stage("a", 5, {JAN: 55}, token=token_of("same")),
        "b": table.stage("b", 6, {JAN: 66}, token=token_of("same")),
    }
    table.publish(first, ids[first])
    assert table.contents() == {JAN: 55 if first == "a" else 66}
    table.publish(second, ids[second])
    assert table.contents() == {JAN: seen}
    with pytest.raises(FencedError, match=r"branch wap-a is gone or moved"):
        table.publish("a", ids["b"])


def test_an_attempt_cannot_be_staged_twice(table: LocalTable) -> None:
    """What was audited could be exchanged under the auditor."""
    table.stage("a", 1, {JAN: 10})
    with pytest.raises(FencedError, match="branch wap-a exists already"):
        table.stage("a", 2, {JAN: 20})


def test_an_emptied_partition_keeps_its_epoch(table: LocalTable) -> None:
    """Without the tombstone there would be no epoch, and a zombie would bring the rows back."""
    table.commit("a", 1, {JAN: 10})
    asleep = table.stage("zombie", 2, {JAN: 20})
    table.commit("b", 3, {JAN: EMPTY})
    assert table.contents() == {}
    assert table.epochs() == {JAN: 3}
    assert table.publish("zombie", asleep).how == "fenced"
    assert table.contents() == {}
    table.commit("c", 4, {JAN: 40})
    assert table.contents() == {JAN: 40}
    assert len(table.files(JAN)) == 1


def test_an_alias_raises_the_epoch_and_keeps_the_files(table: LocalTable) -> None:
    """Equal content is not rewritten (early cut-off), yet a zombie from before must not overtake it."""
    table.commit("a", 1, {JAN: 10})
    data = table.files(JAN)
    asleep = table.stage("zombie", 2, {JAN: 20})
    table.commit("b", 3, {JAN: 10}, alias_of={JAN: 1})
    assert (table.contents(), table.epochs()) == ({JAN: 10}, {JAN: 3})
    assert read_head(table.table)[JAN].data_paths == data
    assert table.publish("zombie", asleep).how == "fenced"
    assert table.contents() == {JAN: 10}


def test_a_second_alias_replaces_the_first_ones_marker(table: LocalTable) -> None:
    """A month that is recomputed nightly without a change must not collect a file a night."""
    table.commit("a", 1, {JAN: 10})
    for epoch in (2, 3, 4):
        table.commit(f"b{epoch}", epoch, {JAN: 10}, alias_of={JAN: epoch - 1})
    assert table.epochs() == {JAN: 4}
    assert len(table.files(JAN)) == 2
    assert table.contents() == {JAN: 10}
    table.commit("c", 5, {JAN: 50})
    assert (table.contents(), len(table.files(JAN))) == ({JAN: 50}, 1)


def test_an_alias_of_an_empty_partition_stays_empty(table: LocalTable) -> None:
    """Tombstone and marker look alike: neither may be lost, nor pile up."""
    table.commit("a", 1, {JAN: EMPTY})
    for epoch in (2, 3, 4):
        table.commit(f"b{epoch}", epoch, {JAN: EMPTY}, alias_of={JAN: epoch - 1})
    assert (table.contents(), table.epochs()) == ({}, {JAN: 4})
    assert len(table.files(JAN)) <= 2


@pytest.mark.parametrize("moved", ["before staging", "after staging"])
def test_an_alias_whose_base_moved_is_computed_again(table: LocalTable, moved: str) -> None:
    """It said "equal to epoch 1"; epoch 2 has other content, to which a marker would lend its version."""
    table.commit("a", 1, {JAN: 10})
    if moved == "before staging":
        table.commit("b", 2, {JAN: 20})
    staged = table.stage("alias", 3, {JAN: 10, FEB: 30}, alias_of={JAN: 1})
    if moved == "after staging":
        table.commit("b", 2, {JAN: 20})
    with pytest.raises(TransientError, match=rf"{JAN} changed since this attempt compared its content. Run again"):
        table.publish("alias", staged)
    assert (table.contents(), table.epochs()) == ({JAN: 20}, {JAN: 2})


def test_an_alias_that_was_overtaken_is_fenced_and_the_rest_goes_on(table: LocalTable) -> None:
    """A newer epoch than the alias's needs no proof of its base."""
    table.commit("a", 1, {JAN: 10})
    staged = table.stage("alias", 3, {JAN: 10, FEB: 30}, alias_of={JAN: 1})
    table.commit("b", 4, {JAN: 40})
    outcome = table.publish("alias", staged)
    assert (outcome.fenced, table.contents()) == ((JAN,), {JAN: 40, FEB: 30})


def test_a_dropped_branch_is_a_fence(table: LocalTable) -> None:
    """Recovery declared the attempt dead: when its process wakes, it may not publish any more."""
    staged = table.stage("a", 1, {JAN: 10})
    assert drop_branch(table.catalog, IDENTIFIER, "a") is True
    assert drop_branch(table.catalog, IDENTIFIER, "a") is False
    with pytest.raises(FencedError, match="may no longer publish"):
        table.publish("a", staged)
    assert table.contents() == {}


def test_partitions_that_failed_their_audit_are_left_out(table: LocalTable) -> None:
    """The good ones are published, the failed one stays as it was, and its epoch is not used up on main."""
    table.commit("a", 1, {JAN: 10, FEB: 10})
    staged = table.stage("b", 2, {JAN: 20, FEB: 20, MAR: 20})
    outcome = table.publish("b", staged, good=[JAN, MAR])
    assert {p.partition for p in outcome.published} == {JAN, MAR}
    assert table.contents() == {JAN: 20, FEB: 10, MAR: 20}
    assert table.epochs() == {JAN: 2, FEB: 1, MAR: 2}


def test_publishing_nothing_good_changes_nothing(table: LocalTable) -> None:
    """The branch is dropped all the same: its files are nobody's."""
    table.commit("a", 1, {JAN: 10})
    head = table.table.current_snapshot()
    table.publish("b", table.stage("b", 2, {JAN: 20}), good=[])
    assert table.table.current_snapshot() == head
    assert table.branches() == set()


def test_what_an_attempt_published_is_read_back_from_main(table: LocalTable) -> None:
    """How recovery tells a publish from a crash before it; staging alone is no publish."""
    table.commit("a", 1, {JAN: 10})
    staged = table.stage("b", 2, {JAN: 20, FEB: 20})
    table.commit("c", 3, {JAN: 30})
    assert find_published(table.table, "b") is None
    table.publish("b", staged)
    table.commit("d", 4, {MAR: 40})
    found = find_published(table.table, "b")
    assert found is not None
    assert [(p.partition, p.epoch, p.version) for p in found.published] == [(FEB, 2, "v20")]
    first = find_published(table.table, "a")
    assert first is not None
    assert [p.partition for p in first.published] == [JAN]


def test_a_partition_published_often_stays_cheap(table: LocalTable) -> None:
    """Manifests without live files are dropped: commits slow down with them otherwise."""
    for epoch in range(1, 13):
        table.commit(f"a{epoch}", epoch, {JAN: epoch, FEB: epoch})
    head = table.table.current_snapshot()
    assert head is not None
    assert len(head.manifests(table.table.io)) <= 2
    assert table.contents() == {JAN: 12, FEB: 12}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (f"(null, date '{JAN}-05', 1)", "nulls in required columns order_id"),
        (f"(1, date '{FEB}-05', 1)", "rows of another partition"),
        (f"(1, date '{JAN}-05', 1), (2, date '{FEB}-05', 1)", "rows of several partitions"),
        (f"(1, date '{JAN}-05', 1), (2, null, 1)", "nulls in required columns order_date"),
    ],
)
def test_a_file_that_breaks_its_partitions_promise_is_refused(table: LocalTable, rows: str, message: str) -> None:
    """Before anything is staged: readers prune by what the table says of the file."""
    path = table.write(JAN, 1, token_of("a"), 10)
    table.copy(
        "select order_id::bigint as order_id, order_date::date as order_date, amount::decimal(15,2) as amount "
        f"from (values {rows}) v(order_id, order_date, amount)",
        path,
    )
    with pytest.raises(PermanentError, match=rf"Partition {JAN}: .*{message}"):
        data_files(table.table.io, table.table.metadata, [(JAN, path)])


def test_a_reader_of_an_older_snapshot_is_not_disturbed(table: LocalTable) -> None:
    """Inputs are pinned at planning; a publish during the run must not change what is read."""
    pinned = table.commit("a", 1, {JAN: 10, FEB: 10}).snapshot_id
    table.commit("b", 2, {JAN: 20})
    assert table.contents(pinned) == {JAN: 10, FEB: 10}
    assert {p: h.epoch for p, h in read_head(table.table, pinned).items()} == {JAN: 1, FEB: 1}


def test_attempts_are_told_apart_from_other_branches(table: LocalTable) -> None:
    """A person's branch or tag is none of recovery's business."""
    with table.table.manage_snapshots() as manage:
        snapshot = table.table.current_snapshot()
        assert snapshot is not None
        manage.create_branch(snapshot.snapshot_id, "a")
    assert drop_branch(table.catalog, IDENTIFIER, "a") is False
    assert branch_name("a") not in table.table.refs()
    assert "a" in table.table.refs()
