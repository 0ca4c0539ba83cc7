"""Targets in Elasticsearch: exact content, nothing lost, only the newest published (against a real server)."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from etl_resources.ledger.ledger import Ledger
from etl_resources.sinks import elasticsearch_pages
from etl_resources.sinks.elasticsearch_aliases import change, ensure_anchor, read_state
from etl_resources.sinks.elasticsearch_names import PartitionIndex, anchor
from etl_resources.sinks.elasticsearch_recovery import drop_orphans
from etl_resources.sinks.elasticsearch_replace import ReplacingSink
from tests.mutated import Mutation
from tests.search_target import Rows, SearchTarget

pytest_plugins = ["tests.search_target"]

LOADS = ("replace", "upsert")
MakeTarget = Callable[[str], SearchTarget]


@pytest.mark.parametrize("load", LOADS)
def test_what_is_reread_equals_what_was_read(
    make_target: MakeTarget, load: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decimals of 38 digits, quotes, line ends, nulls and microseconds survive; a second run has nothing to do.

    Many pages of each slice are read, and no document is left out between them.
    """
    monkeypatch.setattr(elasticsearch_pages, "PAGE_DOCUMENTS", 50)
    target = make_target(load)
    rows = {"2024-01": Rows(700, 3), "2024-02": Rows(30, 5)}

    first, again = target.serve(rows), target.serve(rows)

    assert first.published == ["2024-01", "2024-02"], first
    assert again.pruned == ["2024-01", "2024-02"]
    target.prove_whole(rows)


@pytest.mark.parametrize("load", LOADS)
def test_a_changed_partition_loses_the_rows_that_vanished(make_target: MakeTarget, load: str) -> None:
    """Documents of rows that are gone would be served for ever; the other partition isn't touched."""
    target = make_target(load)
    target.serve({"2024-01": Rows(50, 3), "2024-02": Rows(30, 5)})
    changed = {"2024-01": Rows(20, 7), "2024-02": Rows(30, 5)}

    done = target.serve(changed)

    assert (done.published, done.pruned) == (["2024-01"], ["2024-02"])
    target.prove_whole(changed)


@pytest.mark.parametrize("load", LOADS)
def test_a_refused_document_is_a_dead_letter(make_target: MakeTarget, load: str) -> None:
    """Written and dead-lettered are all that was read, with reason, key and payload; the rest is served."""
    target = make_target(load)
    rows = {"all": Rows(40, 3, bad=3)}

    done = target.serve(rows)

    assert done.published == ["all"], done
    target.prove_whole(rows)
    letters = target.dead_letters("all")
    assert len(letters) == 3
    reason, key, payload = letters[0]
    assert "failed to parse field [order_date]" in reason
    assert set(key) == {"order_id", "line"}
    assert payload["order_date"] == "infinity"
    ((counts,),) = target.ledger("select counts from etl.publishes where asset = %s", target.asset)
    assert (counts["read"], counts["written"], counts["rejected"]) == (40, 37, 3)


@pytest.mark.parametrize("load", LOADS)
def test_a_document_that_is_not_sent_stops_the_publish(make_target: MakeTarget, load: str) -> None:
    """The server answers for what it got: only a count of what was read misses a row that never came."""
    target = make_target(load)
    lossy = Mutation(
        "etl_resources.sinks.elasticsearch_sink", "_chunks", "from {scan})", "from (from {scan} offset 1))"
    )
    with lossy.made():
        done = target.serve({"2024-01": Rows(40, 3)})

    assert done.published == []
    assert "rows_accounted: read 40, written 39, " in done.errors[0]


def test_of_writers_that_read_the_same_state_one_wins(make_target: MakeTarget) -> None:
    """Without it the slower writer's swap would undo the faster one's."""
    target = make_target("replace")
    client = target.sink.client
    ensure_anchor(client, target.name)
    barrier, lost = threading.Barrier(2), []

    def write(name: str) -> None:
        met = False

        def decide(state: object) -> list[dict[str, dict[str, str]]]:
            nonlocal met
            if met:
                lost.append(name)
            else:
                barrier.wait()
            met = True
            return [{"add": {"index": f"{target.name}-anchor", "alias": f"{target.name}--{name}"}}]

        change(client, target.name, decide, lambda _: False)

    threads = [threading.Thread(target=write, args=(n,)) for n in ("a", "b")]
    with target.environment():
        for t in threads:
            t.start()
        for t in threads:
            t.join()

    state = read_state(client, target.name)
    assert state.number == 2
    assert {f"{target.name}--a", f"{target.name}--b"} <= state.indexes[f"{target.name}-anchor"]
    assert len(lost) == 1


