"""Paths into JSON documents: where the rows of a page are, and the values beside them.

    data[]                        every element of the array `data`
    rates.{rate_date}.{currency}  every entry of every mapping below `rates`; the keys become columns
    orders[].lines[]              elements of the arrays inside of each element
    $.orders[].id                 as a value's path: `id` of the order that the row lies in

Numbers are kept as the text that was sent: a float would change digits.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

ROOT = "$"
_STEP = re.compile(r"(?:(?P<name>[A-Za-z_@][\w@-]*)|\{(?P<capture>[a-z][a-z0-9_]*)\})?(?P<arrays>(?:\[\])*)")
FORM = "names with dots, [] for an array's elements, {name} for a mapping's keys, e.g. data[] or rates.{day}.{currency}"


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


class PathError(ValueError):
    """A document isn't of the form that a path expects."""


@dataclass(frozen=True)
class Step:
    """One step down: a key, every entry of a mapping (`capture` names the column of its keys), or every element."""

    key: str | None = None
    capture: str | None = None

    @property
    def fans_out(self) -> bool:
        """Whether it leads to several values."""
        return self.key is None


@dataclass(frozen=True)
class Found:
    """A value at the end of a path, or what it came to instead: `problem` says what was expected there."""

    value: Any
    captured: Mapping[str, str]
    passed: tuple[Any, ...]
    """The document, then the value after each step."""
    problem: str | None = None


@dataclass(frozen=True)
class JsonPath:
    """A parsed path."""

    text: str

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Raises ValueError when the text is no path."""
        words = self.text.split(".")
        if words[0] == ROOT and len(words) > 1:
            words = words[1:]
        steps: list[Step] = []
        for word in words:
            found = _STEP.fullmatch(word)
            if not word or found is None:
                raise ValueError(f"{self.text!r} is not a path: {FORM}")
            if found["name"]:
                steps.append(Step(key=found["name"]))
            elif found["capture"]:
                steps.append(Step(capture=found["capture"]))
            steps += [Step()] * (len(found["arrays"]) // 2)
        return tuple(steps)

    @property
    def from_root(self) -> bool:
        """Whether it begins at the document, as `$.` says."""
        return self.text.startswith(f"{ROOT}.")

    @property
    def captures(self) -> tuple[str, ...]:
        """Columns of the keys that it passes."""
        return tuple(s.capture for s in self.steps if s.capture)

    def walk(self, document: Any, *, null_is_empty: bool = False) -> Iterator[Found]:
        """Every value, in the document's order.

        A document that isn't of this form up to the first array or mapping raises PathError: it is another page than
        was described, also where null is there (`null_is_empty`: then there is no value). Further down, what doesn't
        fit is a Found with a problem, and null is empty.
        """
        return _walk(self.steps, (document,), {}, null_is_empty)

    def value(self, start: Any) -> Any:
        """The value of a path without fan-out below `start`. Raises KeyError where a key of it is missing."""
        for step in self.steps:
            if start is None:
                return None
            if not isinstance(start, dict):
                raise KeyError(step.key)
            start = start[step.key]
        return start

    def value_beside(self, found: Found) -> Any:
        """The value of a `$.` path in the elements that a row lies in. Raises KeyError where it is missing."""
        shared = max((i + 1 for i, step in enumerate(self.steps) if step.fans_out), default=0)
        rest = JsonPath.of(self.steps[shared:])
        return rest.value(found.passed[shared])

    def shares_fan_out_with(self, row: "JsonPath") -> bool:
        """Whether every array and mapping that this path enters is one that the row's path enters too."""
        shared = max((i + 1 for i, step in enumerate(self.steps) if step.fans_out), default=0)
        return self.steps[:shared] == row.steps[:shared]

    @classmethod
    def of(cls, steps: tuple[Step, ...]) -> "JsonPath":
        """A path of these steps."""
        path = cls("")
        path.__dict__["steps"] = steps
        return path


def _walk(
    steps: tuple[Step, ...], passed: tuple[Any, ...], captured: Mapping[str, str], null_is_empty: bool
) -> Iterator[Found]:
    node, done = passed[-1], len(passed) - 1
    if done == len(steps):
        yield Found(node, captured, passed)
        return
    step = steps[done]
    if step.fans_out and node is None and (null_is_empty or _fan_out(steps[:done])):
        return
    kind, expected = (dict, "a mapping") if step.key or step.capture else (list, "an array")
    problem = f"is not {expected}" if not isinstance(node, kind) else None
    if problem is None and step.key is not None and step.key not in node:
        problem = f"has no {step.key!r}"
    if problem is not None:
        if not _fan_out(steps[:done]):
            raise PathError(f"{_place(steps[:done])} {'is null' if node is None else problem}")
        yield Found(node, captured, passed, f"{_place(steps[:done])} {problem}")
    elif step.key is not None:
        yield from _walk(steps, (*passed, node[step.key]), captured, null_is_empty)
    elif step.capture is not None:
        for key, value in node.items():
            yield from _walk(steps, (*passed, value), {**captured, step.capture: key}, null_is_empty)
    else:
        for value in node:
            yield from _walk(steps, (*passed, value), captured, null_is_empty)


def _fan_out(steps: tuple[Step, ...]) -> bool:
    return any(s.fans_out for s in steps)


def _place(steps: tuple[Step, ...]) -> str:
    words = [s.key or (f"{{{s.capture}}}" if s.capture else "[]") for s in steps]
    return ".".join(words).replace(".[]", "[]") or "the document"


def parse_json(body: bytes) -> Any:
    """A document whose numbers are Number. Raises ValueError (UnicodeDecodeError included), RecursionError."""
    return json.loads(body, parse_float=Number, parse_int=Number, parse_constant=_refuse)


def text_of(value: Any) -> str | None:
    """A value as a column's text: scalars as they are, objects and arrays as JSON with the digits that were sent."""
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return json_text(value)


def json_text(value: Any) -> str:
    """JSON of a parsed document, numbers as they were sent."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k, ensure_ascii=False)}: {json_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(json_text(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def is_whole(text: str) -> bool:
    """Whether UTF-8 holds it: JSON may escape half of a character, such as \\ud83d alone."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
