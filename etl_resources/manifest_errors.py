"""pydantic's errors as messages of ours: what was given, what is valid, on which line."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from etl_resources.manifest_schema import (
    FieldPath,
    alternatives,
    in_words,
    json_schema,
    schema_at,
    tag_of,
    without_kinds,
)
from etl_resources.manifest_types import Strict
from etl_resources.suggest import hint


def explain(error: ValidationError, model: type[Strict], lines: Mapping[FieldPath, int]) -> list[tuple[str, int]]:
    """(message, line) of everything that is wrong, in the order of the lines."""
    found = {_explain(d, model, lines) for d in _without_alternatives(error.errors())}
    return sorted(found, key=lambda f: (f[1], f[0]))


def nearest_line(lines: Mapping[FieldPath, int], at: FieldPath) -> int:
    """Line of a field, or of the nearest parent that is written."""
    return next(lines[at[:n]] for n in range(len(at), -1, -1) if at[:n] in lines)


def _without_alternatives(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """One error per value: a union reports one for each of its members, behind the path of the value."""
    union_members = {"int", "str"}
    seen: dict[FieldPath, ErrorDetails] = {}
    for d in details:
        loc = tuple(d["loc"])
        if d["type"] == "too_short" and any(o["loc"][: len(loc)] == loc for o in details if o is not d):
            continue  # its items are wrong: there are too few that are right
        if len(loc) > 1 and loc[-1] in union_members and d["type"] in ("int_type", "string_type", "int_from_float"):
            loc = loc[:-1]
            d = cast("ErrorDetails", {**d, "loc": loc, "type": "int_or_string"})
        key = (*loc, d["type"]) if d["type"] == "value_error" else loc
        seen.setdefault(key, d)
    return list(seen.values())


def _explain(detail: ErrorDetails, model: type[Strict], lines: Mapping[FieldPath, int]) -> tuple[str, int]:
    """(message, line) of one of pydantic's errors."""
    is_key = detail["loc"][-1:] == ("[key]",)
    path = tuple(detail["loc"])[: -1 if is_key else None]
    root = json_schema(model)
    written = without_kinds(root, path)
    line, name, kind = nearest_line(lines, written), _dotted(written), detail["type"]
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        parents = alternatives(root, schema_at(root, path[:-1]))
        valid = [name for p in parents for name in p.get("properties", {})]
        where = f" in {_dotted(written[:-1])}" if written[:-1] else ""
        return f"unknown key {path[-1]!r}{where}; {hint(str(path[-1]), valid)}", line
    if kind == "missing":
        where = f" in {_dotted(written[:-1])}" if written[:-1] else ""
        return f"{path[-1]} is missing{where}: give {in_words(schema_at(root, path))}", line
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        options = [o for o in alternatives(root, schema_at(root, path)) if o.get("type") != "null"]
        tag = tag_of(options[0])[0]
        return _wrong_kind(detail, name, tag, options), nearest_line(lines, (*written, tag))
    if kind == "value_error":
        message = f"{name}: {context.get('error', detail['msg'])}" if path else str(context.get("error"))
        return message, line
    if is_key:
        return f"{name}: {path[-1]!r} is not a valid name; valid: {_expected_name(context)}", line
    given = _given(detail["input"])
    if kind == "literal_error":
        schema = schema_at(root, path)
        names = [str(v) for v in schema.get("enum", [schema.get("const")])]
        return f"{name}: {given} is not valid; {hint(str(detail['input']), names)}", line
    expected = in_words(schema_at(root, path))
    return f"{name}: {given} is not valid; expected {expected}", line


def _wrong_kind(detail: ErrorDetails, name: str, tag: str, options: Sequence[Mapping[str, Any]]) -> str:
    kinds = [str(tag_of(o)[1]) for o in options]
    if detail["type"] == "union_tag_not_found":
        return f"{tag} is missing in {name}: give one of {', '.join(kinds)}"
    given = str(detail.get("ctx", {}).get("tag"))
    return f"{name}.{tag}: {given!r} is not valid; {hint(given, kinds)}"


def _expected_name(context: Mapping[str, Any]) -> str:
    return f"lower case letters, digits and _ ({context.get('pattern', '')})"


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
