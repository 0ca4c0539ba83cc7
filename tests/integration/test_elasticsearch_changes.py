"""An upserted target writes what differs, and nothing that a late request could undo (against a real server)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from etl_resources.contract import Contract, ContractColumn
from etl_resources.sinks import elasticsearch_changes, elasticsearch_pages
from etl_resources.sinks.elasticsearch_holding import Holding
from etl_resources.sinks.elasticsearch_names import documents
from etl_resources.sinks.elasticsearch_upsert import UpsertingSink
from tests import search_target
from tests.search_target import CONTRACT, FORMER, Rows, SearchTarget, serve_through

pytest_plugins = ["tests.search_target"]

MakeTarget = Callable[[str], SearchTarget]
KILL = {"action": "kill"}


def written_last(target: SearchTarget) -> int:
    """Documents that the newest attempt wrote."""
    newest = max(s.epoch for s in target.sink.served().values())
    found = target.sink.client.count(index=documents(target.name), query={"term": {"etl_epoch": newest}})
    return int(found["count"])


def test_only_documents_that_differ_are_written(make_target: MakeTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """New, changed and refused rows, and rows that are gone: over many pages each document is looked at."""
    monkeypatch.setattr(elasticsearch_pages, "PAGE_DOCUMENTS", 50)
    target = make_target("upsert")
    target.serve({"all": Rows(700, 3)})
    assert written_last(target) == 700

    changed = {"all": Rows(710, 3, moved_out=4)}
    assert target.serve(changed).published == ["all"]
    target.prove_whole(changed)
    assert written_last(target) == 10

    refused = {"all": Rows(730, 3, bad=9, moved_out=4)}  # rows 4 to 8: their former documents go
    assert target.serve(refused).published == ["all"]
    target.prove_whole(refused)
    assert (written_last(target), len(target.dead_letters("all"))) == (20, 5)

    mended = {"all": Rows(730, 3, moved_out=4)}
    assert target.serve(mended).published == ["all"]
    target.prove_whole(mended)
    assert (written_last(target), target.dead_letters("all")) == (5, [])


def test_where_most_of_what_changed_is_refused_the_whole_partition_tells(make_target: MakeTarget) -> None:
    """Three rows of three may be bad, or an ingest pipeline be gone, for which their documents mustn't be deleted."""
    target = make_target("upsert")
    target.serve({"all": Rows(40, 3)})

    bad = {"all": Rows(40, 3, bad=3)}
    assert target.serve(bad).published == ["all"]
    target.prove_whole(bad)
    assert (written_last(target), len(target.dead_letters("all"))) == (37, 3)

    client, index = target.sink.client, documents(target.name)
    client.indices.put_settings(index=index, settings={"default_pipeline": "gone"})
    more = {"all": Rows(43, 3, bad=3)}
    done = target.serve(more)
    assert "43 of 43 documents were refused" in done.errors[0]
    client.indices.put_settings(index=index, settings={"default_pipeline": "_none"})
    assert target.serve(more).published == ["all"]
    target.prove_whole(more)


def test_rows_that_come_back_and_move_are_served_once(make_target: MakeTarget) -> None:
    """A, B, A; and rows that move between two partitions, of which only one document may be left."""
    target = make_target("upsert")
    a: Mapping[str, Rows] = {"2024-01": Rows(120, 3), "2024-02": Rows(80, 5)}
    moved = {"2024-01": Rows(120, 3, moved_in=6, moved_from="2024-02"), "2024-02": Rows(80, 5, moved_out=6)}
    b = {"2024-01": Rows(120, 7), "2024-02": Rows(85, 5)}

    for rows, most in ((a, 200), (moved, 6), (a, 6), (b, 125), (a, 120)):
        done = target.serve(rows)
        assert not done.errors, done
        target.prove_whole(rows)
        assert written_last(target) <= most, (rows, written_last(target))


