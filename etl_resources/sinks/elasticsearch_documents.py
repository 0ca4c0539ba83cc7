"""Rows as documents and back: the strict mapping of a contract, the bytes that are sent, the text that is reread.

Numbers never become floats on the way. A decimal is a JSON number with all digits of its scale; the server keeps these
bytes in `_source`, and the rendering happens in DuckDB. What is indexed for searching is a double.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from etl_resources.contract import Contract, ContractColumn
from etl_resources.identifiers import literal, quote

KEYWORD_CHARACTERS_MAX = 8_191
"""Longer texts are kept and returned but not indexed: Lucene's terms end at 32,766 bytes."""
ID_BYTES_MAX = 512
EPOCH_FIELD, PARTITION_FIELD = "etl_epoch", "etl_partition"
"""Fields of upserted documents: which attempt wrote it last, and for which partition."""

_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "bigint": {"type": "long"},
    "int": {"type": "integer"},
    "string": {"type": "keyword", "ignore_above": KEYWORD_CHARACTERS_MAX},
    "date": {"type": "date", "format": "strict_date"},
    "timestamptz": {"type": "date", "format": "strict_date_optional_time_nanos"},
    "boolean": {"type": "boolean"},
}
_DECIMAL = {"type": "double"}


def mapping(contract: Contract, *, upserted: bool) -> dict[str, Any]:
    """Mapping of a contract: a field that it doesn't name is refused."""
    properties: dict[str, Any] = {c.name: dict(_FIELDS.get(c.type, _DECIMAL)) for c in contract.columns}
    if upserted:
        properties |= {EPOCH_FIELD: {"type": "long"}, PARTITION_FIELD: {"type": "keyword"}}
    return {"dynamic": "strict", "properties": properties}


def document_id(key: Sequence[str]) -> str:
    """SQL text of a row's `_id`: its key, values joined by `|`; the same key gives the same id in every attempt."""
    parts = [f"replace(replace({quote(k)}::varchar, '\\', '\\\\'), '|', '\\|')" for k in key]
    joined = " || '|' || ".join(parts)
    return f"case when {joined} = '' then '\\e' else {joined} end"


def document(contract: Contract, extra: str = "") -> str:
    """SQL text of a row's document. `extra`: fields in front of the row's, as SQL that ends with `||`."""
    names = {c.name: literal(f'"{c.name}":') for c in contract.columns}
    fields = " || ',' || ".join(f"{names[c.name]} || {_rendered(c)}" for c in contract.columns)
    return f"'{{' || {extra}{fields} || '}}'"


def _rendered(column: ContractColumn) -> str:
    name = quote(column.name)
    if column.type == "string":
        value = f"to_json({name})::varchar"
    elif column.type == "date":
        value = f"""'"' || {name}::varchar || '"'"""
    elif column.type == "timestamptz":
        value = f"""'"' || strftime({name} at time zone 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ') || '"'"""
    elif column.type in _FIELDS:
        value = f"{name}::varchar"
    else:  # DuckDB writes .05 where a decimal has no place before the point: no JSON
        value = f"regexp_replace({name}::varchar, '^(-?)[.]', '\\10.')"
    return f"coalesce({value}, 'null')"


def typed_columns(contract: Contract) -> str:
    """SQL select list that gives reread texts, one column each, the types of the contract."""
    return ", ".join(f"{quote(c.name)}::{_duckdb(c)} as {quote(c.name)}" for c in contract.columns)


def _duckdb(column: ContractColumn) -> str:
    from etl_resources.tables.schema import duckdb_type

    return duckdb_type(column.type)
