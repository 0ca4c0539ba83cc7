"""Dagster's daemon and web server on a shop, as `data-pipeline up` starts them; the daemon looks every second."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from etl_resources.stack.dagster_servers import Daemon, WebServer
from etl_resources.stack.ports import choose
from etl_resources.stack.processes import Command
from etl_resources.stack.state import ServerRecord
from tests.fault.scenarios import until
from tests.integration.backfill_shop import Shop
from tests.lake import PROJECT_DIR

OFTEN = (
    "import runpy, sys, dagster._daemon.controller as c; c.DEFAULT_DAEMON_INTERVAL_SECONDS = 1; "
    "sys.argv = sys.argv[1:]; runpy.run_module('dagster._daemon', run_name='__main__')"
)
LAUNCH = """
mutation($of: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $of) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
} }"""
STATUS = """
query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"""
PARTITIONS = """
query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { assetPartitionStatuses {
  ... on TimePartitionStatuses { ranges { startKey endKey status } }
} } } }"""


@dataclass(frozen=True)
class WebUi:
    """What the pages of the web UI send, and what they show."""

    port: int

    def backfill(self, assets: Sequence[str], months: Sequence[str]) -> str:
        """As the button does, and wait for its end: its status."""
        keys = [{"path": asset.split(".")} for asset in assets]
        answer = self._ask(LAUNCH, of={"assetSelection": keys, "partitionNames": [*months]})
        launched = answer["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        until(lambda: self._status(launched["backfillId"]) not in ("REQUESTED", "FAILING"), "the backfill ends")
        return self._status(launched["backfillId"])

    def colours(self, asset: str) -> dict[str, str]:
        """First month of a range → the status in which the asset's page shows it."""
        found = self._ask(PARTITIONS, key={"path": asset.split(".")})["assetNodeOrError"]["assetPartitionStatuses"]
        return {r["startKey"]: r["status"] for r in found["ranges"]}

    def _status(self, backfill: str) -> str:
        return str(self._ask(STATUS, id=backfill)["partitionBackfillOrError"]["status"])

    def _ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  (as above)
            found = json.load(answer)
        assert "errors" not in found, found["errors"]
        data: dict[str, Any] = found["data"]
        return data


@contextmanager
def dagster_of(shop: Shop, folder: Path) -> Iterator[WebUi]:
    """Both servers, until all their processes are gone."""
    text = (PROJECT_DIR / "dagster.yaml").read_text()
    soon = text.replace("dequeue_interval_seconds: 2", "dequeue_interval_seconds: 1")
    assert soon != text
    folder.mkdir()
    (folder / "dagster.yaml").write_text(soon)
    (folder / "workspace.yaml").write_text((PROJECT_DIR / "workspace.yaml").read_text())
    record = ServerRecord(ports=choose(("http",), {}, set()))
    with ExitStack() as until_done:
        for server in (
            Daemon(shop.lake.home, folder, shop.lake.platform_dsn),
            WebServer(shop.lake.home, folder, shop.lake.platform_dsn),
        ):
            server.prepare(record)
            command = server.command(record)
            argv = [*command.argv]
            if isinstance(server, Daemon):
                argv = [sys.executable, "-c", OFTEN, "dagster-daemon", *argv[3:]]
            log = shop.lake.home / f"{server.name}.log"
            until_done.enter_context(_running(Command(argv, command.folder, command.environment), shop, log))
        ui = WebUi(record.ports["http"])
        until(lambda: _answers(ui), "the web server answers")
        heartbeats = (
            "select count(*) from daemon_heartbeats where daemon_type in ('BACKFILL', 'QUEUED_RUN_COORDINATOR')"
        )
        until(lambda: shop.lake.platform(heartbeats) == [(2,)], "the daemon lives")
        yield ui


@contextmanager
def _running(command: Command, shop: Shop, log: Path) -> Iterator[None]:
    environment: Mapping[str, str] = {**command.environment, "PYTHONPATH": str(PROJECT_DIR)}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command.argv, cwd=command.folder, env=shop.lake.variables(**environment), stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for one in family:
            one.kill()
        process.wait()
        psutil.wait_procs(family, timeout=30)


def _answers(ui: WebUi) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{ui.port}/server_info", timeout=5):
            return True
    except OSError:
        return False
