"""Bring one server to health: find it again, or start it, and survive taken ports and half-done starts."""

import hashlib
import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from etl_resources.errors import DataPipelineError, PermanentError, SettingsError, TransientError
from etl_resources.stack import ports
from etl_resources.stack.processes import (
    Command,
    everything,
    is_alive,
    main_process,
    recorded,
    spawn,
    stop,
)
from etl_resources.stack.state import ServerRecord, StackState, save

_ATTEMPTS = 3
_POLL_S = 0.05
_TELL_EVERY_S = 10
_SETTLED_GRACE_S = 15
"""How long a server that has been up for a while may fail its check before it is restarted."""


class Server(Protocol):
    """What the life cycle needs to know of a server."""

    name: str
    port_names: tuple[str, ...]
    start_timeout_s: int
    stop_signal: signal.Signals
    stop_grace_s: int

    def new_secrets(self) -> dict[str, str]:
        """Random credentials for a first start."""

    def prepare(self, record: ServerRecord) -> None:
        """Make folders and configuration. Raises PermanentError."""

    def command(self, record: ServerRecord) -> Command:
        """What to run."""

    def settle(self, record: ServerRecord) -> None:
        """Make what has to exist inside it (roles, buckets), once it answers; may run again."""

    def check(self, record: ServerRecord) -> None:
        """Is it usable with its real credentials? Raises SettingsError or TransientError."""


class ServerDiedError(TransientError):
    """The process ended before it was ready."""


@dataclass
class Launcher:
    """One `up`: where, what is known, whom to tell. `publish` derives the settings before each save."""

    home: Path
    state: StackState
    progress: Callable[[str], None]
    publish: Callable[[StackState], None]

    def record(self, server: Server) -> ServerRecord:
        """The server's record, made with new secrets at the first time."""
        if server.name not in self.state.servers:
            self.state.servers[server.name] = ServerRecord(secrets=server.new_secrets())
        return self.state.servers[server.name]

    def launch(self, server: Server, extra: str = "", preferred: dict[str, int] | None = None) -> None:
        """Leave a running process that fits alone; otherwise start a new one. Doesn't wait for readiness.

        `extra` is anything else that a restart depends on. Raises PermanentError when it can't be started.
        """
        record = self.record(server)
        if record.fingerprint and record.fingerprint == self._fingerprint(server, record, extra):
            argv = server.command(record).argv
            if running := main_process(record, self.home, server.name, argv):
                self._remember(record, running)
                return
        if leftovers := everything(record, self.home, server.name):
            self.progress(f"{server.name}: stopping what was left running or has other settings")
            self._stop(server, leftovers)
        self._start(server, record, extra, preferred or {})

    def await_ready(self, server: Server, extra: str = "") -> None:
        """Wait until the server is usable; restart it when it died, hangs or refuses our credentials.

        Raises TransientError or PermanentError with the end of its log after a bounded number of attempts.
        """
        record = self.record(server)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._poll(server, record)
            except DataPipelineError as e:
                if attempt == _ATTEMPTS:
                    raise self._explained(server, e) from e
                self.progress(f"{server.name}: {e} Restarting.")
            else:
                self._save()
                return
            self._stop(server, everything(record, self.home, server.name))
            if attempt == _ATTEMPTS - 1:
                record.ports = {}  # whatever is wrong with these, the last attempt shall not depend on it
            self._start(server, record, extra, {})

    def log(self, name: str) -> Path:
        """Where the server's output goes."""
        return self.home / "logs" / f"{name}.log"

    def _start(self, server: Server, record: ServerRecord, extra: str, preferred: dict[str, int]) -> None:
        others = {p for r in self.state.servers.values() if r is not record for p in r.ports.values()}
        chosen = ports.choose(server.port_names, record.ports or preferred, others)
        if record.ports and chosen != record.ports:
            self.progress(f"{server.name}: its port is taken by another program, using another")
        record.ports, record.pid, record.create_time, record.fingerprint = chosen, None, None, None
        self._save()  # the credentials are safe before anything is made with them
        self.progress(f"{server.name}: preparing")
        server.prepare(record)
        record.fingerprint = self._fingerprint(server, record, extra)
        self._save()
        process = spawn(server.command(record), home=self.home, server=server.name, log=self.log(server.name))
        self.progress(f"{server.name}: started, pid {process.pid}")
        self._remember(record, process)

    def _remember(self, record: ServerRecord, process: psutil.Process) -> None:
        if record.pid == process.pid and record.create_time is not None:
            return
        try:
            record.pid, record.create_time = process.pid, process.create_time()
        except psutil.NoSuchProcess:
            record.pid = record.create_time = None  # died already: await_ready tells why
        self._save()

    def _poll(self, server: Server, record: ServerRecord) -> None:
        begun, told_s = time.monotonic(), 0.0
        process = recorded(record, self.home)
        while True:
            problem = self._problem(server, record)
            if problem is None:
                return
            if process is None or not is_alive(process):
                raise ServerDiedError("it ended while starting.")
            age_s = time.time() - process.create_time()
            waited_s = time.monotonic() - begun
            if waited_s > _SETTLED_GRACE_S and age_s > server.start_timeout_s:
                raise TransientError(f"not ready after {age_s:.0f} s: {problem}")
            if waited_s > told_s + _TELL_EVERY_S:
                told_s = waited_s
                self.progress(f"{server.name}: still waiting: {problem}")
            time.sleep(_POLL_S)

    def _problem(self, server: Server, record: ServerRecord) -> DataPipelineError | None:
        """None when usable. A refusal is healed by provisioning again; raises it when that doesn't help."""
        was_provisioned = record.provisioned
        try:
            server.settle(record)
            server.check(record)
        except SettingsError:
            if not was_provisioned:
                raise
            record.provisioned = False
            return self._problem(server, record)
        except TransientError as e:
            return e
        return None

    def _stop(self, server: Server, processes: list[psutil.Process]) -> None:
        stop(processes, gentle=server.stop_signal, grace_s=server.stop_grace_s)

    def _fingerprint(self, server: Server, record: ServerRecord, extra: str) -> str:
        command = server.command(record)
        parts = [command.argv, command.environment, record.secrets, extra]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _save(self) -> None:
        self.publish(self.state)
        save(self.home, self.state)

    def _explained(self, server: Server, error: DataPipelineError) -> DataPipelineError:
        log = self.log(server.name)
        kind = PermanentError if isinstance(error, ServerDiedError | PermanentError) else TransientError
        return kind(f"{server.name} can't be started: {error} Last line of {log}: {_last_line(log)}")


def _last_line(log: Path, tail_bytes: int = 4_000) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - tail_bytes))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return "(none)"
    return lines[-1] if lines else "(empty)"
