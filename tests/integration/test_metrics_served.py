"""Metrics of a small lake, as Prometheus reads them: from the ledger, of runs that are gone as well."""

import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from typer.testing import CliRunner

from etl_assets.cli.main import app
from etl_assets.definitions import build_definitions
from etl_assets.metrics import LedgerCollector
from etl_assets.recover import settle_dead
from etl_resources.ledger.liveness import assets_to_settle
from etl_resources.observe.endpoint import Endpoint, MetricsServer
from etl_resources.observe.families import FAMILIES
from tests.certificates import new_authority
from tests.lake import ALL_ASSETS, LINES, ORDERS, SILVER_ORDERS, Lake
from tests.projects import SALES

pytest_plugins = ["tests.lake"]
pytestmark = pytest.mark.timeout(300)

FIRST, LAST = "2024-01", "2024-03"


def scraped(lake: Lake) -> "Scrape":
    """What `data-pipeline metrics --once` prints."""
    with lake.environment():
        done = CliRunner().invoke(app, ["metrics", "--once"], catch_exceptions=False)
    assert done.exit_code == 0
    return Scrape(done.stdout)


class Scrape:
    """An exposition, read back by the reference parser."""

    def __init__(self, text: str) -> None:
        self.samples = [s for f in text_string_to_metric_families(text) for s in f.samples]

    def value(self, name: str, **labels: str) -> float | None:
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        return sum(found) if found else None

    def assets(self, name: str, **labels: str) -> set[str]:
        return {s.labels["asset"] for s in self.samples if s.name == name and labels.items() <= s.labels.items()}


@pytest.fixture(scope="module")
def lake(module_lake: Lake) -> Lake:
    """Three months, materialized once and found unchanged once; an order of another one is rejected."""
    for _ in range(2):
        done = module_lake.materialize(FIRST, LAST)
        assert done.success, done.error
    module_lake.erp(
        "update erp.orders set total_price = -1 where order_id = "
        "(select order_id from erp.orders where to_char(order_date, 'YYYY-MM') = '2023-09' order by 1 limit 1)"
    )
    assert module_lake.materialize("2023-09", selection=[ORDERS, LINES, SILVER_ORDERS]).success
    return module_lake


def test_rows_bytes_and_pruning_are_those_of_the_runs(lake: Lake) -> None:
    """What is told must be what the ledger can prove, to the row."""
    found = scraped(lake)
    assets = {a.replace("/", ".") for a in ALL_ASSETS}

    assert found.value("etl_up") == 1
    assert not [s for s in found.samples if s.name == "etl_scrape_failed" and s.value]
    assert found.assets("etl_attempts_total", outcome="published") == assets
    assert found.assets("etl_publishes_total") == assets
    for asset in assets:
        ((read, rejected),) = lake.platform(
            "select sum((counts ->> 'read')::int), sum((counts ->> 'rejected')::int) from etl.publishes "
            "where asset = %s", asset,
        )  # fmt: skip
        assert found.value("etl_rows_total", asset=asset, kind="read") == read
        assert found.value("etl_rows_total", asset=asset, kind="rejected") == rejected
        assert found.value("etl_pruned_partitions_total", asset=asset) == 3
    letters = lake.platform("select asset, rule, sum(rows) from etl.current_dead_letter_reasons group by 1, 2")
    assert letters
    for asset, rule, rows in letters:
        assert found.value("etl_dead_letters", asset=asset, rule=rule) == rows
    gdp = found.value("etl_read_bytes_total", asset="gdp.gdp_sales")
    assert gdp == found.value("etl_pruned_bytes_total", asset="gdp.gdp_sales"), "what was read once was spared once"
    assert found.value("etl_read_files_total", asset="gdp.gdp_sales") == 6, "orders and lines of three months"
    assert found.value("etl_read_bytes_total", asset="bronze.sales_orders") is None, "nobody counts a source's bytes"


def test_the_share_that_was_read_is_in_the_web_ui(lake: Lake) -> None:
    """One late month of three reads a third of the files (M4)."""
    lake.erp("update erp.order_lines set extended_price = extended_price + 1 where order_id in "
             "(select order_id from erp.orders where to_char(order_date, 'YYYY-MM') = '2024-02' limit 20)")  # fmt: skip
    done = lake.materialize(FIRST, LAST)
    assert done.success, done.error

    ((reads,),) = lake.platform(
        "select reads from etl.publishes where asset = 'gdp.gdp_sales' and partition = '2024-02' "
        "order by epoch desc limit 1"
    )
    assert (reads["files"], reads["files_total"]) == (2, 7), "orders of a fourth month, too"
    assert 0 < reads["size_bytes"] < reads["bytes_total"]
    ((partitions, epochs),) = lake.platform(
        "select partitions, epochs from etl.prunes where asset = 'gdp.gdp_sales' order by pruned_at desc limit 1"
    )
    assert partitions == ["2024-01", "2024-03"]
    assert len(epochs) == 2


