"""JSON whose numbers keep their digits: the engine reads them as doubles, and 1234567890123456.78 loses its cents."""

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_LOSES_DIGITS = r"[0-9.]{16}|0\.00000"
"""Lines that may hold a number which a double doesn't: 15 digits are exact, small ones get an exponent."""
NAMED_MAX = 100
"""More columns of text are not looked for by their names."""


class _Number(str):
    """A number's text."""

    __slots__ = ()


def risky_lines(texts: Sequence[str]) -> str:
    """Regular expression of lines in which the engine may not find all digits. texts: columns of text, in which a
    number has to stay as it was sent: the engine writes 3.1 for 3.10, also inside of a list or object.
    """
    names = "|".join(map(re.escape, texts)) if len(texts) <= NAMED_MAX else '[^"]*'
    return f'{_LOSES_DIGITS}|"(?:{names})"\\s*:\\s*[-0-9\\[{{]' if texts else _LOSES_DIGITS


def exact_lines(lines: "pa.StringArray", risky_line: str = _LOSES_DIGITS) -> "pa.StringArray":
    """JSON objects, one per line, in which the engine finds all digits; most lines stay as they are.

    risky_line: as `risky_lines` gives it.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    risky = pc.match_substring_regex(lines, risky_line)
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
