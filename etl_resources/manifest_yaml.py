"""YAML of manifests, strictly: positions are kept, keys are unique, only `true` and `false` are booleans.

Dates stay text, `on`, `no` and `012` too; anchors and merge keys are not part of a manifest.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from etl_resources.manifest_schema import FieldPath

_CORE = "tag:yaml.org,2002:"
_SCALARS = {f"{_CORE}{name}" for name in ("str", "bool", "int", "float", "null")}


@dataclass
class Document:
    """A file's plain value (lists as tuples), its lines by key or item, its problems as (message, line)."""

    value: Any = None
    lines: dict[FieldPath, int] = field(default_factory=lambda: {(): 1})
    problems: list[tuple[str, int]] = field(default_factory=list)
    nodes: set[yaml.Node] = field(default_factory=set, repr=False)
    """Seen so far: an alias is a node that comes again, in itself even."""
    digits_as_text: bool = False


_Fastest: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Fastest):  # type: ignore[misc]  # PyYAML publishes no types
    """YAML 1.2's core types only: 1.1 reads `on` as true, 2023-08-01 as a date and 1:30 as ninety."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012  (PyYAML's class attribute)


for _tag, _pattern, _first in (
    ("bool", r"^(true|false)$", "tf"),
    ("int", r"^[-+]?(0|[1-9]\d*)$", "-+0123456789"),
    ("float", r"^[-+]?(0|[1-9]\d*)(\.\d*([eE][-+]?\d+)?|[eE][-+]?\d+)$", "-+0123456789"),
    ("null", r"^(null|~|)$", ["n", "~", ""]),
):
    _Loader.add_implicit_resolver(f"{_CORE}{_tag}", re.compile(_pattern), list(_first))


def compose(text: str, *, digits_as_text: bool = False) -> Document:
    """A document with its positions; never raises for what the text says.

    digits_as_text: numbers with a point stay as they are written, because a float would lose digits.
    """
    document = Document(digits_as_text=digits_as_text)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        document.problems.append((f"not valid YAML: {_reason(e)}", mark.line + 1 if mark else 1))
        return document
    if node is not None:
        document.value = _value(loader, node, (), document)
    return document


def _value(loader: _Loader, node: yaml.Node, at: FieldPath, document: Document) -> Any:
    if node in document.nodes:
        message = f"alias of line {node.start_mark.line + 1}: aliases are not allowed, write it out"
        document.problems.append((message, document.lines.get(at, 1)))
        return None
    document.nodes.add(node)
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, at, document)
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            document.lines[(*at, i)] = item.start_mark.line + 1
        return tuple(_value(loader, item, (*at, i), document) for i, item in enumerate(node.value))
    if node.tag not in _SCALARS:
        message = f"tag {node.tag} is not allowed; valid: text, whole numbers, true, false, null"
        document.problems.append((message, node.start_mark.line + 1))
        return None
    if document.digits_as_text and node.tag == f"{_CORE}float":
        return node.value
    try:
        return loader.construct_object(node)
    except (ValueError, KeyError):  # an explicit tag, such as !!int abc
        message = f"{node.value!r} is not a value of tag {node.tag}"
        document.problems.append((message, node.start_mark.line + 1))
        return None


def _mapping(loader: _Loader, node: yaml.MappingNode, at: FieldPath, document: Document) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            document.problems.append(("a key must be a plain name", line))
            continue
        key = str(key_node.value)
        if key in found:
            first = document.lines[(*at, key)]
            document.problems.append((f"duplicate key {key!r}, first given on line {first}: remove one", line))
            continue
        document.lines[(*at, key)] = line
        found[key] = _value(loader, value_node, (*at, key), document)
    return found


def _reason(e: yaml.YAMLError) -> str:
    problem = getattr(e, "problem", None) or str(e)
    context = getattr(e, "context", None)
    return f"{problem} ({context})" if context else str(problem)
