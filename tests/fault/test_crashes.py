"""kill -9 at every step of the protocol: the next run converges, nothing is lost, doubled or left behind."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.invariants import await_sessions_gone, prove_whole
from tests.lake import Lake

pytest_plugins = ["tests.lake"]

FIRST, LAST = "2024-01", "2024-02"
PUBLISH = "etl_resources.tables.table_store:publish"
SINK = "etl_resources.sinks.postgres_sink:PostgresSink"


def kill(target: str, when: str, match: str = "", nth: int = 1) -> dict[str, Any]:
    return {"target": target, "when": when, "match": match, "nth": nth, "action": "kill"}


POINTS = {
    "during capture, one of two tables written": kill("etl_assets.graph.capture_step:capture_table", "after"),
    "first bronze table staged": kill("etl_resources.tables.table_store:stage", "after", "bronze"),
    "bronze staged, nothing published": kill(PUBLISH, "before", "bronze"),
    "first bronze table committed, no evidence": kill(PUBLISH, "after", "bronze"),
    "first bronze table published, second not": kill(PUBLISH, "before", "bronze", 2),
    "gdp planned, nothing staged": kill("etl_resources.tables.table_store:stage", "before", "gdp_sales"),
    "gdp staged": kill(PUBLISH, "before", "gdp_sales"),
    "kpi committed, no evidence": kill(PUBLISH, "after", "kpi_net_revenue"),
    "serving copied": kill(f"{SINK}.publish", "before"),
    "inside the serving transaction": kill(f"{SINK}._fill", "after"),
    "serving committed, no evidence": kill("etl_resources.ledger.ledger:Ledger.record_published", "before", "None"),
}


@dataclass
class Watch:
    """Totals that a reader saw of the served months."""

    seen: set[Decimal] = field(default_factory=set)
    errors: list[Exception] = field(default_factory=list)


@pytest.fixture(scope="module")
def published(module_lake: Lake) -> Lake:
    run = module_lake.materialize(FIRST, LAST)
    assert run.success, run.error
    return module_lake


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_run_leaves_what_the_next_run_completes(published: Lake, point: str) -> None:
    """Whatever step the process died in, readers see the old total or the new one, and the rerun repairs the rest."""
    old = total(published)
    published.erp(
        "update erp.order_lines set extended_price = extended_price + 1 where (order_id, line_number) in "
        "(select order_id, line_number from erp.order_lines join erp.orders using (order_id) "
        "where order_date >= '2024-01-01' and order_date < '2024-03-01' order by 1, 2 limit 50)"
    )

    with watching(published) as watch:
        killed = published.spawn(FIRST, LAST, interrupt=POINTS[point]).wait()
        assert killed is None, f"the point was not reached: {killed}"
        await_sessions_gone(published)
        rerun = published.materialize(FIRST, LAST)

    assert rerun.success, rerun.error
    prove_whole(published)
    assert not watch.errors
    assert watch.seen <= {old, total(published)}, "a reader saw a torn month"


def total(lake: Lake) -> Decimal:
    ((found,),) = lake.platform("select sum(net_revenue) from analytics.kpi_net_revenue")
    return Decimal(found)


@contextmanager
def watching(lake: Lake) -> Iterator[Watch]:
    """A reader that sums the served KPI in a loop."""
    watch, done = Watch(), threading.Event()

    def loop() -> None:
        try:
            with psycopg.connect(lake.platform_dsn, autocommit=True) as connection:
                while not done.wait(0.002):
                    row = connection.execute("select sum(net_revenue) from analytics.kpi_net_revenue").fetchone()
                    watch.seen.add(Decimal(row[0] if row else 0))
        except Exception as e:  # noqa: BLE001  (told by the test)
            watch.errors.append(e)

    reader = threading.Thread(target=loop)
    reader.start()
    try:
        yield watch
    finally:
        done.set()
        reader.join()