def test_what_somebody_changed_in_the_index_is_mended(make_target: MakeTarget) -> None:
    """What is left alone was read now: a value, a document that is gone, one that was taken out of its partition."""
    target = make_target("upsert")
    target.serve({"all": Rows(60, 3)})
    client, index = target.sink.client, documents(target.name)
    one, two, three = (h["_id"] for h in client.search(index=index, size=3)["hits"]["hits"])
    client.update(index=index, id=one, doc={"pieces": 4711})
    client.delete(index=index, id=two)
    client.update(index=index, id=three, doc={"etl_partition": "2023-01"}, refresh=True)

    target.serve({"all": Rows(61, 3)})

    target.prove_whole({"all": Rows(61, 3)})
    assert written_last(target) == 4


def never_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents aren't read to compare them."""
    monkeypatch.setattr(elasticsearch_changes, "_read_documents", mock.Mock(side_effect=AssertionError("read")))


def test_an_index_that_nobody_touched_is_known_without_being_read(
    make_target: MakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A, B, A: rows that changed, came, and are gone, by the rows of the version that was served before."""
    target = make_target("upsert")
    a, b = {"all": Rows(300, 3)}, {"all": Rows(310, 3, moved_out=20)}
    target.serve(a)
    never_reads(monkeypatch)

    for rows, written in ((b, 10), (a, 20), (b, 10)):
        assert target.serve(rows).published == ["all"]
        target.prove_whole(rows)
        assert written_last(target) == written


def test_a_change_beside_an_attempt_is_mended_by_the_next_one(
    make_target: MakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody writes after the documents were compared, and before the commit record: its mark would hide that."""
    target = make_target("upsert")
    target.serve({"all": Rows(60, 3)})
    client, index, delete = target.sink.client, documents(target.name), UpsertingSink._delete_vanished

    def beside(*arguments: Any) -> None:
        client.update(index=index, id=client.search(index=index)["hits"]["hits"][0]["_id"], doc={"pieces": 4711})
        delete(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(UpsertingSink, "_delete_vanished", beside)
        target.serve({"all": Rows(61, 3)})
    assert target.sink.served()["all"].mark is None

    target.serve({"all": Rows(62, 3)})
    target.prove_whole({"all": Rows(62, 3)})
    assert target.sink.served()["all"].mark is not None


@pytest.mark.parametrize("former", [Rows(59, 3).scan("all"), "read_parquet('s3://nowhere/gone.parquet')"])
def test_rows_that_are_not_what_was_served_count_for_nothing(make_target: MakeTarget, former: str) -> None:
    """Deleted by maintenance, or another content: documents are read, as if nobody knew anything."""
    target = make_target("upsert")
    target.serve({"all": Rows(60, 3)})
    with mock.patch.dict(FORMER, {Rows(60, 3).version("all"): former}):
        target.serve({"all": Rows(64, 3)})
    target.prove_whole({"all": Rows(64, 3)})
    assert written_last(target) == 4


def test_a_value_of_another_type_is_overwritten(make_target: MakeTarget) -> None:
    """A year where a moment belongs can't be compared: everything is written anew, instead of failing for ever."""
    target = make_target("upsert")
    target.serve({"all": Rows(40, 3)})
    client, index = target.sink.client, documents(target.name)
    client.update(
        index=index, id=client.search(index=index)["hits"]["hits"][0]["_id"], doc={"changed_at": "2024"}, refresh=True
    )

    target.serve({"all": Rows(41, 3)})

    target.prove_whole({"all": Rows(41, 3)})
    assert written_last(target) == 41


@pytest.mark.parametrize("point", ["elasticsearch.sending", "elasticsearch.filled", "elasticsearch.before_commit"])
def test_after_a_dead_attempt_no_document_is_left_for_its_late_requests(make_target: MakeTarget, point: str) -> None:
    """A request that passed the fence arrives some time: each document must have a higher version. The next attempt but
    one may leave documents alone again."""
    target = make_target("upsert")
    target.serve({"all": Rows(30, 3)})
    assert target.result(target.spawn({"all": Rows(30, 5)}, points=[{"point": point, **KILL}])) is None
    (dead,) = Holding(target.state()).begun

    target.serve({"all": Rows(31, 3)})

    assert written_last(target) == 31
    target.prove_whole({"all": Rows(31, 3)})
    late = [
        line
        for hit in target.sink.client.search(index=documents(target.name), size=40)["hits"]["hits"]
        for line in (
            {"index": {"_id": hit["_id"], "version": dead, "version_type": "external_gte"}},
            {**hit["_source"], "pieces": 0},
        )
    ]
    answer = target.sink.client.bulk(index=documents(target.name), operations=late, refresh=True)
    assert {item["index"]["status"] for item in answer["items"]} == {409}
    target.serve({"all": Rows(33, 3)})
    assert written_last(target) == 2
    target.prove_whole({"all": Rows(33, 3)})


def test_a_partition_that_was_not_written_since_a_dead_attempt_is_written_whole(make_target: MakeTarget) -> None:
    """The dead attempt may have requests for each partition under way; another one that ended well changes nothing."""
    target = make_target("upsert")
    rows = {"2024-01": Rows(20, 3), "2024-02": Rows(10, 5)}
    target.serve(rows)
    point = {"point": "elasticsearch.sending", **KILL}
    assert target.result(target.spawn({p: Rows(25, 9) for p in rows}, points=[point])) is None

    target.serve({**rows, "2024-01": Rows(21, 3)})
    assert written_last(target) == 21
    target.serve({"2024-01": Rows(22, 3), "2024-02": Rows(11, 5)})

    assert written_last(target) == 1 + 11
    target.prove_whole({"2024-01": Rows(22, 3), "2024-02": Rows(11, 5)})


def test_an_attempt_that_planned_before_another_one_ended_never_writes(make_target: MakeTarget) -> None:
    """It slept between plan and write: documents that the newer one left alone have lower versions than its own."""
    target = make_target("upsert")
    target.serve({"all": Rows(30, 3)})
    target.serve({"all": Rows(31, 3)})
    newest = Holding(target.state()).newest
    with target.environment(), pytest.raises(Exception, match="wrote since"):
        target.sink.begin("sleeper-0123456789ab", newest - 1)
    target.prove_whole({"all": Rows(31, 3)})


def test_a_lost_ledger_draws_epochs_that_get_the_target(make_target: MakeTarget) -> None:
    """Its sequence begins at 1 again, and an attempt that published nothing may have left the highest epoch."""
    target = make_target("upsert")
    target.serve({"all": Rows(30, 3)})
    with target.environment():
        target.sink.begin("gone-0123456789ab", 50_000)
    target.sink.fence(["gone-0123456789ab"])

    done = target.serve({"all": Rows(31, 3)})

    assert done.published == ["all"], done
    target.prove_whole({"all": Rows(31, 3)})
    assert written_last(target) == 31


def test_another_form_of_documents_is_written_whole(make_target: MakeTarget) -> None:
    """A column that left the contract must leave the documents, although the others are equal."""
    target = make_target("upsert")
    wide = Contract((*CONTRACT.columns, ContractColumn("secret", "string")), CONTRACT.key, CONTRACT.partition_column)
    sink = replace(target.sink, contract=wide)
    with target.environment(), mock.patch.object(search_target, "CONTRACT", wide):
        rows = _Wide(30, 3)
        assert serve_through(sink, target.settings, {"all": rows}).published == ["all"]

    target.serve({"all": Rows(31, 3)})

    index = documents(target.name)
    assert target.sink.client.count(index=index, query={"exists": {"field": "secret"}})["count"] == 0
    target.prove_whole({"all": Rows(31, 3)})


class _Wide(Rows):
    def scan(self, partition: str) -> str:
        return f"(select *, 'x' as secret from {super().scan(partition)})"


def test_more_rows_that_are_gone_than_can_be_remembered(
    make_target: MakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded: then everything is written, and what wasn't is deleted."""
    monkeypatch.setattr(elasticsearch_changes, "VANISHED_MAX", 5)
    target = make_target("upsert")
    target.serve({"all": Rows(40, 3)})

    for out, written in ((5, 0), (11, 29)):
        target.serve({"all": Rows(40, 3, moved_out=out)})

        assert written_last(target) == written
        target.prove_whole({"all": Rows(40, 3, moved_out=out)})
