"""The reconcile sensor on a small lake: late data reaches exactly what depends on it, and what fails is made good."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from etl_assets.cli.main import app
from etl_assets.versions import roll_back, unpin
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import alone
from tests.lake import ALL_ASSETS, Lake
from tests.ticks import Ticker

pytest_plugins = ["tests.lake"]
pytestmark = pytest.mark.timeout(300)

FIRST, LAST = "2024-01", "2024-04"


@pytest.fixture(scope="module")
def ticker(module_lake: Lake) -> Ticker:
    """A settled lake of four months, whose sources have been looked at. The ERP's rows are of yesterday: the watermark
    has passed them."""
    for table in ("erp.orders", "erp.order_lines"):
        module_lake.erp(f"alter table {table} disable trigger user")
        module_lake.erp(f"update {table} set updated_at = updated_at - interval '1 day'")
        module_lake.erp(f"alter table {table} enable trigger user")
    first = module_lake.materialize(FIRST, LAST)
    assert first.success, first.error
    ticker = Ticker(module_lake)
    asked = ticker.settle()
    assert {a.layers for a in asked} == {("bronze",)}, "the first look compares all, and finds nothing"
    return ticker


def epochs(lake: Lake) -> dict[tuple[str, str], int]:
    """(asset, partition) → newest epoch."""
    rows = lake.platform("select asset, partition, max(epoch) from etl.publishes group by 1, 2")
    return {(asset, partition): epoch for asset, partition, epoch in rows}


def late_order(lake: Lake, month: str) -> None:
    """An order of a month gets more expensive; the ERP stamps it."""
    lake.erp(
        "update erp.order_lines set extended_price = extended_price + 1 where (order_id, line_number) in ("
        "select l.order_id, l.line_number from erp.order_lines l join erp.orders o using (order_id) "
        "where to_char(o.order_date, 'YYYY-MM') = %s and o.currency is not null order by 1, 2 limit 1)",
        month,
    )


def test_a_late_order_recomputes_its_month_and_nothing_else(ticker: Ticker) -> None:
    """The purpose: the KPI and its target follow by themselves, in one run, and the next tick is at rest."""
    lake, before = ticker.lake, epochs(ticker.lake)
    late_order(lake, "2024-02")

    (asked,) = ticker.tick()

    assert (asked.first, asked.last) == ("2024-02", "2024-02")
    assert set(asked.assets) == set(ALL_ASSETS)
    for other in (ticker, Ticker(lake)):
        assert other.tick() == [], "a run that was asked for and isn't there yet isn't asked for twice, by any daemon"
    done = ticker.run(asked)
    assert done.success, done.error
    changed = {place for place, epoch in epochs(lake).items() if before[place] != epoch}
    assert {p for _, p in changed} == {"2024-02"}
    assert {a for a, _ in changed} >= {
        "bronze.sales_lines",
        "silver.sales_lines",
        "gdp.gdp_sales",
        "kpi.kpi_net_revenue",
    }
    assert lake.published_kpi(FIRST, "2024-02", "2024-03", LAST) == lake.oracle(FIRST, "2024-02", "2024-03", LAST)
    assert ticker.tick() == []
    assert "watermark" in ticker.skipped


def test_a_lost_cursor_costs_nothing_but_time(ticker: Ticker) -> None:
    """What is asked for follows from the ledger, not from what a tick remembered."""
    for cursor in (None, "", "no json", "[]"):
        ticker.cursor = cursor
        assert ticker.tick() == []


def test_contiguous_months_are_one_run_and_others_another(ticker: Ticker) -> None:
    """A range costs one process; a gap isn't filled."""
    for month in (FIRST, "2024-02", LAST):
        late_order(ticker.lake, month)

    asked = ticker.tick()

    assert [(a.first, a.last) for a in asked] == [(FIRST, "2024-02"), (LAST, LAST)]
    assert all(ticker.run(a).success for a in asked)
    assert ticker.tick() == []


