"""Servers of the stack that are stopped in the middle of something, and come back by themselves."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_resources.settings import load_settings
from tests.conftest import BUCKET

ROOT = Path(__file__).parents[1]
_UP = """
import sys
from pathlib import Path
from etl_resources import stack
from etl_resources.settings import load_settings
settings = load_settings()
stack.up(settings, bucket=sys.argv[1], project_dir=settings.home.parent, ui=False, search=False)
"""


class Restarts:
    """Restarts one server of the stack; the new one is ready some seconds after the call returned."""

    def __init__(self) -> None:
        self._home = load_settings().home.resolve()
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._starting: list[subprocess.Popen[bytes]] = []

    def restart(self, server: str) -> None:
        """`postgres` or `s3`: stopped when this returns, its connections cut, and about to be started again."""
        from etl_resources.stack.postgres import Postgres
        from etl_resources.stack.processes import everything, stop
        from etl_resources.stack.s3 import SeaweedFS
        from etl_resources.stack.state import load

        kind = {"postgres": Postgres, "s3": SeaweedFS}[server]
        record = load(self._home).servers[server]
        stop(everything(record, self._home, server), gentle=kind.stop_signal, grace_s=kind.stop_grace_s)
        command = [sys.executable, "-c", _UP, BUCKET]
        self._starting.append(subprocess.Popen(command, env=self._environment, cwd=self._home.parent))

    def wait(self) -> None:
        """Until every server is ready."""
        while self._starting:
            assert self._starting.pop().wait(120) == 0


@pytest.fixture
def restarts(stack: object) -> Iterator[Restarts]:
    """Whatever a test did, the servers run when it ends."""
    made = Restarts()
    yield made
    made.wait()
