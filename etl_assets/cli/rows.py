"""Rows of a query as an aligned table, as JSON lines or as CSV, written as they arrive."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain, islice
from typing import Any, TextIO

NULL = "NULL"
ROWS_MEASURED = 200
"""Rows that decide the widths of the columns; a later value may stand out."""

Row = tuple[Any, ...]
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UBIGINT", "DECIMAL", "DOUBLE", "FLOAT")


def write_table(columns: Sequence[str], types: Sequence[str], rows: Iterator[Row], out: TextIO) -> int:
    """Columns aligned, numbers to the right, nulls as NULL. How many rows were written."""
    right = [t.startswith(_NUMBERS) for t in types]
    first = [_texts(row) for row in islice(rows, ROWS_MEASURED)]
    widths = [max(map(len, column)) for column in zip(columns, *first, strict=True)]
    print(_line(columns, widths, right), file=out)
    print("  ".join("─" * w for w in widths), file=out)
    count = 0
    for texts in chain(first, map(_texts, rows)):
        print(_line(texts, widths, right), file=out)
        count += 1
    return count


def write_json(columns: Sequence[str], rows: Iterator[Row], out: TextIO) -> int:
    """One object per line; decimals, dates and times as text, so that none loses digits."""
    count = 0
    for row in rows:
        print(json.dumps({c: plain(v) for c, v in zip(columns, row, strict=True)}, ensure_ascii=False), file=out)
        count += 1
    return count


def write_csv(columns: Sequence[str], rows: Iterator[Row], out: TextIO) -> int:
    """With a heading; a null is an empty field."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    count = 0
    for row in rows:
        writer.writerow(["" if v is None else text_of(v) for v in row])
        count += 1
    return count


def plain(value: Any) -> Any:
    """A value as JSON knows it."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and value - value == 0:  # neither infinite nor NaN, which JSON doesn't know
        return value
    return text_of(value)


def text_of(value: Any) -> str:
    """A value as text: exact, dates and times in ISO 8601."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(plain(value), ensure_ascii=False)
    return str(value)


def _texts(row: Row) -> list[str]:
    return [NULL if v is None else text_of(v).replace("\n", "\\n") for v in row]


def _line(texts: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    cells = [t.rjust(w) if r else t.ljust(w) for t, w, r in zip(texts, widths, right, strict=True)]
    return "  ".join(cells).rstrip()
