"""kill -9 at every failpoint of the Elasticsearch sink: the next run converges, readers see whole contents only."""

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from uuid import uuid4

import pytest

from tests.fault.search_points import SEARCH_POINTS, SearchPoint
from tests.fault.search_reader import searching
from tests.search_target import Rows, SearchTarget

pytest_plugins = ["tests.search_target"]

MakeTarget = Callable[[str], SearchTarget]
OLD: Mapping[str, Rows] = {"2024-01": Rows(60, 3), "2024-02": Rows(20, 5)}
NEW: Mapping[str, Rows] = {"2024-01": Rows(50, 7), "2024-02": Rows(30, 11)}
QUICK = ("elasticsearch.filled", "elasticsearch.before_swap", "elasticsearch.before_commit", "elasticsearch.published")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every point with every way of loading that passes it; without `--long` where a commit changes hands."""
    if {"point", "load"} <= set(metafunc.fixturenames):
        every = metafunc.config.getoption("long")
        pairs = [(p, load) for p, how in SEARCH_POINTS.items() for load in how.loads if every or p in QUICK]
        metafunc.parametrize(("point", "load"), pairs)


def test_a_killed_run_leaves_what_the_next_run_completes(make_target: MakeTarget, point: str, load: str) -> None:
    """Replaced partitions are old or new, both together; upserted ones change one by one and end whole."""
    target, how = make_target(load), SEARCH_POINTS[point]
    assert target.serve(OLD).published == [*OLD]

    with searching(target, [OLD, NEW]) if load == "replace" else nullcontext():
        kill_at(target, point, how)
        done = target.serve(NEW)

    assert not done.errors, done.errors
    target.prove_whole(NEW)


def kill_at(target: SearchTarget, point: str, how: SearchPoint) -> None:
    """A run dies there; for a point of settling, another one died before."""
    if how.killed_at is not None:
        before = target.spawn(NEW, points=[{"point": how.killed_at, "action": "kill"}])
        assert target.result(before) is None
    aim = {"point": point, "action": "kill", "nth": how.nth}
    if how.stop_at is None:
        assert target.result(target.spawn(NEW, points=[aim])) is None, f"{point} was not reached"
        return
    reached = target.settings.home / f"reached-{uuid4().hex[:8]}"
    stop = {"point": how.stop_at, "action": "stop", "reached": str(reached)}
    child = target.spawn(NEW, points=[stop, aim])
    while not reached.exists():
        assert child.process.is_alive(), child.log
    attempts = target.ledger("select attempt from etl.intents where state = 'open' and asset = %s", target.asset)
    with target.environment():
        target.sink.fence([attempt for (attempt,) in attempts])
    os.kill(child.pid, signal.SIGCONT)
    assert target.result(child) is None, f"{point} was not reached"
