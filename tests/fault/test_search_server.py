"""An Elasticsearch that is busy, loses answers, hangs or has no space; writers that wake up too late."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from etl_resources.settings import load_settings
from etl_resources.sinks.elasticsearch_client import connect
from etl_resources.stack.elasticsearch import ADMIN, client_settings
from etl_resources.stack.state import load
from tests.fault.busy_items import BusyForSome
from tests.fault.http_proxy import faulty
from tests.fault.scenarios import kill_stopped, until
from tests.fault.search_reader import searching
from tests.lake import Child
from tests.search_target import Rows, SearchTarget

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

pytest_plugins = ["tests.search_target"]

MakeTarget = Callable[[str], SearchTarget]
LOADS = ("replace", "upsert")
OLD: Mapping[str, Rows] = {"2024-01": Rows(40, 3)}
NEW: Mapping[str, Rows] = {"2024-01": Rows(30, 7)}
NEWEST: Mapping[str, Rows] = {"2024-01": Rows(35, 11)}


WATERMARKS = ("low", "high", "flood_stage")
LOOK_S = 10
"""How often the server looks at its disk, at the most."""


def stopped_at(target: SearchTarget, point: str, rows: Mapping[str, Rows], **changed: str) -> Child:
    """A run that has stopped itself at a failpoint."""
    reached = target.settings.home / f"reached-{uuid4().hex[:8]}"
    child = target.spawn(rows, points=[{"point": point, "action": "stop", "reached": str(reached)}], **changed)
    until(lambda: reached.exists() or not child.process.is_alive(), f"{point} reached")
    assert reached.exists(), child.log
    return child


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("point", ["elasticsearch.sending", pytest.param("serving.audited", marks=pytest.mark.long)])
def test_a_writer_that_wakes_up_late_changes_nothing(make_target: MakeTarget, load: str, point: str) -> None:
    """Its documents are older than what was published while it slept: neither they nor its swap may be seen."""
    target = make_target(load)
    target.serve(OLD)

    zombie = stopped_at(target, point, NEW)
    with kill_stopped(zombie):
        newest = target.serve(NEWEST)
        with searching(target, [NEWEST]):
            os.kill(zombie.pid, signal.SIGCONT)
            late = target.result(zombie)

    assert newest.published == ["2024-01"], newest
    assert late is not None
    assert late.published == []
    assert late.fenced or late.errors, late
    target.prove_whole(NEWEST)


class Recorded:
    """Requests as they were sent (a Change of http_proxy that changes nothing)."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def request(self, body: bytes) -> bytes:
        self.bodies.append(body)
        return body

    def answer(self, content: bytes) -> bytes:
        return content


def test_a_delayed_request_of_an_old_attempt_changes_nothing(make_target: MakeTarget) -> None:
    """It may have passed the alias just before a newer attempt took it. What that one wrote is newer by its version,
    and so is what it deleted."""
    target, sent = make_target("upsert"), Recorded()
    with faulty(target.env["ETL_ELASTICSEARCH_URL"], lambda _, path, __: sent if "_bulk" in path else None) as proxy:
        target.serve(OLD, ETL_ELASTICSEARCH_URL=proxy.url)
    target.serve(NEW)

    (body,) = sent.bodies
    answer = target.sink.client.bulk(index=f"{target.name}-documents", operations=body)  # type: ignore[arg-type]  # bytes

    statuses = Counter(item["index"]["status"] for item in answer["items"])
    assert statuses == {409: len(answer["items"]) - 1, 200: 1}, "one is as it was: left alone, and brought once more"
    assert len(answer["items"]) == OLD["2024-01"].count > NEW["2024-01"].count
    target.prove_whole(NEW)


def test_documents_that_a_busy_server_refuses_are_sent_again(make_target: MakeTarget) -> None:
    """429 is an answer per request or per document: a client that drops them loses documents silently."""
    target = make_target("replace")
    target.serve(OLD)

    def storm(method: str, path: str, asked: int) -> int | None:
        return 429 if method == "POST" and asked % 3 else None

    with (
        faulty(target.env["ETL_ELASTICSEARCH_URL"], storm) as proxy,
        searching(target, [OLD, NEW]),
    ):
        done = target.serve(NEW, ETL_ELASTICSEARCH_URL=proxy.url, ETL_RETRY_ELAPSED_S_MAX="30")

    assert done.published == ["2024-01"], done
    assert proxy.faults >= 2
    target.prove_whole(NEW)


@pytest.mark.parametrize("load", LOADS)
def test_single_documents_that_a_busy_server_refuses_are_sent_again(make_target: MakeTarget, load: str) -> None:
    """A bulk answer is 200 whatever became of its documents: each of them counts, and only the refused go again."""
    target, changes = make_target(load), list[BusyForSome]()
    target.serve(OLD)

    def some(_: str, path: str, __: int) -> BusyForSome | None:
        if "_bulk" not in path or len(changes) == 2:
            return None
        changes.append(BusyForSome(every=3))
        return changes[-1]

    with faulty(target.env["ETL_ELASTICSEARCH_URL"], some) as proxy:
        done = target.serve(NEW, ETL_ELASTICSEARCH_URL=proxy.url)

    assert done.published == ["2024-01"], done
    assert [len(c.operations) for c in changes] == [29 if load == "upsert" else 30, 10], "an upsert leaves one alone"
    target.prove_whole(NEW)


