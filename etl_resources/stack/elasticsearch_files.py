"""Where the embedded Elasticsearch comes from: fetched once a user by the Ivy in pyspark's jars, checked, unpacked.

The distribution is the one that Elasticsearch publishes for integration tests: the server with its security, few
modules (no root endpoint, no reindex), no Java. All projects of a user share it; data and configuration are their own.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from etl_resources.errors import PermanentError, TransientError
from etl_resources.ivy import ivy_command, ivy_reason, prove_published, repository_name
from etl_resources.stack.account import ELASTICSEARCH, Account, reachable, system_folder

VERSION = "8.19.21"
SHA256 = "215d5f3dbf0609a149f6218a9e47b6ae2df34ebbff3c5754e35f15a5e5393c8a"
_ARTIFACT = ("org.elasticsearch.distribution.integ-test-zip", "elasticsearch", VERSION)
_SIZE_MB = 102
JAVA_MIN = 17
_JAVA_TIMEOUT_S = 60
_FETCH_TIMEOUT_S = 1800
_TELL_EVERY_S = 10


@dataclass(frozen=True)
class Java:
    """A Java that may run it."""

    home: Path

    @property
    def command(self) -> str:
        """Its executable."""
        return str(self.home / "bin" / "java")


class NoElasticsearchError(TransientError):
    """The embedded Elasticsearch can't be had here now; everything else runs without it."""


def find_java(account: Account | None) -> Java:
    """The first of ES_JAVA_HOME, JAVA_HOME and the PATH. Raises NoElasticsearchError when it isn't fit."""
    homes = [os.environ[name] for name in ("ES_JAVA_HOME", "JAVA_HOME") if os.environ.get(name)]
    command = str(Path(homes[0]) / "bin" / "java") if homes else shutil.which("java")
    wanted = f"Install Java {JAVA_MIN} or newer, or set {ELASTICSEARCH.setting}"
    if command is None:
        raise NoElasticsearchError(f"there is no Java. {wanted}")
    home, version = _release(Path(command)) or _asked(command)
    if version < JAVA_MIN:
        raise NoElasticsearchError(f"{command} is {f'Java {version}' if version else 'no usable Java'}. {wanted}")
    java = Java(home)
    if account is not None and not reachable(Path(java.command), account):
        raise NoElasticsearchError(f"its user {account.name!r} can't enter {java.home}. {wanted}")
    return java


def _release(command: Path) -> tuple[Path, int] | None:
    """(home, version) as the file beside a Java says."""
    home = command.resolve().parents[1]
    try:
        found = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', (home / "release").read_text(), re.MULTILINE)
    except OSError:
        return None
    return (home, int(found[1])) if found else None


def _asked(command: str) -> tuple[Path, int]:
    """(home, version) as Java says, where a script on the PATH chooses among several. 0: it doesn't run."""
    try:
        argv = [command, "-XshowSettings:properties", "-version"]
        told = subprocess.run(argv, capture_output=True, text=True, timeout=_JAVA_TIMEOUT_S, check=True).stderr
    except (OSError, subprocess.SubprocessError):
        return Path(command), 0
    home = re.search(r"java\.home = (.+)", told)
    version = re.search(r"java\.specification\.version = (?:1\.)?(\d+)", told)
    return (Path(home[1].strip()), int(version[1])) if home and version else (Path(command), 0)


def installation(account: Account | None) -> Path:
    """Where it is, or will be, unpacked: in the user's cache, or where the account of a root's server may read."""
    if account is not None:
        return system_folder(ELASTICSEARCH) / f"elasticsearch-{VERSION}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "data-pipeline" / f"elasticsearch-{VERSION}"


def install(target: Path, java: Java, repository: str | None, progress: Callable[[str], None]) -> None:
    """Fetch and unpack where it isn't yet; of two at once the second finds the first's.

    Raises NoElasticsearchError when it can't be fetched, PermanentError when what came is not what was published.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    _forget_interrupted(target)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.") as folder:
        archive = _fetch(Path(folder), java, repository, progress)
        prove_published(archive, f"Elasticsearch {VERSION}", SHA256, repository, "Nothing was unpacked")
        progress("elasticsearch: unpacking")
        unpacked = _unpack(archive, Path(folder))
        try:
            unpacked.rename(target)
        except OSError:
            if not target.exists():
                raise


def _fetch(folder: Path, java: Java, repository: str | None, progress: Callable[[str], None]) -> Path:
    archive, log = folder / "elasticsearch.zip", folder / "ivy.log"
    progress(f"elasticsearch: fetching {VERSION} ({_SIZE_MB} MB, once) from {repository_name(repository)}")
    ivy = ivy_command(java.command, folder, repository)
    if ivy is None:
        raise PermanentError(f"The package pyspark is not installed. Install it or set {ELASTICSEARCH.setting}.")
    wanted = ["-dependency", *_ARTIFACT, "-types", "zip", "-notransitive"]
    argv = [*ivy, *wanted, "-retrieve", str(folder / "[artifact].[ext]")]
    with log.open("w") as output, subprocess.Popen(argv, cwd=folder, stdout=output, stderr=output) as fetching:
        try:
            _wait(fetching, folder, progress)
        finally:
            fetching.kill()
    if fetching.returncode or not archive.exists():
        raise NoElasticsearchError(
            f"it can't be fetched from {repository_name(repository)} ({ivy_reason(log.read_text())}). Run "
            f"`data-pipeline up` again, or set ETL_MAVEN_REPOSITORY or {ELASTICSEARCH.setting}"
        )
    return archive


def _wait(fetching: "subprocess.Popen[bytes]", folder: Path, progress: Callable[[str], None]) -> None:
    deadline = time.monotonic() + _FETCH_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            fetching.wait(_TELL_EVERY_S)
        except subprocess.TimeoutExpired:
            fetched = sum(f.stat().st_size for f in folder.glob("ivy/**/zips/*") if f.is_file())
            progress(f"elasticsearch: fetched {fetched // 1_000_000} of {_SIZE_MB * 1024 * 1024 // 1_000_000} MB")
        else:
            return


def _unpack(archive: Path, folder: Path) -> Path:
    """Every file with its mode, readable for the account that will run it."""
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)  # the archive's hash is known, so its names are
    unpacked = folder / f"elasticsearch-{VERSION}"
    for path in (unpacked, *unpacked.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return unpacked


def _forget_interrupted(target: Path) -> None:
    """What a killed `up` left half fetched."""
    for folder in target.parent.glob(f"{target.name}.*"):
        if folder.stat().st_mtime < time.time() - _FETCH_TIMEOUT_S:
            shutil.rmtree(folder, ignore_errors=True)
