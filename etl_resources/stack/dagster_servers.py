"""Dagster's web server and daemon, run from the project's folder on the platform's Postgres."""

import http.client
import json
import secrets
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from etl_resources.errors import SettingsError, TransientError
from etl_resources.ledger.connection import connect, typed_errors
from etl_resources.stack.ports import LOOPBACK, is_free
from etl_resources.stack.processes import Command, listens, recorded
from etl_resources.stack.state import ServerRecord

PROJECT_FILES = ("dagster.yaml", "workspace.yaml")
UI_PORT = 3000
"""Preferred, because people know it; any free one when it is taken."""
HEARTBEAT_MAX_AGE_S = 120
"""The daemon beats every 30 s; a loaded machine is late."""


def write_dagster_home(home: Path, project_dir: Path) -> Path:
    """DAGSTER_HOME of a project: {home}/dagster with the project's dagster.yaml as it is today.

    Raises SettingsError when the folder isn't a project's.
    """
    require_project(project_dir)
    folder = home.resolve() / "dagster"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = folder / f".dagster.yaml.{secrets.token_hex(4)}"
    shutil.copyfile(project_dir / "dagster.yaml", temporary)
    temporary.replace(folder / "dagster.yaml")
    return folder


def require_project(project_dir: Path, files: Sequence[str] = PROJECT_FILES[:1], otherwise: str = "") -> None:
    """Raises SettingsError when the folder isn't a project's: nothing shall be started in a wrong one.

    files: those that are needed. otherwise: what else can be done, as the end of a sentence.
    """
    for needed in files:
        if not (project_dir / needed).exists():
            raise SettingsError(f"{project_dir} has no {needed}. Run from the project's folder{otherwise}.")


class _DagsterServer:
    """What the two have in common: DAGSTER_HOME, workspace, code servers as children."""

    name = ""
    port_names: tuple[str, ...] = ()
    start_timeout_s = 120
    stop_signal = signal.SIGTERM
    stop_grace_s = 20

    def __init__(self, home: Path, project_dir: Path, platform_dsn: str) -> None:
        self._home = home
        self._project_dir = project_dir
        self._platform_dsn = platform_dsn

    def new_secrets(self) -> dict[str, str]:
        """None."""
        return {}

    def prepare(self, record: ServerRecord) -> None:  # noqa: ARG002  (Server)
        """Copy the project's dagster.yaml to DAGSTER_HOME, as it is today."""
        write_dagster_home(self._home, self._project_dir)

    def settle(self, record: ServerRecord) -> None:
        """Nothing to make: Dagster creates its tables."""
        record.provisioned = True

    def _command(self, module: str, *arguments: str) -> Command:
        workspace = str(self._project_dir / "workspace.yaml")
        environment = {"DAGSTER_HOME": str(self._home / "dagster"), "ETL_HOME": str(self._home)}
        return Command([sys.executable, "-m", module, *arguments, "-w", workspace], self._project_dir, environment)


class WebServer(_DagsterServer):
    """The UI and its GraphQL API."""

    name = "dagster-webserver"
    port_names: tuple[str, ...] = ("http",)

    def preferred_ports(self) -> dict[str, int]:
        """Port 3000 where free."""
        return {"http": UI_PORT} if is_free(UI_PORT) else {}

    def command(self, record: ServerRecord) -> Command:
        """Loopback only: it has no login."""
        return self._command("dagster_webserver", "-h", LOOPBACK, "-p", str(record.ports["http"]))

    def check(self, record: ServerRecord) -> None:
        """GET /server_info, answered by our process and no stranger on its port. Raises TransientError."""
        process = recorded(record, self._home)
        if process is None or not listens(process, record.ports["http"]):
            raise TransientError("web server: not listening yet")
        connection = http.client.HTTPConnection(LOOPBACK, record.ports["http"], timeout=5)
        try:
            connection.request("GET", "/server_info")
            answer = connection.getresponse()
            version = json.loads(answer.read()).get("dagster_webserver_version")
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as e:
            raise TransientError(f"web server: no answer on port {record.ports['http']} ({type(e).__name__})") from e
        finally:
            connection.close()
        if not version:
            raise TransientError(f"web server: port {record.ports['http']} is answered by something else")


class Daemon(_DagsterServer):
    """Schedules, sensors, the run queue and run monitoring."""

    name = "dagster-daemon"

    def command(self, record: ServerRecord) -> Command:  # noqa: ARG002  (Server)
        """One daemon per storage."""
        return self._command("dagster._daemon", "run")

    def check(self, record: ServerRecord) -> None:
        """The process lives and has written a heartbeat lately. Raises TransientError."""
        process = recorded(record, self._home)
        if process is None:
            raise TransientError("daemon: not running")
        age_s = self._heartbeat_age_s(process)
        if age_s > HEARTBEAT_MAX_AGE_S:
            raise TransientError(f"daemon: no heartbeat for {age_s:.0f} s")

    def _heartbeat_age_s(self, process: psutil.Process) -> float:
        setting = "platform database"
        with connect(self._platform_dsn, setting=setting, timeout_s=5) as database, typed_errors(setting):
            if not database.execute("SELECT to_regclass('daemon_heartbeats')").fetchone()[0]:  # type: ignore[index]
                raise TransientError("daemon: no heartbeat yet")
            found = database.execute(
                """SELECT extract(epoch FROM clock_timestamp() - max(timestamp) AT TIME ZONE 'UTC'),
                          max(timestamp) AT TIME ZONE 'UTC' >= to_timestamp(%s)
                   FROM daemon_heartbeats""",
                [process.create_time() - 1],
            ).fetchone()
        if not found or not found[1]:
            raise TransientError("daemon: no heartbeat yet")
        return float(found[0])
