"""A further process beside the servers, declared by who calls `up`: a Python module that answers HTTP on loopback.

The declaration is kept in stack.json, so that later `up`, `down` and `status` know it without being told again. Its
address is published as a secret; who sets that variable to another address doesn't get the process.
"""

import http.client
import signal
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from etl_resources.errors import SettingsError, TransientError
from etl_resources.settings import resolve_secret
from etl_resources.stack.ports import LOOPBACK
from etl_resources.stack.processes import Command, listens, recorded
from etl_resources.stack.state import ServerRecord, StackState


class Companion(BaseModel):
    """`python -m {module} --port {port} {arguments}`, healthy when GET {health_path} answers 200."""

    model_config = ConfigDict(frozen=True)

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    health_path: str
    secret: str
    """Name under which its address is published for `env:NAME`."""


class CompanionServer:
    """Life cycle of one."""

    port_names: tuple[str, ...] = ("http",)
    start_timeout_s = 60
    stop_signal = signal.SIGTERM
    stop_grace_s = 5

    def __init__(self, home: Path, companion: Companion, project_dir: Path) -> None:
        self.name, self.companion = companion.name, companion
        self._home, self._project_dir = home, project_dir

    def new_secrets(self) -> dict[str, str]:
        """None: it is reached by anybody on this machine."""
        return {}

    def prepare(self, record: ServerRecord) -> None:
        """Keep the declaration with what is started by it."""
        record.companion = self.companion.model_dump()

    def command(self, record: ServerRecord) -> Command:
        """In the project's folder, as Dagster's servers."""
        port = ["--port", str(record.ports["http"])]
        return Command(
            [sys.executable, "-m", self.companion.module, *port, *self.companion.arguments], self._project_dir
        )

    def settle(self, record: ServerRecord) -> None:
        """Nothing to make."""
        record.provisioned = True

    def check(self, record: ServerRecord) -> None:
        """GET the health path, answered by our process and no stranger on its port. Raises TransientError."""
        port = record.ports["http"]
        process = recorded(record, self._home)
        if process is None or not listens(process, port):
            raise TransientError(f"{self.name}: not listening yet")
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
        try:
            connection.request("GET", self.companion.health_path)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as e:
            raise TransientError(f"{self.name}: no answer on port {port} ({type(e).__name__})") from e
        finally:
            connection.close()
        if status != http.client.OK:
            raise TransientError(f"{self.name}: {self.companion.health_path} answered {status}")


def known_companions(home: Path, state: StackState, project_dir: Path) -> list[CompanionServer]:
    """Those that were started here once."""
    kept = [Companion.model_validate(r.companion) for r in state.servers.values() if r.companion]
    return [CompanionServer(home, companion, project_dir) for companion in kept]


def companion_addresses(state: StackState) -> dict[str, str]:
    """Secret → address of each that was started here."""
    return {
        str(record.companion["secret"]): f"http://{LOOPBACK}:{record.ports['http']}"
        for record in state.servers.values()
        if record.companion and record.ports
    }


def is_replaced(home: Path, state: StackState, companion: Companion) -> bool:
    """Whether somebody set the variable to an address that isn't the process's."""
    try:
        given = resolve_secret(f"env:{companion.secret}", home)
    except SettingsError:
        return False
    return given != companion_addresses(state).get(companion.secret)