def test_a_moved_order_leaves_its_old_month(ticker: Ticker) -> None:
    """Only the new month is seen to change; the capture finds the old one, and both are served right."""
    lake = ticker.lake
    lake.erp(
        "update erp.orders set order_date = '2024-03-05' where order_id = ("
        "select min(order_id) from erp.orders where to_char(order_date, 'YYYY-MM') = '2024-02')"
    )

    asked = ticker.settle()

    assert {(a.first, a.last) for a in asked} <= {
        ("2024-03", "2024-03"),
        ("2024-02", "2024-02"),
        ("2024-02", "2024-03"),
    }
    assert lake.published_kpi("2024-02", "2024-03") == lake.oracle("2024-02", "2024-03")


def test_a_deleted_order_is_found_by_the_sweep(ticker: Ticker) -> None:
    """A deletion leaves no stamp."""
    lake = ticker.lake
    (order,) = lake.erp("select max(order_id) from erp.orders where to_char(order_date, 'YYYY-MM') = %s", "2024-03")
    lake.erp("delete from erp.order_lines where order_id = %s", *order)
    lake.erp("delete from erp.orders where order_id = %s", *order)
    assert ticker.settle() == []

    ticker.ahead += timedelta(hours=25)
    asked = ticker.settle()

    assert [(a.layers, a.first, a.last) for a in asked[:1]] == [(("bronze",), FIRST, LAST)]
    assert {(a.first, a.last) for a in asked[1:]} == {("2024-03", "2024-03")}
    assert lake.published_kpi("2024-03") == lake.oracle("2024-03")


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[Any]]]:
    """Address, and what was posted there; its first answer is a failure."""
    posted: list[Any] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(503 if len(posted) == 1 else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/hook?token=secret", posted
        server.shutdown()


def stuck(lake: Lake, *options: str) -> Result:
    with lake.environment():
        return CliRunner().invoke(app, ["stuck", *options])


def test_a_failed_run_is_asked_for_again_then_it_is_stuck(ticker: Ticker, webhook: tuple[str, list[Any]]) -> None:
    """Bounded: nobody pays for a thousand failures, and somebody is told of them, once."""
    lake, (address, posted) = ticker.lake, webhook
    lake.env["ETL_ALERT_WEBHOOK"] = address
    late_order(lake, FIRST)
    keys = set()
    for _ in range(5):
        (asked,) = ticker.tick()
        assert (asked.first, asked.last) == (FIRST, FIRST)
        keys.add(asked.key)
        assert not ticker.run(asked, ERP_DSN="postgresql://nobody@127.0.0.1:1/erp").success
        assert ticker.tick() == [], "not before its time"
        ticker.ahead += timedelta(hours=1, minutes=1)
    assert len(keys) == 5, "the same key again would never run"
    assert ticker.tick() == []
    assert "stuck: 1" in ticker.skipped
    assert ticker.tick() == ticker.tick() == []
    del lake.env["ETL_ALERT_WEBHOOK"]
    assert [p["kind"] for p in posted] == ["stuck", "stuck"], "again after the failure, then no more"
    assert [(d["partition"], d["tries"]) for d in posted[1]["details"]] == [(FIRST, 5)]
    told = stuck(lake, "--json")
    assert told.exit_code == 1
    assert [(x["asset"], x["partition"]) for x in json.loads(told.stdout)["stuck"]] == [("bronze.sales_lines", FIRST)]
    assert f"bronze.sales_lines, partition {FIRST}: 5 tries" in stuck(lake).stdout

    assert "1 partitions are asked for again" in stuck(lake, "--again").stdout
    (asked,) = ticker.tick()
    assert (asked.first, asked.last) == (FIRST, FIRST)
    assert asked.key not in keys, "the state is that of the first try: its key would never run again"
    late_order(lake, FIRST)  # another state of the inputs is tried, too
    ticker.ahead += timedelta(minutes=1, seconds=1)
    asked = ticker.settle()
    assert stuck(lake).exit_code == 0

    assert {(a.first, a.last) for a in asked} == {(FIRST, FIRST)}
    assert lake.published_kpi(FIRST) == lake.oracle(FIRST)
    assert lake.platform("select 1 from etl.requests") == []


def test_a_change_during_a_run_is_made_good(ticker: Ticker) -> None:
    """Captured before the change, published after it: the next tick sees the level, not the event."""
    lake = ticker.lake
    late_order(lake, LAST)
    (asked,) = ticker.tick()
    assert ticker.run(asked).success
    late_order(lake, LAST)

    assert {(a.first, a.last) for a in ticker.settle()} == {(LAST, LAST)}
    assert lake.published_kpi(LAST) == lake.oracle(LAST)


def test_an_upstream_that_was_run_alone_is_followed(ticker: Ticker) -> None:
    """Whoever publishes: a person, another daemon, a run that failed half way."""
    lake = ticker.lake
    late_order(lake, "2024-02")
    done = lake.materialize("2024-02", selection=["bronze/sales_orders", "bronze/sales_lines", "silver/sales_lines"])
    assert done.success, done.error

    asked = ticker.settle()

    assert {(a.first, a.last) for a in asked} == {("2024-02", "2024-02")}
    assert lake.published_kpi("2024-02") == lake.oracle("2024-02")


def test_a_rollback_is_respected_until_it_is_unpinned(ticker: Ticker) -> None:
    """What a person set back isn't put right by a machine; its dependants follow the old content."""
    lake = ticker.lake
    late_order(lake, LAST)
    ticker.settle()
    newest = lake.published_kpi(LAST)
    roll_back(lake.runtime, "gdp.gdp_sales", "1", [LAST], "disputed", dry_run=False)

    asked = ticker.settle()

    assert {(a.layers, a.first, a.last) for a in asked} == {(("kpi", "postgres"), LAST, LAST)}
    old = lake.published_kpi(LAST)
    assert old != newest
    assert ticker.tick() == []
    unpin(lake.runtime, "gdp.gdp_sales", [LAST], dry_run=False)
    assert {(a.layers[0], a.first, a.last) for a in ticker.settle()} == {("gdp", LAST, LAST)}
    assert lake.published_kpi(LAST) == newest == lake.oracle(LAST)


def test_a_source_that_is_down_is_told_and_looked_at_again(ticker: Ticker) -> None:
    """It doesn't take the time of every tick, and what changed meanwhile isn't missed."""
    lake, address = ticker.lake, ticker.lake.env["ERP_DSN"]
    late_order(lake, "2024-03")
    lake.env["ERP_DSN"] = "postgresql://nobody@127.0.0.1:1/erp"
    assert ticker.tick() == []
    assert "bronze.sales_orders isn't observed" in ticker.skipped
    assert json.loads(stuck(lake, "--json").stdout)["unobserved"].keys() == {
        "bronze.sales_orders",
        "bronze.sales_lines",
    }
    lake.env["ERP_DSN"] = address
    assert ticker.tick() == []
    ticker.ahead += timedelta(minutes=6)
    assert {(a.first, a.last) for a in ticker.settle()} == {("2024-03", "2024-03")}
    assert stuck(lake).exit_code == 0


def test_one_daemon_compares_at_a_time(ticker: Ticker) -> None:
    """The other one's tick is over at once."""
    late_order(ticker.lake, LAST)
    with Ledger.open(ticker.lake.settings) as ledger, alone(ledger, "reconcile"):
        assert ticker.tick() == []
    assert ticker.skipped == "Another daemon is comparing."
    assert {(a.first, a.last) for a in ticker.settle()} == {(LAST, LAST)}


def test_what_was_never_published_is_left_alone(ticker: Ticker) -> None:
    """Twenty years of history aren't computed because somebody tried one month."""
    late_order(ticker.lake, "2024-06")
    assert ticker.settle() == []
    assert ("kpi.kpi_net_revenue", "2024-06") not in epochs(ticker.lake)
