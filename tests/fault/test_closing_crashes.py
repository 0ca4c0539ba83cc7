"""kill -9 while a period is closed or its restatement is told, and two who act at once: one story in the end."""

import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from etl_assets.maintain import maintain
from etl_assets.query import run_query
from etl_resources import failpoints
from tests.closed_books import FEB, JAN, REVENUE, ClosedBooks, closed_books
from tests.fault.driver import become, wait_at
from tests.fault.scenarios import until

pytestmark = [pytest.mark.timeout(300)]
Points = list[Mapping[str, Any]]


def close_in_a_process(points: Points, barrier: str | None, environment: Mapping[str, str], stem: Path) -> None:
    """What `close` does, in a process that ends at a failpoint."""
    become({**environment, failpoints.SETTING: json.dumps(points)}, stem.with_suffix(".log"))
    from etl_assets.graph.runtime import Runtime
    from etl_assets.period_close import close
    from etl_assets.project import load_project
    from etl_resources.errors import PermanentError, TransientError

    runtime = Runtime(load_project())
    if barrier:
        wait_at(Path(barrier))
    try:
        close(runtime, [REVENUE], JAN, "ana", "")
        told = ["closed"]
    except (PermanentError, TransientError) as e:
        told = [str(e)]
    stem.with_suffix(".json").write_text(json.dumps(["", False, told, {}, {}]))


def send_in_a_process(points: Points, environment: Mapping[str, str], stem: Path) -> None:
    become({**environment, failpoints.SETTING: json.dumps(points)}, stem.with_suffix(".log"))
    from etl_assets.automation.restatements import send_restatements
    from etl_resources.ledger.ledger import Ledger
    from etl_resources.settings import load_settings

    settings = load_settings()
    with Ledger.open(settings) as ledger:
        send_restatements(settings, ledger, print)


@pytest.fixture(scope="module")
def books(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClosedBooks]:
    with closed_books(tmp_path_factory.mktemp("books")) as made:
        yield made


@pytest.fixture(autouse=True)
def _reopened(books: ClosedBooks) -> Iterator[None]:
    yield
    if books.closed():
        books.reopen()
        assert books.run().success


@pytest.mark.parametrize(
    ("point", "closed"),
    [
        pytest.param("plan.recorded", False, marks=pytest.mark.long),
        ("stage.committed", False),
        pytest.param("publish.after_swap", True, marks=pytest.mark.long),
        ("evidence.recording", True),
        ("close.published", True),
        pytest.param("close.tagged", True, marks=pytest.mark.long),
    ],
)
def test_a_closing_that_dies_is_whole_or_was_never(books: ClosedBooks, point: str, closed: bool) -> None:
    """Closed with its tag, or open without one; the next run, or maintenance, settles which."""
    before, figures = books.tags(), books.served()
    child = books.lake.fork(close_in_a_process, [{"point": point, "action": "kill"}], None)
    assert child.wait() is None, child.log

    books.sell(f"{len(books.publishes())}.25", line=7)
    run = books.run()
    assert not maintain(books.lake.runtime, [REVENUE], lambda _: None).failed

    assert run.success is not closed, run.error
    assert books.closed() is closed
    assert (books.served() == figures) is closed
    new = books.tags() - before
    assert len(new) == closed
    for tag in new:
        query = f"select currency, lines, amount from {REVENUE} where month = '{JAN}-01' order by 1"
        with run_query(books.lake.runtime, query, tag) as found:
            assert [row for batch in found.batches for row in batch] == figures
    books.prove_right()


def test_a_writer_that_planned_before_the_closing_is_fenced(books: ClosedBooks) -> None:
    """It computed late data while the month was open and slept; what it would publish is judged anew."""
    figures = books.served()
    books.sell(f"{len(books.publishes())}.75", line=8)
    reached = books.lake.home / "asleep"
    point = {"point": "stage.committed", "match": "revenue", "action": "stop", "reached": str(reached)}
    # gdp is computed by then, so that the KPI is stale: closed as it was published, before somebody looked
    sleeper = books.lake.spawn(JAN, points=[point])
    until(reached.exists, "the run is asleep")
    with pytest.raises(Exception, match="Only what is up to date is closed"):
        books.close()
    books.close_unproved()
    os.kill(sleeper.pid, signal.SIGCONT)
    run = sleeper.wait()

    assert run is not None
    assert books.served() == figures
    assert books.closed()
    assert not books.run().success
    assert len(books.waiting()) == 1
    books.prove_right()


def test_two_who_close_at_once_close_once(books: ClosedBooks, tmp_path: Path) -> None:
    """The other is told who was faster."""
    barrier, before = tmp_path / "barrier", books.tags()
    children = [books.lake.fork(close_in_a_process, [], str(barrier)) for _ in range(2)]
    until(lambda: len(list(tmp_path.iterdir())) == 2, "both are ready")
    barrier.touch()
    told = []
    for child in children:
        child.wait()
        told.append(json.loads(child.stem.with_suffix(".json").read_text())[2][0])

    assert sorted(t == "closed" for t in told) == [False, True], told
    assert len(books.tags() - before) == 1
    books.prove_right()


def test_a_notice_is_sent_again_when_its_sender_dies(books: ClosedBooks) -> None:
    """Twice rather than never: the ledger says what was taken."""
    books.close()
    books.sell(f"{len(books.publishes())}.50", line=6)
    assert not books.run().success
    assert books.accept().published
    sent = len(books.hook.of("restatement"))

    child = books.lake.fork(send_in_a_process, [{"point": "notice.sent", "action": "kill"}])
    assert child.wait() is None, child.log
    assert books.send() == 1

    told = books.hook.of("restatement")[sent:]
    assert len(told) == 2
    assert told[0] == told[1]
    assert books.send() == 0


def test_an_approval_that_dies_is_told_when_it_is_published(books: ClosedBooks) -> None:
    """The notice is part of the publish: whoever settles it, it is sent."""
    books.close()
    books.sell(f"{len(books.publishes())}.60", line=5)
    assert not books.run(last=FEB).success
    books.lake.platform("update etl.held set accepted_by = 'carla', reason = 'ok', accepted_at = now()")
    child = books.lake.spawn(JAN, points=[{"point": "publish.after_swap", "match": "revenue", "action": "kill"}])
    assert child.wait() is None, child.log
    assert books.run().success
    assert books.send() == 1
    assert books.hook.of("restatement")[-1]["accepted_by"] == "carla"
    books.prove_right()
