"""With the stack up: what changes in a source reaches KPIs, Postgres and Elasticsearch, and nobody does anything."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from etl_assets.cli.main import app
from etl_resources.ledger.ledger import Ledger
from etl_resources.stack.ports import choose
from tests.daemons import DagsterOf, WebUi
from tests.fault.scenarios import until
from tests.histories import judge, oracle
from tests.histories.changes import Changes
from tests.histories.oracle import MONTHS, WHOLE, Place
from tests.histories.sources import Sources, history_lake
from tests.lake import Lake
from tests.search_target import search_variables

pytest_plugins = ["tests.lake"]
pytestmark = pytest.mark.timeout(1200)

DEADLINE_S = 400
RESULTS = {"kpi.revenue", "postgres.analytics.revenue", "elasticsearch.history_orders"}
"""What is made of the months that change; tables of several months follow a tick later."""
TICKS = """{ sensorOrError(sensorSelector: {repositoryName: "__repository__", repositoryLocationName: "test",
    sensorName: "reconcile"}) { ... on Sensor { sensorState { ticks(limit: 60) { timestamp status runIds skipReason
    error { message } } } } } }"""
RUN = """{ runOrError(runId: "%s") { ... on Run { status assetMaterializations {
    assetKey { path } partition metadataEntries { label ... on TextMetadataEntry { text } } } } } }"""


class Warehouse:
    """The sources, and the web UI of the Dagster that follows them."""

    def __init__(self, sources: Sources, ui: WebUi) -> None:
        self.sources, self.ui = sources, ui
        self._ahead_s = 0.0

    @contextmanager
    def between_ticks(self) -> Iterator[None]:
        """No tick compares meanwhile."""
        with Ledger.open(self.sources.lake.settings) as ledger:
            ledger.connection.execute("set lock_timeout = 0")
            ledger.connection.execute("select pg_advisory_lock(hashtextextended('reconcile', 0))")
            yield

    def pass_time(self, hours: int) -> None:
        """On the sensor's clock."""
        self._ahead_s += timedelta(hours=hours).total_seconds()
        temporary = self.sources.lake.home / "ahead.new"
        temporary.write_text(str(self._ahead_s))
        temporary.rename(self.sources.lake.home / "ahead")

    def plan(self) -> dict[str, set[Place]]:
        """What `data-pipeline plan '*'` names: action → places."""
        with self.sources.lake.environment():
            done = CliRunner().invoke(app, ["plan", "*", "--to", MONTHS[-1], "--json"])
        assert done.exit_code == 0, (done.output, done.exception)
        found: dict[str, set[Place]] = {}
        for asset in json.loads(done.stdout)["assets"]:
            for step in asset["partitions"]:
                found.setdefault(step["action"], set()).add((asset["asset"], step["partition"]))
        return found

    def ticks(self) -> list[dict[str, Any]]:
        """The sensor's, newest first, as the UI lists them."""
        found: list[dict[str, Any]] = self.ui.ask(TICKS)["sensorOrError"]["sensorState"]["ticks"]
        return found

    def await_rest(self, after: float) -> list[set[Place]]:
        """Until a tick finds nothing to do and nothing to wait for; what the runs of each tick that asked published."""

        def at_rest() -> bool:
            newest = next((t for t in self.ticks() if t["status"] in ("SKIPPED", "SUCCESS", "FAILURE")), None)
            if newest is None or newest["timestamp"] <= after or newest["status"] != "SKIPPED":
                return False
            told = newest["skipReason"]
            return not any(word in told for word in ("waiting", "compared", "Another"))

        until(at_rest, "all is fresh", DEADLINE_S)
        ticks = [t for t in self.ticks() if t["timestamp"] > after]
        assert [t["error"] for t in ticks if t["error"]] == []
        asking = [t for t in reversed(ticks) if t["runIds"]]
        return [{p for run in tick["runIds"] for p in self._computed(run)} for tick in asking]

    def _computed(self, run: str) -> Iterator[Place]:
        """Places of a run that were computed, and not pruned."""
        found = self.ui.ask(RUN % run)["runOrError"]
        assert found["status"] == "SUCCESS", run
        for event in found["assetMaterializations"]:
            status = next((e["text"] for e in event["metadataEntries"] if e["label"] == "status"), "pruned")
            if status != "pruned":
                yield ".".join(event["assetKey"]["path"]), event["partition"] or WHOLE

    def newest_tick(self) -> float:
        """Its time; 0 before the first."""
        return max((float(t["timestamp"]) for t in self.ticks()), default=0.0)


