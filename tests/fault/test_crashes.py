"""kill -9 at every failpoint: the next run converges, nothing is lost, doubled, torn or left behind."""

import zlib
from random import Random

import pytest

from tests.fault import sources
from tests.fault.reader import watching
from tests.fault.scenarios import FIRST, FOLLOW_UPS, LAST, SCENARIOS, crash_at
from tests.invariants import prove_whole
from tests.lake import Lake

pytest_plugins = ["tests.lake"]

QUICK = (
    "letters.",
    "stage.committed",
    "publish.",
    "evidence.",
    "settle.",
    "postgres.before_commit",
    "postgres.after_commit",
)
"""Where a commit changes hands: what is played without `--long`."""


@pytest.fixture(scope="module")
def published(small_lake: Lake) -> Lake:
    run = small_lake.materialize(FIRST, LAST)
    assert run.success, run.error
    return small_lake


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The quick points with one follow-up, which changes from point to point; `--long`: all points, all follow-ups."""
    if {"point", "follow_up"} <= set(metafunc.fixturenames):
        every = metafunc.config.getoption("long")
        points = [p for p in SCENARIOS if every or p.startswith(QUICK)]
        pairs = [(p, f) for i, p in enumerate(points) for j, f in enumerate(FOLLOW_UPS) if every or i % 3 == j]
        metafunc.parametrize(("point", "follow_up"), pairs)


def test_a_killed_run_leaves_what_the_next_run_completes(published: Lake, point: str, follow_up: str) -> None:
    """Whatever step the process died in, readers see the old or the new content, and the next run repairs the rest."""
    random, reach = Random(zlib.crc32(f"{point}, {follow_up}".encode())), SCENARIOS[point]
    for month in sources.MONTHS:
        sources.raise_prices(published, month)
    if reach.change is not None:
        reach.change(published, random)

    with watching(published):
        crash_at(published, point, random.choice(reach.matches), follow_up, now=random.random() < 0.5)

    prove_whole(published)


def test_a_publish_that_is_replaced_before_its_evidence_is_written_is_in_the_ledger(published: Lake) -> None:
    """Its writer stops after the commit in Postgres, another one publishes over it, and it dies: readers saw both."""
    for month in sources.MONTHS:
        sources.raise_prices(published, month)
    with watching(published):
        crash_at(published, "postgres.after_commit", "", "competing", now=False)
    prove_whole(published)
