"""Values of a test's rows, typed by their contract, exactly; and rows as a relation of the engine."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from etl_resources.contract import Contract, ContractColumn
from etl_resources.identifiers import literal, quote
from etl_resources.manifest_columns import DECIMAL
from etl_resources.suggest import hint
from etl_resources.tables.input_tables import no_rows
from etl_resources.tables.schema import duckdb_type

TypedRow = Mapping[str, Any]
"""Column: int, Decimal, str, date, datetime in UTC, bool or None."""
_DIGITS = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")
_INTEGER_BITS = {"bigint": 64, "int": 32}


def typed_row(contract: Contract, row: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The row's values with their types, and (column, message) of those that have none."""
    columns = {c.name: c for c in contract.columns}
    typed: dict[str, Any] = {}
    problems = []
    for name, value in row.items():
        if name not in columns:
            problems.append((name, f"unknown column {name!r}; {hint(name, columns)}"))
            continue
        try:
            typed[name] = typed_value(columns[name], value)
        except ValueError as e:
            problems.append((name, f"{name}: {e}"))
    return typed, problems


def typed_value(column: ContractColumn, value: Any) -> Any:
    """A value of a YAML file as one of the column. Raises ValueError: what is valid instead."""
    if value is None:
        return None
    decimal = DECIMAL.match(column.type)
    if decimal:
        return _decimal(value, int(decimal[1]), int(decimal[2]))
    return _READERS[column.type](value, column.type)


def text_of(value: Any) -> str:
    """A typed value as it is written in a test."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, date) else str(value)


def relation_of(contract: Contract, rows: Sequence[TypedRow]) -> str:
    """DuckDB table expression of rows; a column that a row leaves out is null."""
    if not rows:
        return no_rows(contract)
    names = ", ".join(map(quote, contract.names))
    values = ", ".join(f"({', '.join(_sql(c, row.get(c.name)) for c in contract.columns)})" for row in rows)
    return f"(select * from (values {values}) as given({names}))"


def _sql(column: ContractColumn, value: Any) -> str:
    text = "null" if value is None else literal(text_of(value))
    return f"cast({text} as {duckdb_type(column.type)})"


def _decimal(value: Any, precision: int, scale: int) -> Decimal:
    kind = f"decimal({precision},{scale})"
    text = str(value)
    if isinstance(value, bool) or not isinstance(value, int | str) or not _DIGITS.fullmatch(text):
        raise ValueError(f"{_shown(value)} is not of type {kind}, e.g. 12.50")
    whole, _, fraction = text.lstrip("+-").partition(".")
    if len(whole.lstrip("0")) > precision - scale or len(fraction.rstrip("0")) > scale:
        raise ValueError(f"{text} doesn't fit into {kind}")
    return Decimal(text)


def _integer(value: Any, kind: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{_shown(value)} is not of type {kind}")  # noqa: TRY004  (as the others)
    bits = _INTEGER_BITS[kind]
    if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        raise ValueError(f"{value} doesn't fit into {kind}")
    return value


def _text(value: Any, kind: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is not of type {kind}; put text in quotes")  # noqa: TRY004  (as the others)
    return value


def _boolean(value: Any, _: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{_shown(value)} is not a boolean; valid: true, false")  # noqa: TRY004  (as the others)
    return value


def _date(value: Any, _: str) -> date:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError) as e:
        raise ValueError(f"{_shown(value)} is not a date, e.g. 2024-01-31") from e


def _timestamp(value: Any, _: str) -> datetime:
    try:
        stamp = datetime.fromisoformat(value)
    except (TypeError, ValueError) as e:
        raise ValueError(f"{_shown(value)} is not a timestamptz, e.g. 2024-01-31T08:30:00Z") from e
    if stamp.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone: add Z or an offset such as +01:00")
    return stamp.astimezone(UTC)


def _shown(value: Any) -> str:
    kinds: dict[type, str] = {dict: "a mapping", tuple: "a list"}
    return kinds.get(type(value)) or (text_of(value) if isinstance(value, bool | int) else repr(value))


_READERS: Mapping[str, Callable[[Any, str], Any]] = {
    "bigint": _integer,
    "int": _integer,
    "string": _text,
    "boolean": _boolean,
    "date": _date,
    "timestamptz": _timestamp,
}
