"""`{home}/stack.json`: what was started, where, with which credentials. 0600, replaced atomically."""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from etl_resources.errors import SettingsError, TransientError
from etl_resources.settings import STACK_FILE

VERSION = 1
LOCK_FILE = "stack.lock"
LOCK_TIMEOUT_S = 180
"""Longest wait for another `up` or `down` of the same home: longer than a cold start."""
_LOCK_POLL_S = 0.1


class ServerRecord(BaseModel):
    """One embedded server: its process (while it runs), and what survives a restart."""

    pid: int | None = None
    create_time: float | None = None
    """Seconds since the epoch; a pid alone may belong to a later stranger."""
    ports: dict[str, int] = Field(default_factory=dict)
    secrets: dict[str, str] = Field(default_factory=dict)
    provisioned: bool = False
    """Roles, databases or buckets exist with the secrets above."""
    fingerprint: str | None = None
    """Hash of the settings that the process was started with; other settings need a restart."""
    companion: dict[str, Any] | None = None
    """Declaration of a process that isn't one of the stack's own servers (stack.companion)."""


class SparkShape(BaseModel):
    """The embedded Spark that was asked for."""

    workers: int = Field(ge=1)
    cores: int = Field(ge=1)
    """Tasks that a worker takes at a time."""
    memory_mb: int = Field(ge=1)
    """What a worker gives to executors: their heaps."""


class StackState(BaseModel):
    """The file's content. `settings` and `secrets` are what etl_resources.settings reads."""

    version: int = VERSION
    settings: dict[str, str] = Field(default_factory=dict)
    secrets: dict[str, str] = Field(default_factory=dict)
    servers: dict[str, ServerRecord] = Field(default_factory=dict)
    spark: SparkShape | None = None
    """None: no Spark was asked for."""


def load(home: Path) -> StackState:
    """The recorded state, empty when there is none.

    Raises SettingsError when the file belongs to another user, another version or isn't ours.
    """
    path = home / STACK_FILE
    try:
        data: dict[str, Any] = json.loads(path.read_text())
        if data.get("version") != VERSION:
            raise SettingsError(
                f"{path} has version {data.get('version')!r}, this release reads {VERSION}. "
                "Stop its servers with the release that wrote it, then move the file away."
            )
        return StackState.model_validate(data)
    except FileNotFoundError:
        return StackState()
    except PermissionError as e:
        raise SettingsError(f"{path} belongs to another user. Run as that user, or set ETL_HOME elsewhere.") from e
    except (ValidationError, ValueError, AttributeError):
        raise SettingsError(
            f"{path} is damaged. Move it away and run `data-pipeline up`: data stays, passwords are renewed."
        ) from None


def save(home: Path, state: StackState) -> None:
    """Replace the file: a reader, and a kill at any moment, sees the old or the new one."""
    write_private(home / STACK_FILE, state.model_dump_json(indent=1, exclude_none=True))


def write_private(path: Path, text: str) -> None:
    """Write a 0600 file through fsync and rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def exclusive(home: Path, progress: Callable[[str], None], timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the home's lock. The kernel frees it when its holder dies, so no stale lock can stay.

    Raises TransientError when another process holds it longer than timeout_s.
    """
    descriptor = os.open(home / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _acquire(descriptor, home, progress, timeout_s)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, home: Path, progress: Callable[[str], None], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TransientError(
                    f"Another `data-pipeline up` or `down` has held {home / LOCK_FILE} for {timeout_s:g} s. "
                    "Wait for it or stop it, then run again."
                ) from None
            if not told:
                progress("waiting for another `data-pipeline up` or `down`")
                told = True
            time.sleep(_LOCK_POLL_S)
        else:
            return