def test_a_server_that_stays_busy_ends_the_run_and_harms_nothing(make_target: MakeTarget) -> None:
    """Retries are bounded; what is published stays, and a later run goes on."""
    target = make_target("replace")
    target.serve(OLD)

    with faulty(target.env["ETL_ELASTICSEARCH_URL"], lambda _, path, __: 429 if "_bulk" in path else None) as proxy:
        done = target.serve(NEW, ETL_ELASTICSEARCH_URL=proxy.url, ETL_RETRY_ELAPSED_S_MAX="1")

    assert done.published == []
    assert "429" in done.errors[0]
    assert target.serve(NEW).published == ["2024-01"]
    target.prove_whole(NEW)


@pytest.mark.parametrize(
    ("load", "request_of"),
    [
        ("replace", "/_aliases"),
        ("upsert", "/_doc/2024-01"),
        pytest.param("replace", "/_bulk", marks=pytest.mark.long),
        pytest.param("upsert", "/_bulk", marks=pytest.mark.long),
        pytest.param("upsert", "/_aliases", marks=pytest.mark.long),
    ],
)
def test_a_lost_answer_is_settled_by_reading_back(make_target: MakeTarget, load: str, request_of: str) -> None:
    """The server did it and nobody heard so: sending it again must neither fail nor do it twice."""
    target, lost = make_target(load), []
    target.serve(OLD)

    def lose(method: str, path: str, _: int) -> str | None:
        if request_of in path and method in ("POST", "PUT") and not lost:
            lost.append(path)
            return "lose"
        return None

    with faulty(target.env["ETL_ELASTICSEARCH_URL"], lose) as proxy:
        done = target.serve(NEW, ETL_ELASTICSEARCH_URL=proxy.url)

    assert lost, "the request was never sent"
    assert done.published == ["2024-01"], done
    target.prove_whole(NEW)


def test_an_index_that_is_read_only_for_lack_of_space_is_told(make_target: MakeTarget) -> None:
    """The server's reason is that it has no space, and its status that it is busy: trying again would not help."""
    target = make_target("replace")
    target.serve(OLD)
    child = stopped_at(target, "elasticsearch.index_created", NEW)
    client = target.sink.client

    with kill_stopped(child), searching(target, [OLD]):
        (filling,) = [str(i) for i in target.state().filled() if target.name not in target.state().indexes[str(i)]]
        client.indices.put_settings(index=filling, settings={"index.blocks.read_only_allow_delete": True})
        os.kill(child.pid, signal.SIGCONT)
        done = target.result(child)

    assert done is not None
    assert done.published == []
    assert "No space left" in done.errors[0]
    assert target.serve(NEW).published == ["2024-01"]
    target.prove_whole(NEW)


@contextmanager
def full_disk(target: SearchTarget) -> Iterator[None]:
    """The server itself finds that its disk is full: it wants more free space than there is."""
    wanted = {f"cluster.routing.allocation.disk.watermark.{stage}": "1000tb" for stage in WATERMARKS}
    changed = {**wanted, "cluster.info.update.interval": f"{LOOK_S}s"}
    record = load(load_settings().home).servers["elasticsearch"]
    with connect(client_settings(record, ADMIN)) as admin:
        admin.cluster.put_settings(persistent=changed)
        try:
            until(lambda: read_only(admin, target), "the server made the indexes read-only")
            yield
        finally:
            admin.cluster.put_settings(persistent=dict.fromkeys(wanted))
            until(lambda: not read_only(admin, target), "the server lifted its blocks")
            admin.cluster.put_settings(persistent=dict.fromkeys(changed))


def read_only(admin: "Elasticsearch", target: SearchTarget) -> bool:
    block = "index.blocks.read_only_allow_delete"
    found = admin.indices.get_settings(index=f"{target.name}-*", name=block, expand_wildcards="all").body
    return any(about["settings"] for about in found.values())


@pytest.mark.long
@pytest.mark.parametrize("load", LOADS)
def test_a_full_disk_is_told_and_harms_nothing(make_target: MakeTarget, load: str) -> None:
    """The server makes indexes read-only and gives new ones no place, to a run that is under way and to the next one:
    what is published stays, the message says why, and with space again all goes on."""
    target, empty = make_target(load), make_target(load)
    target.serve(OLD)
    child = stopped_at(target, "elasticsearch.sending", NEW)

    with kill_stopped(child), searching(target, [OLD]), full_disk(target):
        os.kill(child.pid, signal.SIGCONT)
        ends = [target.result(child), target.serve(NEW), empty.serve(NEW)]

    for done in ends:
        assert done is not None
        assert done.published == []
        assert "No space left in Elasticsearch" in done.errors[0], done
    for whole in (target, empty):
        assert whole.serve(NEW).published == ["2024-01"]
        whole.prove_whole(NEW)


def test_a_server_that_hangs_ends_the_run_in_time(make_target: MakeTarget) -> None:
    """A time-out per request, then bounded retries: a run never waits for ever, and publishes nothing unproved."""
    target, gate = make_target("replace"), []
    target.serve(OLD)

    def hang(_: str, path: str, __: int) -> None:
        if "_bulk" in path:
            gate.append(path)
            import threading

            threading.Event().wait(3)

    with faulty(target.env["ETL_ELASTICSEARCH_URL"], hang) as proxy:
        done = target.serve(
            NEW, ETL_ELASTICSEARCH_URL=proxy.url, ETL_ELASTICSEARCH_TIMEOUT_S="1", ETL_RETRY_ELAPSED_S_MAX="2"
        )

    assert gate
    assert done.published == []
    assert "timed out" in done.errors[0].lower()
    assert target.serve(NEW).published == ["2024-01"]
    target.prove_whole(NEW)
