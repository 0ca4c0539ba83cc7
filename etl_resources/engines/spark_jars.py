"""The jars that Spark needs beside its own: fetched once a user, checked against what was published, cached."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from etl_resources.errors import PermanentError, TransientError
from etl_resources.ivy import ivy_command, ivy_reason, prove_published, repository_name
from etl_resources.progress import report

ICEBERG = "1.12.0"
JARS = {
    ("org.apache.iceberg", "iceberg-spark-runtime-4.1_2.13", ICEBERG): (
        "3123c3798af642dd537230923548e013ef41cc28b6626e5225808cf5670a0f82"
    ),
    ("org.apache.iceberg", "iceberg-aws-bundle", ICEBERG): (
        "dd7e49ffa4ac9b215bed846581991259e3aec9bb2fa08d6cec029c46cd66d957"
    ),
    ("org.postgresql", "postgresql", "42.7.11"): "1981b31d3993c58702783c1cddf10a34e48c1f413d70ff1cb6def0a143484647",
}
"""Maven coordinates → SHA-256. Reads the tables, their storage, and the catalog."""
SIZE_MB = 119
_FETCH_TIMEOUT_S = 1800
_INSTALL = (
    "Install Java 17 (and set JAVA_HOME where it isn't on the PATH), or give the dataset a size of the embedded engine"
)


def java_command() -> str:
    """The Java that Spark will start: of JAVA_HOME, else of the PATH. Raises PermanentError when there is none."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if found is None:
        raise PermanentError(f"Spark needs Java, and there is none{f' in {home}' if home else ''}. {_INSTALL}.")
    return found


def spark_jars(repository: str | None) -> list[Path]:
    """Paths of the jars, fetched where this user has none yet; of two at once the second finds the first's.

    repository: address of a Maven repository; None: Maven Central. Raises TransientError when they can't be fetched,
    PermanentError when what came is not what was published.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    target = cache / "data-pipeline" / f"spark-iceberg-{ICEBERG}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.") as folder:
            fetched = _fetch(Path(folder), repository)
            try:
                fetched.rename(target)
            except OSError:
                if not target.exists():
                    raise
    return [target / _file(name, version) for _, name, version in JARS]


def _fetch(folder: Path, repository: str | None) -> Path:
    report("spark", "fetching jars once", megabytes=SIZE_MB)
    jars = folder / "jars"
    for (organisation, name, version), sha256 in JARS.items():
        ivy = ivy_command(java_command(), folder, repository)
        if ivy is None:
            raise PermanentError("The package pyspark is not installed: install it, or choose a size without Spark.")
        wanted = ["-dependency", organisation, name, version, "-types", "jar", "-notransitive"]
        argv = [*ivy, *wanted, "-retrieve", str(jars / "[artifact]-[revision].[ext]")]
        run = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False)
        path = jars / _file(name, version)
        if run.returncode or not path.exists():
            raise TransientError(
                f"{name} {version} can't be fetched from {repository_name(repository)} ({ivy_reason(run.stdout)}). "
                "Run again, or set ETL_MAVEN_REPOSITORY."
            )
        prove_published(path, f"{name} {version}", sha256, repository, "Nothing was kept")
    return jars


def _file(name: str, version: str) -> str:
    return f"{name}-{version}.jar"
