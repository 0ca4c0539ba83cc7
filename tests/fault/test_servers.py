"""Servers that die, hang or run full in the middle of a run: old content stays, and the next run completes."""

import signal
import time

import pytest

from tests.fault.own_stack import OwnStack, fill
from tests.fault.reader import watching
from tests.fault.scenarios import FIRST, LAST, go_on, kill_stopped, stopped_run, succeed
from tests.fault.sources import MONTHS, raise_prices
from tests.invariants import await_sessions_gone, prove_whole
from tests.lake import Lake

pytest_plugins = ["tests.lake", "tests.fault.own_stack"]

TIMEOUTS = {"ETL_S3_TIMEOUT_S": "2", "ETL_POSTGRES_CONNECT_TIMEOUT_S": "2", "ETL_RETRY_ELAPSED_S_MAX": "5"}
HANG_S = 8
"""Longer than every time-out above: the server's silence itself is what is tested."""
CLEAR = ("No space left", "S3", "Postgres", "no connection")
"""What the error of a full disk may say: a server without space may also end, and Postgres does without its log."""
PLACES = [("stage.recorded", "gdp_sales"), ("postgres.replaced", "")]


@pytest.fixture(scope="module")
def published(own_lake: Lake) -> Lake:
    succeed(own_lake)
    return own_lake


@pytest.fixture
def changed(published: Lake) -> Lake:
    for month in MONTHS:
        raise_prices(published, month)
    return published


@pytest.mark.parametrize(("point", "match"), PLACES)
@pytest.mark.parametrize("server", ["postgres", "s3"])
def test_a_server_that_is_killed_and_comes_back_costs_nothing(
    own_stack: OwnStack, changed: Lake, server: str, point: str, match: str
) -> None:
    """kill -9 of the server, not of the run: what it had promised must still be there."""
    run = stopped_run(changed, point, match, last=LAST, **TIMEOUTS)
    with kill_stopped(run):
        own_stack.kill(server)
        own_stack.up()
        go_on(run)
        run.wait()

    await_sessions_gone(changed)
    succeed(changed)
    prove_whole(changed)


@pytest.mark.parametrize(("point", "match"), PLACES)
@pytest.mark.parametrize("server", ["postgres", "s3"])
def test_a_server_that_hangs_past_the_time_outs_costs_nothing(
    own_stack: OwnStack, changed: Lake, request: pytest.FixtureRequest, server: str, point: str, match: str
) -> None:
    """It answers at last, when the run gave up or still waits: requests that were sent may be done then."""
    if not request.config.getoption("long") and (server, point) not in (
        ("postgres", PLACES[1][0]),
        ("s3", PLACES[0][0]),
    ):
        pytest.skip("only with --long")
    run = stopped_run(changed, point, match, last=LAST, **TIMEOUTS)
    with kill_stopped(run):
        own_stack.signal(server, signal.SIGSTOP)
        try:
            go_on(run)
            time.sleep(HANG_S)
        finally:
            own_stack.signal(server, signal.SIGCONT)
        run.wait()

    await_sessions_gone(changed)
    succeed(changed)
    prove_whole(changed)


@pytest.mark.long
@pytest.mark.parametrize("server", ["postgres", "s3"])
def test_a_disk_that_is_full_fails_the_run_clearly_and_changes_nothing(
    own_stack: OwnStack, changed: Lake, server: str
) -> None:
    """Really full, to the last byte. Space is freed, and the next run completes."""
    before = changed.published_kpi(*MONTHS)
    with own_stack.small_disk(server) as folder:
        filler = fill(folder)
        failed = changed.spawn(FIRST, LAST, **TIMEOUTS).wait()
        filler.unlink()
        own_stack.up()

        assert failed is not None
        assert not failed.success
        assert any(words in failed.error for words in ("No space left", "S3", "Postgres", "no connection")), (
            failed.error
        )
        assert changed.published_kpi(*MONTHS) == before
        await_sessions_gone(changed)
        with watching(changed):
            succeed(changed)
        prove_whole(changed)
