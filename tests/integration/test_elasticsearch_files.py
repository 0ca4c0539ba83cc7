"""Where the embedded Elasticsearch and its Java come from, without starting either."""

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from etl_resources.errors import PermanentError
from etl_resources.stack import elasticsearch_files
from etl_resources.stack.elasticsearch_files import (
    VERSION,
    Java,
    NoElasticsearchError,
    find_java,
    install,
    installation,
)

ORGANISATION, MODULE, _ = elasticsearch_files._ARTIFACT
POM = f"""<project><modelVersion>4.0.0</modelVersion><groupId>{ORGANISATION}</groupId><artifactId>{MODULE}</artifactId>
<version>{VERSION}</version><packaging>zip</packaging></project>"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its signature)
        return


@contextmanager
def repository(folder: Path) -> Iterator[str]:
    """A Maven repository that offers a small archive as the distribution."""
    place = folder / "repository" / ORGANISATION.replace(".", "/") / MODULE / VERSION
    place.mkdir(parents=True)
    with zipfile.ZipFile(place / f"{MODULE}-{VERSION}.zip", "w") as archive:
        archive.writestr(f"elasticsearch-{VERSION}/lib/server.jar", "jar")
    (place / f"{MODULE}-{VERSION}.pom").write_text(POM)
    for file in list(place.iterdir()):
        file.with_name(f"{file.name}.sha1").write_text(hashlib.sha1(file.read_bytes()).hexdigest())  # noqa: S324
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder / "repository")))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def archive_of(folder: Path) -> Path:
    return next(folder.rglob(f"{MODULE}-{VERSION}.zip"))


def test_it_is_fetched_once_checked_and_unpacked(java: Java, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred megabytes a project, or files that only their owner may read, would be in the way."""
    said: list[str] = []
    target = tmp_path / "cache" / f"elasticsearch-{VERSION}"
    with repository(tmp_path) as address:
        monkeypatch.setattr(
            elasticsearch_files, "SHA256", hashlib.sha256(archive_of(tmp_path).read_bytes()).hexdigest()
        )
        install(target, java, address, said.append)
    assert (target / "lib" / "server.jar").read_text() == "jar"
    assert (target / "lib" / "server.jar").stat().st_mode & 0o777 == 0o644
    assert [p.name for p in target.parent.iterdir()] == [target.name]
    assert said[0] == f"elasticsearch: fetching {VERSION} (102 MB, once) from {address}"
    assert said[-1] == "elasticsearch: unpacking"
    said.clear()
    install(target, Java(tmp_path), "http://127.0.0.1:1", said.append)
    assert said == []


def test_an_archive_that_was_changed_is_not_unpacked(java: Java, tmp_path: Path) -> None:
    """The repository's own checksum fits what it offers; the one in our code doesn't."""
    target = tmp_path / "cache" / f"elasticsearch-{VERSION}"
    with repository(tmp_path) as address, pytest.raises(PermanentError, match="not what was published"):
        install(target, java, address, lambda _: None)
    assert list(target.parent.iterdir()) == []


def test_a_damaged_download_and_an_absent_repository_are_told(java: Java, tmp_path: Path) -> None:
    """Ivy compares with the checksum beside the file; either way everything else of the stack can run."""
    target = tmp_path / "cache" / f"elasticsearch-{VERSION}"
    with repository(tmp_path) as address:
        archive_of(tmp_path).write_bytes(b"cut")
        with pytest.raises(NoElasticsearchError, match=rf"can't be fetched from {address} \(.*invalid sha1"):
            install(target, java, address, lambda _: None)
    with pytest.raises(NoElasticsearchError, match=r"can't be fetched from http://127\.0\.0\.1:1"):
        install(target, java, "http://etl:sesame@127.0.0.1:1", lambda _: None)
    assert list(target.parent.iterdir()) == []


def test_what_a_killed_up_left_half_fetched_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each one would leave a hundred megabytes in the cache; a fetch that goes on is left alone."""
    target = tmp_path / f"elasticsearch-{VERSION}"
    (left := tmp_path / f"{target.name}.abc").mkdir()
    elasticsearch_files._forget_interrupted(target)
    assert left.exists()
    monkeypatch.setattr(elasticsearch_files, "_FETCH_TIMEOUT_S", -1)
    elasticsearch_files._forget_interrupted(target)
    assert not left.exists()


def test_without_a_fit_java_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most machines of data people have none, or an old one: they read what to install."""
    for name in ("ES_JAVA_HOME", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoElasticsearchError, match=r"there is no Java\. Install Java 17 or newer"):
        find_java(None)
    old = tmp_path / "old"
    (old / "bin").mkdir(parents=True)
    (old / "bin" / "java").write_text("#!/bin/sh\nexit 1\n")
    (old / "bin" / "java").chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(old))
    with pytest.raises(NoElasticsearchError, match="no usable Java"):
        find_java(None)
    (old / "release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="1.8.0_392"\n')
    with pytest.raises(NoElasticsearchError, match="java is Java 8"):
        find_java(None)
    (old / "release").write_text('JAVA_VERSION="21.0.2"\n')
    assert find_java(None) == Java(old)


def test_a_java_that_is_a_script_is_asked(java: Java, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version managers put scripts on the PATH, beside which no release file is."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "java"
    script.write_text(f'#!/bin/sh\nexec {java.command} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("ES_JAVA_HOME", str(tmp_path))
    assert find_java(None).home == java.home.resolve()


def test_it_is_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where other tools keep what can be fetched again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert installation(None) == tmp_path / "data-pipeline" / f"elasticsearch-{VERSION}"


def test_looking_for_it_imports_no_spark(tmp_path: Path) -> None:
    """Importing pyspark takes longer than starting everything else."""
    code = (
        "import sys, pathlib; from etl_resources.ivy import ivy_command; "
        f"ivy_command('java', pathlib.Path({str(tmp_path)!r}), None); print('pyspark' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
