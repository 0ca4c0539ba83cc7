"""Manifest files: YAML with positions in, models or errors with file and line out.

What a field may say lives in manifest; what fields mean to each other lives in etl_assets.project_checks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from etl_resources.errors import ManifestError, ManifestErrors
from etl_resources.manifest import Platform
from etl_resources.manifest_errors import explain, nearest_line
from etl_resources.manifest_schema import FieldPath, json_schema, keys_of
from etl_resources.manifest_types import Strict
from etl_resources.manifest_yaml import compose

M = TypeVar("M", bound=Strict)


@dataclass(frozen=True)
class ManifestFile(Generic[M]):
    """A file's model with the line of each of its fields."""

    path: Path
    model: M
    lines: Mapping[FieldPath, int]

    def error(self, message: str, *at: str | int) -> ManifestError:
        """An error at a field, e.g. error("…", "silver", "key"), or at its nearest written parent."""
        return ManifestError(message, file=shown(self.path), line=nearest_line(self.lines, at))


def load_platform(path: Path) -> Platform:
    """platform.yaml as a model. Raises ManifestErrors with everything that is wrong in it."""
    return read_manifest(path, Platform).model


def read_manifest(path: Path, model: type[M], *, digits_as_text: bool = False) -> ManifestFile[M]:
    """A file as a model with positions. Raises ManifestErrors."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "not UTF-8 text"
        raise ManifestErrors([ManifestError(f"can't be read: {reason}", file=shown(path))]) from e
    return parse_manifest(text, path, model, digits_as_text=digits_as_text)


def parse_manifest(text: str, path: Path, model: type[M], *, digits_as_text: bool = False) -> ManifestFile[M]:
    """A manifest's text as a model; path only names it in errors. Raises ManifestErrors."""
    document = compose(text, digits_as_text=digits_as_text)
    errors = [ManifestError(m, file=shown(path), line=line) for m, line in document.problems]
    if not errors and not isinstance(document.value, dict):
        errors = [ManifestError(f"must be a mapping with {keys_of(json_schema(model))}", file=shown(path), line=1)]
    if errors:
        raise ManifestErrors(errors)
    try:
        value = model.model_validate(document.value, strict=True, by_alias=True, by_name=False)
    except ValidationError as e:
        found = explain(e, model, document.lines)
        raise ManifestErrors(ManifestError(m, file=shown(path), line=line) for m, line in found) from e
    return ManifestFile(path, value, document.lines)


def shown(path: Path) -> str:
    """A path as errors show it: relative to the working directory where it lies in it."""
    absolute, here = path.absolute(), Path.cwd()
    return absolute.relative_to(here).as_posix() if absolute.is_relative_to(here) else absolute.as_posix()