def test_a_killed_run_is_told_until_it_is_settled(lake: Lake) -> None:
    """Nobody can tell of a crash but the ledger: the run itself is gone (kill -9)."""
    lake.erp("update erp.order_lines set extended_price = extended_price + 1 where order_id in "
             "(select order_id from erp.orders where to_char(order_date, 'YYYY-MM') = '2024-03' limit 20)")  # fmt: skip
    child = lake.spawn("2024-03", points=[{"point": "audit.passed", "action": "kill", "match": "gdp.gdp_sales"}])
    assert child.wait() is None, child.log

    crashed = scraped(lake)
    with lake.environment():
        settle_dead(lake.runtime, assets_to_settle(lake.settings))
    settled = scraped(lake)

    assert crashed.assets("etl_attempts_open", state="crashed") == {"gdp.gdp_sales"}
    assert crashed.value("etl_attempts_open", state="running") is None
    assert settled.value("etl_attempts_open") is None
    assert settled.value("etl_attempts_total", asset="gdp.gdp_sales", outcome="abandoned") == 1
    assert lake.materialize(FIRST, LAST).success


def test_no_label_grows_with_partitions_or_runs(lake: Lake) -> None:
    """A label of months or runs would be a time series each, for ever."""
    before = scraped(lake)
    assert lake.materialize("2023-10", "2023-12").success
    after = scraped(lake)

    def series(scrape: Scrape) -> set[tuple[str, frozenset[tuple[str, str]]]]:
        return {(s.name, frozenset(s.labels.items())) for s in scrape.samples}

    assert series(after) == series(before)
    exposed = {f.exposed for f in FAMILIES}
    assert {s.name for s in after.samples} <= exposed
    known = {"tenant", "layer", "asset"} | {f.label for f in FAMILIES if f.label}
    assert {label for s in after.samples for label in s.labels} <= known
    runs = {run for (run,) in lake.platform("select run_id from etl.intents")}
    values = {v for s in after.samples for v in s.labels.values()}
    assert not values & (runs | {"2024-01", "2024-02", "2024-03"})


@contextmanager
def serving(endpoint: Endpoint, registry: CollectorRegistry) -> Iterator[str]:
    """The endpoint in a thread; its address."""
    with MetricsServer(endpoint, registry, print) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            scheme = "https" if endpoint.certificate else "http"
            yield f"{scheme}://{endpoint.address}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_a_ledger_that_goes_away_is_told_and_survived(lake: Lake) -> None:
    """Monitoring must outlive what it watches, and see it come back."""
    told: list[str] = []
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    dsn = SecretStr(f"postgresql://nobody:nothing@127.0.0.1:{port}/none")
    now = [lake.settings.model_copy(update={"postgres_dsn": dsn})]
    collector = LedgerCollector(lake.runtime.project, lambda: now[0], told.append, cache_s=0)
    with serving(Endpoint(port=0), collector.registry()) as address:
        down = Scrape(httpx.get(f"{address}/metrics", timeout=30).raise_for_status().text)
        httpx.get(f"{address}/metrics", timeout=30)
        assert httpx.get(f"{address}/healthz").text == "ok\n"
        assert httpx.get(f"{address}/").status_code == 404
        now[0] = lake.settings
        up = Scrape(httpx.get(f"{address}/metrics", timeout=30).text)

    assert (down.value("etl_up"), up.value("etl_up")) == (0, 1)
    assert {s.name for s in down.samples} == {"etl_up", "etl_build_info"}
    assert len(told) == 2, "a problem is told once, and its end"
    assert "nothing" not in "".join(told)


def test_off_loopback_it_wants_a_token_and_tls(lake: Lake, tmp_path: Path) -> None:
    """Metrics name tables and amounts: not for everybody who can reach the machine."""
    token, authority = tmp_path / "token", new_authority(tmp_path, "authority")
    token.write_text("0123456789abcdef-secret\n")
    authority.server("127.0.0.1")
    pem = tmp_path / "127.0.0.1.pem"
    endpoint = Endpoint(port=0, token_file=token, certificate=pem, key=pem)
    collector = LedgerCollector(lake.runtime.project, lambda: lake.settings, print)
    trust = ssl.create_default_context(cafile=str(authority.file))
    with serving(endpoint, collector.registry()) as address:

        def get(**headers: str) -> int:
            return httpx.get(f"{address}/metrics", headers=headers, verify=trust, timeout=30).status_code

        assert get() == 401
        assert get(Authorization="Bearer wrong") == 401
        assert get(Authorization="Bearer 0123456789abcdef-secret") == 200
        token.write_text("another-token-of-enough-characters")
        assert get(Authorization="Bearer 0123456789abcdef-secret") == 401


def test_a_missed_objective_is_told_once_until_it_is_met(lake: Lake, tmp_path: Path) -> None:
    """An alert a minute would be switched off; one that never comes again, too."""
    root = tmp_path / "project"
    shutil.copytree(lake.settings.project or SALES, root)
    manifest = root / "datasets/kpi_net_revenue/manifest.yaml"
    text = manifest.read_text()

    def tick(within_hours: int) -> tuple[str, list[tuple[str]]]:
        manifest.write_text(f"freshness: {{within_hours: {within_hours}}}\n{text}")
        with lake.environment(ETL_PROJECT=str(root)):
            sensor = build_definitions().get_sensor_def("freshness")
            assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
            done = sensor.evaluate_tick(dg.build_sensor_context())
        return done.skip_message or "", lake.platform("select asset, told_at from etl.late order by 1")

    message, told = tick(24)
    assert "kpi.kpi_net_revenue is" in message
    assert "its freshness is 24 h: 2024-04 isn't published" in message
    assert [asset for asset, *_ in told] == ["kpi.kpi_net_revenue", "postgres.analytics.kpi_net_revenue"]
    assert tick(24)[1] == told, "told once"
    assert tick(1_000_000) == ("Every objective is met.", [])
    assert tick(24)[1] != told, "and again after it was met"