def test_a_lost_ledger_is_rebuilt_from_the_indexes(make_target: MakeTarget) -> None:
    """What is served says from what it was made: the next run prunes instead of serving everything anew."""
    from etl_resources.sinks.elasticsearch_recovery import rebuild_target

    for load in LOADS:
        target, rows = make_target(load), {"all": Rows(10, 3)}
        target.serve(rows)
        target.ledger("truncate etl.publishes, etl.intent_partitions, etl.intents cascade")

        with Ledger.open(target.settings) as ledger:
            restored = rebuild_target(target.sink, ledger)

        assert restored == (["all"], [])
        assert target.serve(rows).pruned == ["all"]


@pytest.mark.parametrize("load", LOADS)
def test_a_server_that_refuses_most_documents_publishes_nothing(make_target: MakeTarget, load: str) -> None:
    """What is refused so often isn't about single rows, e.g. an ingest pipeline that is gone: what is served stays."""
    target = make_target(load)
    rows = {"all": Rows(40, 3)}
    target.serve(rows)

    none = target.serve({"all": Rows(40, 5, bad=40)})
    few = target.serve({"all": Rows(40, 5, bad=21)})

    for done in (none, few):
        assert done.published == []
        assert "refused" in done.errors[0], done
        assert "failed to parse field [order_date]" in done.errors[0]
    again = target.serve(rows)
    assert not again.errors, again
    target.prove_whole(rows)


def searched(target: SearchTarget) -> int:
    """Documents that readers find."""
    return int(target.sink.client.count(index=target.name)["count"])


@pytest.mark.parametrize("load", LOADS)
def test_a_target_whose_load_changed_and_changed_back_shows_each_document_once(
    make_target: MakeTarget, load: str
) -> None:
    """Readers search one alias: what the other way of loading left in it would double every document."""
    first, rows = make_target(load), {"2024-01": Rows(12, 3), "2024-02": Rows(8, 5)}
    other = replace(first, load=LOADS[1 - LOADS.index(load)])
    first.serve(rows)

    for target in (other, first):
        done = target.serve(rows)

        assert done.published == ["2024-01", "2024-02"], done
        assert searched(target) == 20
        assert target.sink.foreign() == []
        target.prove_whole(rows)


@pytest.mark.parametrize("load", LOADS)
def test_a_target_that_gets_months_no_longer_shows_the_whole(make_target: MakeTarget, load: str) -> None:
    """Another dataset may take a target over: the one partition that it had would be served beside its months."""
    target, months = make_target(load), {"2024-01": Rows(12, 3), "2024-02": Rows(8, 5)}
    target.serve({"all": Rows(30, 3)})

    done = target.serve(months)

    assert done.published == ["2024-01", "2024-02"], done
    assert searched(target) == 20
    assert sorted(target.sink.served()) == ["2024-01", "2024-02"]


def test_a_target_with_many_partitions_can_be_settled(make_target: MakeTarget) -> None:
    """The names of nine years of months don't fit into one address: what asks for all of them must not name them."""
    target = replace(make_target("replace"), name=f"t_{'x' * 52}{uuid4().hex[:8]}")
    sink, client = target.sink, target.sink.client
    assert isinstance(sink, ReplacingSink)
    ensure_anchor(client, target.name)
    months = [f"{2015 + n // 12}-{n % 12 + 1:02}" for n in range(50)]
    for month in months:
        index = PartitionIndex(target.name, month, 1, "0" * 12)
        about = {"_meta": {"attempt": "run-000000000000", "version": f"1-{month}"}}
        settings = {"number_of_shards": 1, "number_of_replicas": 0}
        client.indices.create(index=str(index), settings=settings, mappings=about, aliases={target.name: {}})

    assert {p: s.version for p, s in sink.served().items()} == {m: f"1-{m}" for m in months}

    client.indices.update_aliases(actions=[{"remove": {"index": f"{target.name}-2*", "alias": target.name}}])
    with Ledger.open(target.settings) as ledger:
        assert len(drop_orphans(sink, ledger, timedelta(0))) == len(months)
    client.indices.delete(index=anchor(target.name))
