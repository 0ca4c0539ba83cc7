"""Months of ticks in simulated time: whatever fails, whoever is away, all is fresh in the end, and nothing grows."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from etl_assets.graph.runtime import Runtime
from etl_resources.ledger.ledger import Ledger
from etl_resources.looked_up import forget_lookups
from tests.histories.oracle import MONTHS, WHOLE
from tests.histories.sources import history_project
from tests.histories.year import ERP, START, Platform
from tests.lake import Lake, new_lake

pytest_plugins = ["tests.lake"]
pytestmark = pytest.mark.timeout(3600)

TICK_EVERY = timedelta(hours=6)
"""When all is at rest; while something runs or waits, 30 seconds and 5 minutes."""


@pytest.fixture
def lake(stack: object, tmp_path: Path) -> Iterator[Lake]:
    """Of the project of histories, without what only a capture's control totals decide."""
    project = shutil.copytree(history_project(tmp_path / "home", {}), tmp_path / "simulated")
    manifest = project / "datasets/revenue/manifest.yaml"
    text = manifest.read_text()
    manifest.write_text(text[: text.index("  accept:")] + text[text.index("serving:") :])
    with new_lake(tmp_path / "home", None, project=project) as made, made.environment():
        yield made


@pytest.mark.parametrize(
    "days", [pytest.param(10, id="ten_days"), pytest.param(365, id="year", marks=pytest.mark.long)]
)
def test_ticks_keep_everything_fresh_and_grow_nothing(lake: Lake, days: int, request: pytest.FixtureRequest) -> None:
    """Sources change at random, runs fail and die, daemons are away for a week, cursors get lost, tables are broken
    for days until a person mends them. At each quiet point all is fresh, or stuck and said so, and
    nothing was tried more often than is allowed.
    """
    seed = int((request.config.getoption("fault_seed") or "1").partition(":")[0])
    random = Random(f"{seed}:{days}")
    platform = Platform(Runtime(lake.runtime.project, lake.settings), random)
    platform.publish_all()
    assert platform.stale() == set()
    broken_until, away_until, quiet = START, START, 0
    settle(platform)

    while platform.now < START + timedelta(days=days):
        if random.random() < 0.5:
            change(platform, random)
        if random.random() < 0.01:
            platform.cursor = None
        if platform.now >= broken_until and random.random() < 0.04:
            platform.poisoned.add(random.choice(platform.nodes).name)
            broken_until = platform.now + timedelta(days=random.randint(1, 4))
        if platform.poisoned and platform.now >= broken_until:
            platform.mend()
        if platform.now >= away_until + timedelta(days=30):  # a week without a daemon, once in a while
            away_until = platform.now + timedelta(days=7)
            platform.now = away_until
        settle(platform)
        quiet += 1
        prove_fresh_or_said_so(platform, lake)
        platform.pass_time(TICK_EVERY)

    platform.mend()
    platform.now += timedelta(hours=1)
    settle(platform)
    assert platform.stale() == set()
    assert quiet > days
    with Ledger.open(lake.settings) as ledger:
        forget_lookups(ledger.connection)  # as `maintain` does each night
    prove_bounded(lake)
    read = read_by_idle_tick(platform, lake)
    ((history,),) = lake.platform(
        "select (select count(*) from etl.publishes) + (select count(*) from etl.intent_partitions)"
    )
    assert sum(read.values()) <= 6 * history, "each of the tick's questions goes through the history once at most"


def prove_bounded(lake: Lake) -> None:
    """The tables of observation and requests hold what is now, whatever happened."""
    ((requests, marks, looks, lookups),) = lake.platform(
        "select (select count(*) from etl.requests), (select count(*) from etl.marks), "
        "(select count(*) from etl.source_looks), (select count(*) from etl.lookup_versions)"
    )
    assert (requests, marks, looks) == (0, 0, 4)
    assert lookups <= 2 * len(MONTHS)


def change(platform: Platform, random: Random) -> None:
    """One source, seen at once or found by the sweep; often as it was a moment ago."""
    place = random.choice(
        [*((a, m) for a in ERP for m in MONTHS), *[("bronze.customers", WHOLE), ("bronze.rates", WHOLE)] * 5]
    )
    platform.contents[place] = random.randrange(10_000) if place[1] == WHOLE else random.randrange(8)
    if place in platform.stamps and random.random() < 0.8:
        platform.stamps[place] += 1
        platform.hidden.discard(place)
    elif place in platform.stamps:
        platform.hidden.add(place)


def settle(platform: Platform) -> None:
    """Tick until nothing runs and nothing waits."""
    for _ in range(400):
        platform.tick()
        if platform.is_quiet:
            return
        platform.pass_time(timedelta(minutes=5))
    raise AssertionError(platform.summary)


def prove_fresh_or_said_so(platform: Platform, lake: Lake) -> None:
    """What isn't as the sources are is stuck, or changed without a stamp since the last sweep, or is made from such."""
    stuck = {
        (a, p) for a, p in lake.platform("select asset, partition from etl.requests where stuck_since is not null")
    }
    assert not stuck or "stuck" in platform.summary
    stale = platform.stale()
    platform.hidden &= stale  # the sweep has found the others
    captured_with = {(s, p) for a, p in stuck | platform.hidden for s in ERP if a in ERP}
    wrong = stale - platform.below(stuck | platform.hidden | captured_with)
    assert not wrong, (sorted(wrong), platform.summary)


def read_by_idle_tick(platform: Platform, lake: Lake) -> dict[str, int]:
    """Table of the ledger → rows that a tick reads that finds nothing to do, where there is an index by it.

    The planner may well go through a table of a few pages for each of some rows; one of years it doesn't.
    """
    setting = "do $$ begin execute format('alter database %I {}', current_database()); end $$"
    lake.platform(setting.format("set enable_seqscan = off"))
    try:
        platform.tick()
        before = rows_read(lake)
        platform.tick()
        assert platform.is_quiet
        return {table: rows - before[table] for table, rows in rows_read(lake).items()}
    finally:
        lake.platform(setting.format("reset enable_seqscan"))


def rows_read(lake: Lake) -> dict[str, int]:
    """So far."""
    lake.platform("select pg_stat_force_next_flush()")
    rows = lake.platform(
        "select relname, seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_user_tables where schemaname = 'etl'"
    )
    return {table: int(read) for table, read in rows}
