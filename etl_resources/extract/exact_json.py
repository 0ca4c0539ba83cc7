"""JSON whose numbers keep their digits: the engine reads them as doubles, and 1234567890123456.78 loses its cents."""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_LOSES_DIGITS = r"[0-9.]{16}|0\.00000"
"""Lines that may hold a number which a double doesn't: 15 digits are exact, small ones get an exponent."""


class _Number(str):
    """A number's text."""

    __slots__ = ()


def exact_lines(lines: "pa.StringArray") -> "pa.StringArray":
    """JSON objects, one per line, in which the engine finds all digits; most lines stay as they are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    risky = pc.match_substring_regex(lines, _LOSES_DIGITS)
    if not pc.any(risky).as_py():
        return lines
    exact = [numbers_as_text(line) for line in lines.filter(risky).to_pylist()]
    return pc.replace_with_mask(lines, risky, pa.array(exact, pa.string()))


def numbers_as_text(line: str) -> str:
    """A JSON object with the numbers among its values as strings, and its objects and lists as strings of JSON.

    What is no JSON object is returned as it is; one that is nested too deeply, as text that is none either.
    """
    try:
        value = json.loads(line, parse_float=_Number, parse_int=_Number, object_pairs_hook=_first_of_each)
        if not isinstance(value, dict):
            return line
        text = {k: v if isinstance(v, str | bool | None) else _written(v) for k, v in value.items()}
    except ValueError:
        return line
    except RecursionError:
        return f"nested too deeply: {line}"
    return json.dumps(text, separators=(",", ":"))


def _first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """As the engine reads an object that names a value twice."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def _written(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{_written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return json.dumps(value)
