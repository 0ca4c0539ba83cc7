"""COMMIT was sent and done, its answer never came: it is read back, neither repeated nor taken for a failure."""

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.fault.proxy import proxy_to
from tests.fault.reader import watching
from tests.fault.scenarios import go_on, kill_stopped, stopped_run
from tests.fault.sources import raise_prices
from tests.invariants import await_sessions_gone, prove_whole
from tests.lake import SERVED, Lake
from tests.one_month import MONTH

pytest_plugins = ["tests.lake", "tests.one_month"]


@pytest.mark.parametrize(
    ("point", "match"),
    [
        pytest.param("postgres.before_commit", "", id="serving"),
        pytest.param("publish.before_swap", "gdp_sales", id="catalog"),
        pytest.param("evidence.recording", "", id="ledger"),
    ],
)
def test_a_commit_whose_answer_is_lost_counts_once(published: Lake, point: str, match: str) -> None:
    """The connection ends between the server's COMMIT and its answer, for real; the proxy then stays closed."""
    raise_prices(published, MONTH)
    parts = conninfo_to_dict(published.platform_dsn)
    with watching(published):
        with proxy_to(str(parts["host"]), int(str(parts["port"]))) as proxy:
            dsn = make_conninfo(published.platform_dsn, port=proxy.port)
            run = stopped_run(published, point, match, first=MONTH, ETL_POSTGRES_DSN=dsn)
            with kill_stopped(run):
                proxy.lose_answer_to(b"COMMIT\0")
                go_on(run)
                run.wait()
            assert proxy.lost_answer, "no COMMIT passed the proxy"
        await_sessions_gone(published)
        again = published.materialize(MONTH)

    assert again.success, again.error
    if point == "postgres.before_commit":
        assert again.partitions(SERVED, "pruned") == {MONTH}, "what was committed was published a second time"
    prove_whole(published)