@pytest.fixture
def warehouse(stack: object, search: object, tmp_path: Path) -> Iterator[Warehouse]:
    """Everything is published, a daemon ticks, the web server answers, and the first looks at the sources are over."""
    with ExitStack() as until_done:
        sources = until_done.enter_context(history_lake(tmp_path / "lake", search_variables()))
        Changes(sources, Random(1)).first()
        dagster = DagsterOf(sources.lake, tmp_path, "tests.integration.late_data_definitions")
        first = sources.lake.materialize(MONTHS[0], MONTHS[-1], DAGSTER_HOME=dagster.home)
        assert first.success, first.error
        port = choose(("http",), {}, set())["http"]
        ui = until_done.enter_context(dagster.web_server(port))
        until_done.enter_context(dagster.daemon())
        until(ui.answers, "the web server answers", DEADLINE_S)
        made = Warehouse(sources, ui)
        made.await_rest(0.0)
        yield made


def test_every_kind_of_change_reaches_everything_that_depends_on_it(warehouse: Warehouse) -> None:
    """An update, a moved and a deleted order, another customer file, a restated rate: in two ticks in what is made of
    their months, in one more in what reads several; what ran is what `plan` had named. The UI shows the same.
    """
    sources, lake = warehouse.sources, warehouse.sources.lake
    before = oracle.contents(sources.state())

    with warehouse.between_ticks():
        updated, moved, deleted = first_orders(sources, "2023-03", "2023-06", "2023-09")
        lake.erp("update erp.lines set amount = amount + 1 where order_id = %s", updated)
        lake.erp("update erp.orders set order_date = '2023-07-15' where order_id = %s", moved)
        lake.erp("delete from erp.lines where order_id = %s", deleted)
        lake.erp("delete from erp.orders where order_id = %s", deleted)
        name, rows = next(iter(sources.files.items()))
        sources.drop(name, {**rows, (min(rows)[0], date(2024, 1, 1)): ("MOVED", "")})
        planned, newest = warehouse.plan(), warehouse.newest_tick()
        warehouse.pass_time(25)
    first = warehouse.await_rest(newest)

    after = oracle.contents(sources.state())
    prove_reached(first, oracle.published(oracle.changed(before, after)))
    ran = set().union(*first)
    assert planned["compute"] <= ran <= planned["compute"] | planned["may change"]
    judge.prove_contents(sources, after)

    with warehouse.between_ticks():
        sources.rates[used_rate(after, "2023-05")] += Decimal("0.100000")
        an_hour_ago(lake)
        planned, newest = warehouse.plan(), warehouse.newest_tick()
        warehouse.pass_time(2)
    second = warehouse.await_rest(newest)

    restated = oracle.contents(sources.state())
    prove_reached(second, oracle.published(oracle.changed(after, restated)))
    assert ("bronze.rates", WHOLE) in planned["look"], "an API can't be looked at without fetching it"
    may = oracle.may_be_computed(oracle.changed(after, restated), mixed=False)
    assert set().union(*second) <= may | {("bronze.rates", WHOLE)}
    judge.prove_contents(sources, restated)


def an_hour_ago(lake: Lake) -> None:
    """`plan` has the database's clock, by which the API was compared just now: then it takes it as it is."""
    old = "now() - interval '61 minutes'"
    lake.platform(f"update etl.publishes set published_at = {old} where asset = 'bronze.rates'")
    lake.platform(f"update etl.source_looks set swept_at = {old} where source = 'bronze.rates'")


def prove_reached(ticks: list[set[Place]], wanted: set[Place]) -> None:
    """In how many ticks that asked for something."""
    assert {asset for asset, _ in wanted} >= RESULTS
    late = {p for p in wanted if p[0] in RESULTS} - set().union(*ticks[:2])
    assert not late, (late, ticks)
    assert not wanted - set().union(*ticks[:3]), (wanted, ticks)


def used_rate(contents: oracle.Contents, month: str) -> tuple[str, date]:
    """One that a line of the month was converted by."""
    day, currency = (contents["gdp.sales", month][0][column] for column in (2, 5))
    (published,) = (row[2] for row in contents["looked up rates", month] if row[:2] == (currency, day))
    return currency, published


def first_orders(sources: Sources, *months: str) -> list[int]:
    """One with a line that is sold of each month."""
    sold: Mapping[Place, oracle.Rows] = oracle.contents(sources.state())
    return [sold["gdp.sales", month][0][0] for month in months]
