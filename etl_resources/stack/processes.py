"""Start detached servers, find them again, stop them: exactly ours, nothing else.

A server is ours when its pid and creation time are recorded, or when its environment carries the mark of this
home. Children inherit the mark, so what a killed server left behind is found too.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from etl_resources.errors import PermanentError
from etl_resources.settings import STACK_FILE
from etl_resources.stack.state import ServerRecord

HOME_MARK = "ETL_STACK_HOME"
SERVER_MARK = "ETL_STACK_SERVER"
LOG_LIMIT_BYTES = 20_000_000
"""A log above this is moved to *.log.1 at the next start."""
_CLOCK_TOLERANCE_S = 2.0
"""Creation times are derived from the boot time, which clock corrections move a little."""

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Servers started by this very process: only their parent can reap them."""


@dataclass(frozen=True)
class Command:
    """What to start. Servers run in their own session, so Ctrl-C in the terminal doesn't reach them."""

    argv: list[str]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    account: tuple[int, int] | None = None
    """(user id, group id) to run as; None is the caller's."""


def spawn(command: Command, *, home: Path, server: str, log: Path) -> psutil.Process:
    """Start a server in the background, its output appended to the log. Raises PermanentError."""
    log.parent.mkdir(mode=0o700, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        child = subprocess.Popen(
            command.argv,
            cwd=command.folder,
            env={**os.environ, **command.environment, **marks(home, server)},
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
            user=command.account[0] if command.account else None,
            group=command.account[1] if command.account else None,
            extra_groups=[] if command.account else None,
        )
    except OSError as e:
        raise PermanentError(f"{server}: {command.argv[0]} can't be started: {e.strerror}.") from e
    finally:
        os.close(descriptor)
    _children[child.pid] = child
    return psutil.Process(child.pid)


def marks(home: Path, server: str) -> dict[str, str]:
    """Environment by which a process of this home is found again, recorded or not."""
    return {HOME_MARK: str(home), SERVER_MARK: server}


def is_alive(process: psutil.Process) -> bool:
    """True while the process runs; a zombie doesn't."""
    child = _children.get(process.pid)
    if child is not None and child.poll() is not None:
        del _children[process.pid]
        return False
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def recorded(record: ServerRecord, home: Path) -> psutil.Process | None:
    """The recorded process if it still runs, is the same one, and was started for this home.

    A copied home records the processes of the original: they aren't ours. A moved home's are.
    """
    if record.pid is None or record.create_time is None:
        return None
    try:
        process = psutil.Process(record.pid)
        same = abs(process.create_time() - record.create_time) < _CLOCK_TOLERANCE_S
        marked_home = Path(process.environ().get(HOME_MARK, home))
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    copied = marked_home != home and (marked_home / STACK_FILE).exists()
    return process if same and not copied and is_alive(process) else None


def marked(home: Path, server: str) -> list[psutil.Process]:
    """All processes of a server of this home, parents before children, recorded or not. Never ourselves."""
    mine = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid in mine or not is_alive(process):
                continue
            environment = process.environ()
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
        if environment.get(HOME_MARK) == str(home) and environment.get(SERVER_MARK) == server:
            found.append(process)
    return sorted(found, key=lambda p: p.create_time())


def main_process(record: ServerRecord, home: Path, server: str, argv: list[str]) -> psutil.Process | None:
    """The server itself: the recorded process, or an unrecorded one that was started with this command line.

    What a killed server left behind carries its mark too, but is no server.
    """
    return recorded(record, home) or next((p for p in marked(home, server) if _argv(p) == argv), None)


def everything(record: ServerRecord, home: Path, server: str) -> list[psutil.Process]:
    """The server and what it, or a killed predecessor, left running."""
    known = recorded(record, home)
    return list({p.pid: p for p in [*([known] if known else []), *marked(home, server)]}.values())


def listens(process: psutil.Process, port: int) -> bool:
    """True when the process or a child of it listens on the port."""
    for member in with_children([process]):
        try:
            sockets = member.net_connections(kind="tcp")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(s.status == psutil.CONN_LISTEN and s.laddr.port == port for s in sockets):
            return True
    return False


def _argv(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def with_children(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """The processes and all their descendants, each once."""
    seen: dict[int, psutil.Process] = {}
    for process in processes:
        seen.setdefault(process.pid, process)
        try:
            for child in process.children(recursive=True):
                seen.setdefault(child.pid, child)
        except psutil.NoSuchProcess:
            continue
    return list(seen.values())


def stop(processes: list[psutil.Process], *, gentle: signal.Signals, grace_s: float) -> None:
    """Signal the topmost processes, wait up to grace_s for all and their children, then kill what is left."""
    everyone = with_children(processes)
    for process in _topmost(processes):
        _signal(process, gentle)
    deadline = time.monotonic() + grace_s
    left = with_children(wait_gone(everyone, deadline))  # with those that were started meanwhile
    for process in left:
        _signal(process, signal.SIGKILL)
    wait_gone(left, time.monotonic() + 10)


def wait_gone(processes: list[psutil.Process], deadline: float) -> list[psutil.Process]:
    """Wait until the monotonic deadline; those that still run."""
    while (left := [p for p in processes if is_alive(p)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _topmost(processes: list[psutil.Process]) -> list[psutil.Process]:
    pids = {p.pid for p in processes}
    top = []
    for process in processes:
        try:
            if process.ppid() not in pids:
                top.append(process)
        except psutil.NoSuchProcess:
            continue
    return top


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
