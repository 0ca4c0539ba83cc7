"""A stack of a module's own, whose servers may be killed, stopped and starved of disk. Ask with `pytest_plugins`."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from etl_resources import stack as servers
from etl_resources.settings import load_settings
from etl_resources.stack.processes import everything
from etl_resources.stack.state import load
from tests.conftest import BUCKET
from tests.integration.stack_project import remove_home
from tests.lake import Lake, new_lake
from tests.projects import SALES

SCALE = 0.002
DISK_MB = {"postgres": 400, "s3": 200}
"""Size of the small disk of each server: enough for its data, soon full."""
CHUNK_BYTES = 64 * 1024
GONE_S = 30


@dataclass(frozen=True)
class OwnStack:
    """Servers `postgres` and `s3` of one home."""

    home: Path

    def up(self) -> None:
        """Start what isn't running."""
        servers.up(load_settings(), bucket=BUCKET, project_dir=self.home.parent, ui=False, search=False)

    def signal(self, server: str, number: int) -> None:
        """Send a signal to every process of a server."""
        for process in everything(load(self.home).servers[server], self.home, server):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self, server: str) -> None:
        """kill -9, as the out-of-memory killer does; the processes are gone when this returns."""
        processes = everything(load(self.home).servers[server], self.home, server)
        self.signal(server, signal.SIGKILL)
        psutil.wait_procs(processes, timeout=GONE_S)

    def data(self, server: str) -> Path:
        """Folder of a server's data."""
        return (self.home / server).resolve() if server == "postgres" else self.home / server / "data"

    @contextmanager
    def small_disk(self, server: str) -> Iterator[Path]:
        """The server's data moves to a tmpfs for a while. Skips the test when nobody may mount here."""
        folder = self.data(server)
        aside = folder.with_name(f"{folder.name}-aside")
        servers.down(load_settings())
        subprocess.run(["cp", "-a", str(folder), str(aside)], check=True)  # keeps the owner, as copytree does not
        owner = folder.stat()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB[server]}m,mode=0700", "tmpfs", str(folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        try:
            if mounted.returncode:
                self.up()
                pytest.skip(f"a small disk needs the right to mount (run as root): {mounted.stderr.strip()}")
            subprocess.run(["cp", "-a", f"{aside}/.", str(folder)], check=True)
            os.chown(folder, owner.st_uid, owner.st_gid)
            self.up()
            yield folder
        finally:
            if not mounted.returncode:
                servers.down(load_settings())
                shutil.rmtree(aside)
                subprocess.run(["cp", "-a", f"{folder}/.", f"{aside}/"], check=True)
                subprocess.run(["umount", str(folder)], check=True)
                subprocess.run(["cp", "-a", f"{aside}/.", str(folder)], check=True)
                self.up()
            shutil.rmtree(aside)


def fill(folder: Path) -> Path:
    """A file that takes every byte that is left; remove it to free them."""
    filler = folder / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * CHUNK_BYTES)
    return filler


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnStack]:
    """Running servers, for this module alone."""
    home = tmp_path_factory.mktemp("own") / ".etl"
    with pytest.MonkeyPatch.context() as environment:
        for name in [n for n in os.environ if n.startswith("ETL_") or n in {"ERP_DSN", "ERP_ADMIN_DSN"}]:
            environment.delenv(name)
        environment.setenv("ETL_HOME", str(home))
        environment.setenv("ETL_PROJECT", str(SALES))
        environment.setenv("ETL_S3_BUCKET", BUCKET)
        made = OwnStack(home.resolve())
        try:
            made.up()
            yield made
        finally:
            for server in ("postgres", "s3"):
                made.signal(server, signal.SIGCONT)
            servers.down(load_settings(home=home))
            remove_home(home)


@pytest.fixture(scope="module")
def own_lake(own_stack: OwnStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A lake on those servers."""
    with new_lake(tmp_path_factory.mktemp("lake"), SCALE) as made:
        yield made
