"""Ivy, which pyspark brings along: what is fetched from a Maven repository is fetched by it."""

import hashlib
import importlib.util
import re
from pathlib import Path
from xml.sax.saxutils import quoteattr

from etl_resources.errors import PermanentError

_SETTINGS = """<ivysettings>
  <settings defaultResolver="maven"/>
  <timeout-constraints>
    <timeout-constraint name="bounded" connectionTimeout="10000" readTimeout="60000"/>
  </timeout-constraints>
  <resolvers>
    <ibiblio name="maven" m2compatible="true"{root} checksums="sha1,md5" timeoutConstraint="bounded"/>
  </resolvers>
</ivysettings>
"""


def ivy_command(java: str, folder: Path, repository: str | None) -> list[str] | None:
    """How Ivy begins that caches in `folder`, where its settings are written; None where pyspark isn't installed.

    repository: address of a Maven repository; None: Maven Central.
    """
    spec = importlib.util.find_spec("pyspark")  # not imported: it is large
    jars = Path(spec.origin).parent / "jars" if spec is not None and spec.origin is not None else None
    found = sorted(jars.glob("ivy-*.jar")) if jars else []
    if not found:
        return None
    settings = folder / "ivysettings.xml"
    settings.write_text(_SETTINGS.format(root=f" root={quoteattr(repository)}" if repository else ""))
    begin = [java, "-cp", str(found[-1]), "org.apache.ivy.Main"]
    return [*begin, "-settings", str(settings), "-cache", str(folder / "ivy")]


def ivy_reason(log: str) -> str:
    """Ivy's own words: the first line under ERRORS, or else under WARNINGS."""
    found = re.search(r":::: ERRORS\s+(.+)", log) or re.search(r":::: WARNINGS\s+(.+)", log) or re.search(r"(.+)", log)
    return _shown(re.sub(r"\s+", " ", found[1]).strip())[:300] if found else "it said nothing"


def prove_published(path: Path, what: str, sha256: str, repository: str | None, nothing: str) -> None:
    """A fetched file is the one that was published. nothing: what is true where it isn't, for the error.

    Raises PermanentError.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise PermanentError(
            f"{what} from {repository_name(repository)} has SHA-256 {found} instead of {sha256}: it is "
            f"not what was published. {nothing}. Check ETL_MAVEN_REPOSITORY."
        )


def repository_name(repository: str | None) -> str:
    """A Maven repository, for people."""
    return _shown(repository) if repository else "Maven Central"


def _shown(text: str) -> str:
    """Without what somebody may have put before the host of an address."""
    return re.sub(r"//[^/@\s]+@", "//", text)
