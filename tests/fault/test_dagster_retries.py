"""Dagster tries again by itself: a step in the same run, or a new run of what failed. Neither doubles anything."""

import zlib
from pathlib import Path
from random import Random

import pytest

from tests.fault import sources
from tests.fault.reader import watching
from tests.fault.reexecution import re_execute, remembering
from tests.fault.scenarios import FIRST, IMPATIENT, LAST, SCENARIOS, bring_to, open_together, succeed
from tests.invariants import await_sessions_gone, prove_whole
from tests.lake import Lake

pytest_plugins = ["tests.lake"]

QUICK_RETRIES = ("capture.totals_recorded", "stage.committed", "publish.after_swap", "postgres.before_commit")
QUICK_RE_EXECUTIONS = (("publish.committed", "kill"), ("postgres.recorded", "kill"), ("stage.committed", "raise"))
ANSWER_LOST = ("stage.after_swap", "publish.after_swap", "postgres.after_commit")
"""Where nothing but a commit's answer can be lost."""


@pytest.fixture(scope="module")
def published(small_lake: Lake) -> Lake:
    run = small_lake.materialize(FIRST, LAST)
    assert run.success, run.error
    return small_lake


def change(lake: Lake, point: str) -> Random:
    """Something to do in every layer, and what the point needs. The random numbers of this point."""
    random = Random(zlib.crc32(point.encode()))
    for month in sources.MONTHS:
        sources.raise_prices(lake, month)
    if (special := SCENARIOS[point].change) is not None:
        special(lake, random)
    return random


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A handful of points; `--long`: all."""
    every = metafunc.config.getoption("long")
    if "faulty" in metafunc.fixturenames:
        metafunc.parametrize("faulty", list(SCENARIOS) if every else QUICK_RETRIES)
    if {"point", "fault"} <= set(metafunc.fixturenames):
        pairs = [(p, f) for p in SCENARIOS for f in ("kill", "raise")]
        metafunc.parametrize(("point", "fault"), pairs if every else QUICK_RE_EXECUTIONS)


def test_a_step_that_dagster_starts_again_publishes_once(published: Lake, faulty: str) -> None:
    """The step's first attempt is settled by its second, in the same run: nobody has to look."""
    random = change(published, faulty)
    action = "unknown" if faulty in ANSWER_LOST else "restart"

    with watching(published):
        run = bring_to(published, faulty, random.choice(SCENARIOS[faulty].matches), action).child.wait()

    assert run is not None
    assert run.success, run.error
    assert len(run.retried) == 1, run.retried
    await_sessions_gone(published)
    prove_whole(published)


def test_a_re_execution_of_a_failed_run_completes_it(published: Lake, tmp_path: Path, point: str, fault: str) -> None:
    """Dagster starts the steps again that hadn't succeeded, beside another run of the same months."""
    random = change(published, point)
    with watching(published):
        broken = bring_to(published, point, random.choice(SCENARIOS[point].matches), fault, **remembering(published))
        broken.child.wait()
        await_sessions_gone(published)
        again = re_execute(published, broken.run_id, tmp_path / "go")
        rival = published.spawn(FIRST, LAST, barrier=tmp_path / "go", **IMPATIENT)
        open_together(tmp_path / "go", [again, rival])
        runs = [again.wait(), rival.wait()]

    assert all(r and r.success for r in runs), [r and r.error for r in runs]
    await_sessions_gone(published)
    succeed(published)
    prove_whole(published)
