"""A contract as SQL: casts that lose nothing, and the reasons why a row is rejected.

The engine's own columns begin with _, which no column of a contract does.
"""

import re
from collections.abc import Iterator, Mapping

from etl_resources.contract import Contract, ContractColumn
from etl_resources.errors import PermanentError
from etl_resources.identifiers import literal, quote
from etl_resources.manifest_columns import DECIMAL
from etl_resources.quality.conditions import Condition, conditions, reference_condition, row_condition, type_conditions
from etl_resources.tables.schema import duckdb_type

_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")
STAMP = r"\s*\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{0,6}0*)?)?)?\s*(Z|[+-]\d{2}(:?\d{2})?)?\s*"
"""A time to the microsecond; without a zone it is UTC."""
_DUCKDB_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
REASON = 'STRUCT(rule VARCHAR, "column" VARCHAR, reason VARCHAR)'
"""One reason to reject a row: a stable name of the rule, its column (null: the row as a whole), and the text."""
REASON_TEXTS = "list_transform(_reasons, lambda x: x.reason)"
"""DuckDB expression: the texts of a judged row's reasons."""


def typed_columns(asset: str, contract: Contract, produced: Mapping[str, str]) -> list[str]:
    """Select items that give the contract's columns their types. `produced`: column → DuckDB type.

    Text is parsed (a value that doesn't parse is a rejection); numbers are only widened. Raises PermanentError where
    a cast could lose digits: the transform has to say how it rounds.
    """
    missing = [c.name for c in contract.columns if c.name not in produced]
    if missing:
        raise PermanentError(f"{asset}: the transform gives no column {', '.join(missing)}.")
    return [f"{typed_value(asset, c, produced[c.name])} as {quote(c.name)}" for c in contract.columns]


def rejection_reasons(contract: Contract, produced: Mapping[str, str]) -> str:
    """DuckDB expression, a list of REASON: why a row of `typed` is rejected; empty if it is good.

    `_payload` of `typed` is the row as it came.
    """
    broken = [c for column in contract.columns for c in _broken(column, produced[column.name])]
    broken += [row_condition(rule) for rule in contract.rules if rule.severity == "reject"]
    broken += [reference_condition(r) for r in contract.references if r.severity == "reject"]
    if not broken:
        return f"[]::{REASON}[]"
    cases = ", ".join(reason_when(c.broken, c.rule, c.column, c.text) for c in broken)
    # Only a row that breaks something pays for its list of reasons.
    return (
        f"case when {' or '.join(f'({c.broken})' for c in broken)} "
        f"then list_filter([{cases}]::{REASON}[], lambda x: x is not null) else []::{REASON}[] end"
    )


def reason_when(condition: str, rule: str, column: str | None, text: str) -> str:
    """DuckDB expression: a REASON where the condition is true, else null."""
    name = "null" if column is None else literal(column)
    reason = f"{{'rule': {literal(rule)}, 'column': {name}, 'reason': {literal(text)}}}"
    return f"case when {condition} then {reason}::{REASON} end"


def typed_value(asset: str, column: ContractColumn, produced: str) -> str:
    """DuckDB expression: the column of `_raw` with its type; null where text doesn't parse. Raises as typed_columns."""
    wanted, name = duckdb_type(column.type), f"_raw.{quote(column.name)}"
    if produced == wanted:
        return name
    if produced == "VARCHAR":
        parsed, exact = f"try_cast({name} as {wanted})", _exact_text(column.type)
        return f"case when regexp_full_match({name}, {literal(exact)}) then {parsed} end" if exact else parsed
    if _widens(produced, wanted):
        return f"cast({name} as {wanted})"
    raise PermanentError(
        f"{asset}: column {column.name} is {produced} and the contract says {column.type}. "
        f"Cast it in the SQL, with the rounding that is meant."
    )


def _exact_text(column_type: str) -> str | None:
    """Pattern of texts that the type can hold whole: a cast alone rounds 1.5 to 2 and drops a date's time of day."""
    decimal = DECIMAL.match(column_type)
    if decimal:
        return rf"\s*[+-]?\d*(\.\d{{0,{decimal[2]}}}0*)?\s*"
    whole, day = r"\s*[+-]?\d+\s*", r"\s*\d{4}[-/]\d{1,2}[-/]\d{1,2}\s*"
    patterns = {"bigint": whole, "int": whole, "date": day, "timestamptz": STAMP}
    return patterns.get(column_type)


def _widens(produced: str, wanted: str) -> bool:
    if produced in _INTEGERS and wanted in _INTEGERS:
        return _INTEGERS.index(produced) <= _INTEGERS.index(wanted)
    old, new = _DUCKDB_DECIMAL.fullmatch(produced), _DUCKDB_DECIMAL.fullmatch(wanted)
    if old and new:
        whole, scale = int(old[1]) - int(old[2]), int(old[2])
        return int(new[2]) >= scale and int(new[1]) - int(new[2]) >= whole
    return wanted == "VARCHAR" and produced == "UUID"


def _broken(column: ContractColumn, produced: str) -> Iterator[Condition]:
    """What a row may break in one column: its type, a required value, the rules that reject."""
    yield from type_conditions(column, from_text=produced == "VARCHAR")
    for rule in column.rules:
        if rule.severity == "reject":
            yield from conditions(column, rule)
