"""Manifest files: YAML with positions in, models or errors with file and line out.

What a field may say lives in manifest; what fields mean to each other lives in etl_assets.project_checks.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from etl_resources.errors import ManifestError, ManifestErrors
from etl_resources.manifest import Dataset, Platform
from etl_resources.manifest_types import Strict
from etl_resources.manifest_yaml import FieldPath, compose
from etl_resources.suggest import hint

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


def load_dataset(path: Path) -> Dataset:
    """A dataset's manifest.yaml as a model. Raises ManifestErrors with everything that is wrong in it."""
    return read_manifest(path, Dataset).model


def read_manifest(path: Path, model: type[M]) -> ManifestFile[M]:
    """A file as a model with positions. Raises ManifestErrors."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "not UTF-8 text"
        raise ManifestErrors([ManifestError(f"can't be read: {reason}", file=shown(path))]) from e
    return parse_manifest(text, path, model)


def parse_manifest(text: str, path: Path, model: type[M]) -> ManifestFile[M]:
    """A manifest's text as a model; path only names it in errors. Raises ManifestErrors."""
    document = compose(text)
    errors = [ManifestError(m, file=shown(path), line=line) for m, line in document.problems]
    if not errors and not isinstance(document.value, dict):
        errors = [ManifestError(f"must be a mapping with {_keys(_schema(model))}", file=shown(path), line=1)]
    if errors:
        raise ManifestErrors(errors)
    try:
        value = model.model_validate(document.value, strict=True, by_alias=True, by_name=False)
    except ValidationError as e:
        found = {_explain(d, model, document.lines) for d in _without_alternatives(e.errors())}
        ordered = sorted(found, key=lambda f: (f[1], f[0]))
        raise ManifestErrors(ManifestError(m, file=shown(path), line=line) for m, line in ordered) from e
    return ManifestFile(path, value, document.lines)


def shown(path: Path) -> str:
    """A path as errors show it: relative to the working directory where it lies in it."""
    absolute, here = path.absolute(), Path.cwd()
    return absolute.relative_to(here).as_posix() if absolute.is_relative_to(here) else absolute.as_posix()


def nearest_line(lines: Mapping[FieldPath, int], at: FieldPath) -> int:
    """Line of a field, or of the nearest parent that is written."""
    return next(lines[at[:n]] for n in range(len(at), -1, -1) if at[:n] in lines)


