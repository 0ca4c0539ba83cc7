"""Dagster's own processes over a lake: an instance on its database, daemons and a web server as `up` starts them."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from etl_resources.stack.dagster_servers import Daemon, WebServer
from etl_resources.stack.processes import Command
from etl_resources.stack.state import ServerRecord
from tests.lake import PROJECT_DIR, Lake

SOON = {"poll_interval_seconds: 30": "poll_interval_seconds: 2", "dequeue_interval_seconds: 2":
        "dequeue_interval_seconds: 1", "max_concurrent_runs: 4": "max_concurrent_runs: 10"}  # fmt: skip
"""What dagster.yaml says, and what it says here, so that a test needn't wait."""


class DagsterOf:
    """Dagster of a lake. module: of the definitions that it loads."""

    def __init__(self, lake: Lake, folder: Path, module: str) -> None:
        self.lake, self._folder = lake, folder
        text = (PROJECT_DIR / "dagster.yaml").read_text()
        for is_, soon in SOON.items():
            assert is_ in text
            text = text.replace(is_, soon)
        (folder / "dagster.yaml").write_text(text)
        (folder / "workspace.yaml").write_text(
            f"load_from: [{{python_module: {{module_name: {module}, location_name: test}}}}]\n"
        )
        self._daemon = Daemon(lake.home, folder, lake.platform_dsn)
        self._daemon.prepare(ServerRecord())

    @property
    def home(self) -> str:
        """DAGSTER_HOME."""
        return str(self.lake.home / "dagster")

    @contextmanager
    def daemon(self, name: str = "daemon", **environment: str) -> "Iterator[subprocess.Popen[bytes]]":
        """No process of it is left at the end."""
        with self._started(self._daemon.command(ServerRecord()), name, environment) as process:
            yield process

    @contextmanager
    def web_server(self, port: int) -> Iterator["WebUi"]:
        """It may not answer yet."""
        server = WebServer(self.lake.home, self._folder, self.lake.platform_dsn)
        with self._started(server.command(ServerRecord(ports={"http": port})), "web-server", {}):
            yield WebUi(f"http://127.0.0.1:{port}")

    @contextmanager
    def _started(
        self, command: Command, name: str, environment: Mapping[str, str]
    ) -> "Iterator[subprocess.Popen[bytes]]":
        variables = self.lake.variables(**command.environment, PYTHONPATH=str(PROJECT_DIR), **environment)
        with (self.lake.home / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command.argv, cwd=command.folder, env=variables, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class WebUi:
    """What the pages of the UI are made of: its GraphQL API."""

    def __init__(self, address: str) -> None:
        self._address = address

    def answers(self) -> bool:
        """Whether it has loaded the definitions."""
        try:
            found = self.ask("{ repositoriesOrError { __typename ... on RepositoryConnection { nodes { name } } } }")
        except OSError:
            return False
        return bool(found["repositoriesOrError"].get("nodes"))

    def ask(self, query: str) -> Any:
        """The data of one query."""
        body = json.dumps({"query": query}).encode()
        request = Request(f"{self._address}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310  (loopback)
        with urlopen(request, timeout=60) as answer:  # noqa: S310
            found = json.load(answer)
        assert "errors" not in found, found["errors"]
        return found["data"]
