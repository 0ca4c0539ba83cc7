"""JSON Schema of the manifests: for editors, and for what errors and the reference say is valid."""

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from etl_resources.manifest_types import Strict

FieldPath = tuple[str | int, ...]
_TAGS = ("kind", "by")


@cache
def json_schema(model: type[Strict]) -> dict[str, Any]:
    """The schema as pydantic gives it, with `x-form`: what a string must be, in words."""
    return model.model_json_schema(by_alias=True, mode="validation")


def schema_at(root: Mapping[str, Any], path: FieldPath) -> Mapping[str, Any]:
    """The JSON Schema of the value at a path; {} where there is none."""
    found: Mapping[str, Any] = root
    for step in path:
        of_kind = _of_kind(root, found, step)
        found = of_kind or next((s for s in (_step(o, step) for o in alternatives(root, found)) if s is not None), {})
    options = [o for o in alternatives(root, found) if o.get("type") != "null"]
    return options[0] if len(options) == 1 else {**found, **({"anyOf": options} if options else {})}


def alternatives(root: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A schema's alternatives with references followed."""
    if "$ref" in schema:
        return alternatives(root, {**root["$defs"][schema["$ref"].rsplit("/", 1)[1]]})
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return [o for s in schema[union] for o in alternatives(root, s)]
    return [schema]


def without_kinds(root: Mapping[str, Any], path: FieldPath) -> FieldPath:
    """pydantic's path of an error as it is written in the file: without the kind that it adds behind a source."""
    return tuple(step for i, step in enumerate(path) if _of_kind(root, schema_at(root, path[:i]), step) is None)


def _of_kind(root: Mapping[str, Any], schema: Mapping[str, Any], step: str | int) -> Mapping[str, Any] | None:
    """The alternative whose tag a step names; None for a step that is a field."""
    options = alternatives(root, schema)
    return next((o for o in options if tag_of(o)[1] == step and len(options) > 1), None)


def tag_of(option: Mapping[str, Any]) -> tuple[str, str | None]:
    """(field, value) by which an alternative is told from the others: kind of a source, by of its pages."""
    fields = option.get("properties", {})
    return next(((tag, fields[tag]["const"]) for tag in _TAGS if "const" in fields.get(tag, {})), (_TAGS[0], None))


def _step(schema: Mapping[str, Any], step: str | int) -> Mapping[str, Any] | None:
    if isinstance(step, int):
        return cast("Mapping[str, Any] | None", schema.get("items"))
    properties = schema.get("properties", {})
    if step in properties:
        return cast("Mapping[str, Any]", properties[step])
    patterns = schema.get("patternProperties", {})
    values = next(iter(patterns.values()), schema.get("additionalProperties"))
    return values if isinstance(values, dict) else None


def in_words(schema: Mapping[str, Any]) -> str:
    """What a value must be, in words, from its JSON Schema."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(in_words(s) for s in schema["anyOf"] if s.get("type") != "null"))
    if "enum" in schema or "const" in schema:
        values = [str(v) for v in schema.get("enum", [schema.get("const")])]
        return values[0] if len(values) == 1 else f"one of {', '.join(values)}"
    form = schema.get("x-form") or schema.get("pattern")
    kind = schema.get("type", "value")
    limits = [
        f"{word} {schema[key]}"
        for key, word in (("minimum", "at least"), ("maximum", "at most"), ("minLength", "length at least"))
        if key in schema
    ]
    if kind == "array":
        least = f" of at least {schema['minItems']}" if "minItems" in schema else ""
        return f"a list{least}, each {in_words(schema.get('items', {}))}"
    if kind == "object":
        keys = f" with {keys_of(schema)}" if "properties" in schema else " of names to values"
        least = ", at least one" if schema.get("minProperties") else ""
        return f"a mapping{keys}{least}"
    words = {"string": "text", "integer": "a whole number", "boolean": "true or false", "number": "a number"}
    text = form or words.get(kind, kind)
    return ", ".join([text, *limits])


def keys_of(schema: Mapping[str, Any]) -> str:
    return ", ".join(schema.get("properties", {}))