def _without_alternatives(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """One error per value: a union reports one for each of its members, behind the path of the value."""
    union_members = {"int", "str"}
    seen: dict[FieldPath, ErrorDetails] = {}
    for d in details:
        loc = tuple(d["loc"])
        if (
            len(loc) > 1
            and loc[-1] in union_members
            and d["type"] in ("int_type", "string_type", "int_from_float")
        ):
            loc = loc[:-1]
            d = cast("ErrorDetails", {**d, "loc": loc, "type": "int_or_string"})
        key = (*loc, d["type"]) if d["type"] == "value_error" else loc
        seen.setdefault(key, d)
    return list(seen.values())


def _explain(detail: ErrorDetails, model: type[Strict], lines: Mapping[FieldPath, int]) -> tuple[str, int]:
    """(message, line) of one of pydantic's errors."""
    is_key = detail["loc"][-1:] == ("[key]",)
    path = tuple(detail["loc"])[: -1 if is_key else None]
    line, name, kind = nearest_line(lines, path), _dotted(path), detail["type"]
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        parents = _options(_schema(model), _schema_at(_schema(model), path[:-1]))
        valid = [name for p in parents for name in p.get("properties", {})]
        where = f" in {_dotted(path[:-1])}" if path[:-1] else ""
        return f"unknown key {path[-1]!r}{where}; {hint(str(path[-1]), valid)}", line
    if kind == "missing":
        where = f" in {_dotted(path[:-1])}" if path[:-1] else ""
        return f"{path[-1]} is missing{where}: give {_expected(_schema_at(_schema(model), path))}", line
    if kind == "value_error":
        message = f"{name}: {context.get('error', detail['msg'])}" if path else str(context.get("error"))
        return message, line
    if is_key:
        return f"{name}: {path[-1]!r} is not a valid name; valid: {_expected_name(context)}", line
    given = _given(detail["input"])
    if kind == "literal_error":
        schema = _schema_at(_schema(model), path)
        names = [str(v) for v in schema.get("enum", [schema.get("const")])]
        return f"{name}: {given} is not valid; {hint(str(detail['input']), names)}", line
    expected = _expected(_schema_at(_schema(model), path))
    return f"{name}: {given} is not valid; expected {expected}", line


def _expected(schema: Mapping[str, Any]) -> str:
    """What a value must be, in words, from its JSON Schema."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_expected(s) for s in schema["anyOf"] if s.get("type") != "null"))
    if "enum" in schema or "const" in schema:
        return f"one of {', '.join(str(v) for v in schema.get('enum', [schema.get('const')]))}"
    form = schema.get("x-form") or schema.get("pattern")
    kind = schema.get("type", "value")
    limits = [
        f"{word} {schema[key]}"
        for key, word in (("minimum", "at least"), ("maximum", "at most"), ("minLength", "length at least"))
        if key in schema
    ]
    if kind == "array":
        least = f" of at least {schema['minItems']}" if "minItems" in schema else ""
        return f"a list{least}, each {_expected(schema.get('items', {}))}"
    if kind == "object":
        keys = f" with {_keys(schema)}" if "properties" in schema else " of names to values"
        least = ", at least one" if schema.get("minProperties") else ""
        return f"a mapping{keys}{least}"
    words = {"string": "text", "integer": "a whole number", "boolean": "true or false", "number": "a number"}
    text = form or words.get(kind, kind)
    return ", ".join([text, *limits])


def _expected_name(context: Mapping[str, Any]) -> str:
    return f"lower case letters, digits and _ ({context.get('pattern', '')})"


def _keys(schema: Mapping[str, Any]) -> str:
    return ", ".join(schema.get("properties", {}))


def _given(value: Any) -> str:
    kinds = {dict: "a mapping", tuple: "a list", type(None): "nothing"}
    if type(value) in kinds:
        return kinds[type(value)] if value or value is None else f"{kinds[type(value)]} without entries"
    if isinstance(value, float):
        return f"{value} (a float; write decimals in quotes)"
    return repr(value) if isinstance(value, str) else json.dumps(value)


def _dotted(path: FieldPath) -> str:
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path)
    return text.lstrip(".")


@cache
def _schema(model: type[Strict]) -> dict[str, Any]:
    return model.model_json_schema(by_alias=True, mode="validation")


def _schema_at(root: Mapping[str, Any], path: FieldPath) -> Mapping[str, Any]:
    """The JSON Schema of the value at a path; {} where there is none."""
    found: Mapping[str, Any] = root
    for step in path:
        found = next((s for s in (_step(o, step) for o in _options(root, found)) if s is not None), {})
    options = [o for o in _options(root, found) if o.get("type") != "null"]
    return options[0] if len(options) == 1 else {**found, **({"anyOf": options} if options else {})}


def _options(root: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A schema's alternatives with references followed."""
    if "$ref" in schema:
        return _options(root, {**root["$defs"][schema["$ref"].rsplit("/", 1)[1]]})
    if "anyOf" in schema:
        return [o for s in schema["anyOf"] for o in _options(root, s)]
    return [schema]


def _step(schema: Mapping[str, Any], step: str | int) -> Mapping[str, Any] | None:
    if isinstance(step, int):
        return cast("Mapping[str, Any] | None", schema.get("items"))
    properties = schema.get("properties", {})
    if step in properties:
        return cast("Mapping[str, Any]", properties[step])
    patterns = schema.get("patternProperties", {})
    values = next(iter(patterns.values()), schema.get("additionalProperties"))
    return values if isinstance(values, dict) else None
