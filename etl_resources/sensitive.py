"""Sensitive columns: their values are covered in the statement that reads them, before anything is written or judged.

    mask    text becomes MASK, a date the first day of its year, a time the first moment of its year (UTC)
    hash    HMAC-SHA-256 of the value's canonical text, as 64 hex digits
    drop    the column isn't read

Null stays null. What isn't of its column's type becomes MASK in both: a rule then rejects the row.
"""

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from etl_resources.classify import classify
from etl_resources.contract import Contract, ContractColumn
from etl_resources.errors import DataPipelineError, PermanentError, SettingsError
from etl_resources.manifest_columns import DECIMAL, Column
from etl_resources.manifest_sources import Source
from etl_resources.tables.schema import duckdb_type

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

MASK = "***"
MASKED_TYPES = ("string", "date", "timestamptz")
"""A constant number would be added up, and a constant boolean is an answer: neither is masked."""
HASHED_TYPES = ("string", "bigint", "int", "date", "timestamptz")
"""And decimals. A hashed boolean has two values."""
KEY_CHARACTERS_MIN = 32
_BLOCK_BYTES = 64
"""Of SHA-256, for HMAC (RFC 2104)."""
_INNER, _OUTER = "etl_hash_inner", "etl_hash_outer"
"""Variables of a connection: what is in a statement's text may be quoted by an error."""
_TELLING = ("OutOfMemoryException", "HTTPException")
"""Errors of the engine that speak of memory and addresses, never of values."""


@dataclass(frozen=True)
class HashKey:
    """The key of hashed columns; neither its text nor anything that gives it away is shown."""

    _key: bytes = field(repr=False)

    @classmethod
    def of(cls, reference: str, home: "Path | None" = None) -> "HashKey":
        """Fetched now. Raises SettingsError naming the reference, never its value."""
        from etl_resources.settings import resolve_secret

        text = resolve_secret(reference, home)
        if len(text) < KEY_CHARACTERS_MIN:
            raise SettingsError(
                f"{reference}, the key of hashed columns, has fewer than {KEY_CHARACTERS_MIN} characters: a short one "
                "can be guessed from the hashes. Give it a random text, e.g. of `openssl rand -base64 32`."
            )
        return cls(text.encode())

    @property
    def identity(self) -> str:
        """Tells one key from another, and nothing of it: part of the logic version, so that another key recomputes."""
        return self._digest(b"data-pipeline: identity of a key")[:16]

    @property
    def seed(self) -> int:
        """Of the hashes by which a source's rows are compared: without the key they can't be guessed either."""
        return int(self._digest(b"data-pipeline: seed of fingerprints")[:15], 16)

    def use(self, connection: "duckdb.DuckDBPyConnection") -> None:
        """Let the statements of this connection, not of its cursors, hash with it."""
        key = self._key if len(self._key) <= _BLOCK_BYTES else hashlib.sha256(self._key).digest()
        padded = key.ljust(_BLOCK_BYTES, b"\0")
        for variable, pad in ((_INNER, 0x36), (_OUTER, 0x5C)):
            connection.execute(f"set variable {variable} = ?", [bytes(b ^ pad for b in padded)])

    def _digest(self, text: bytes) -> str:
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()


def hashes(contract: Contract) -> bool:
    """Whether capturing it needs the key."""
    return any(c.cover and c.cover.mode == "hash" for c in contract.columns)


def captured_columns(source: Source) -> Mapping[str, Column]:
    """Columns of a source that are read: those that aren't dropped."""
    return {name: c for name, c in source.columns.items() if c.sensitive != "drop"}


def is_sensitive(source: Source) -> bool:
    """Whether nothing that quotes its rows may be told."""
    return any(c.sensitive for c in source.columns.values())


def cover(column: ContractColumn, given: str, typed: str, engine_type: str) -> str:
    """DuckDB expression of a column's covered value. given: its value as it was read, of engine_type; typed: the same
    with the source's type, null where it isn't of that type.

    Text that isn't of the column's type becomes MASK, of which a rule tells that it has another type.
    """
    assert column.cover is not None  # noqa: S101  (only those are covered)
    hashed, kind = column.cover.mode == "hash", column.cover.source_type
    covered, unfit = _hash(_canonical(typed, kind)) if hashed else _mask(typed, kind), ""
    if engine_type == "VARCHAR" and kind != "string":
        unfit, covered = f" when {typed} is null then '{MASK}'", f"({covered})::varchar"
    return f"case when {given} is null then null{unfit} else {covered} end"


def covered_type(column: ContractColumn, engine_type: str) -> str:
    """Engine's type of what `cover` gives."""
    assert column.cover is not None  # noqa: S101  (only those are covered)
    return "VARCHAR" if column.cover.mode == "hash" or engine_type == "VARCHAR" else duckdb_type(column.type)


def _mask(value: str, kind: str) -> str:
    if kind == "string":
        return f"'{MASK}'"
    return f"date_trunc('year', {value})" + ("::date" if kind == "date" else "")


def _canonical(value: str, source_type: str) -> str:
    """Text of a value that is the same wherever it comes from: 5, 5.0 and 5.00 are equal."""
    if source_type == "string":
        return value
    if source_type == "timestamptz":
        return f"epoch_us({value})::varchar"
    decimal = DECIMAL.match(source_type)
    if decimal and int(decimal[2]) > 0:
        return f"rtrim(rtrim({value}::varchar, '0'), '.')"
    return f"{value}::varchar"


def _hash(text: str) -> str:
    """HMAC-SHA-256 as hex. Without a key it is an error, never a null."""
    inner, outer = (
        f"coalesce(getvariable('{name}')::blob, error('no key for hashed columns')::blob)" for name in (_INNER, _OUTER)
    )
    return f"sha256({outer} || unhex(sha256({inner} || encode({text}))))"


def without_values(what: str, error: Exception) -> Exception:
    """An error of reading a source with sensitive columns, fit to be told: libraries quote the values that they can't
    read. Raise it `from None`, else its cause is told with it.
    """
    if isinstance(error, DataPipelineError):
        return error
    known, name = classify(error), type(error).__name__
    if known is not None and name in _TELLING:
        return type(known)(f"{what}: {known}")
    state = getattr(error, "sqlstate", None)
    return type(known or PermanentError(""))(
        f"{what}: {name}{f' [{state}]' if state else ''}. What it says isn't shown, because it may quote a value of a "
        "sensitive column: see the server's own log, or read the source by hand."
    )


@contextmanager
def quoting_no_values(what: str, *, sensitive: bool) -> Iterator[None]:
    """Errors inside, of whatever library, are told without_values where the source is sensitive."""
    try:
        yield
    except Exception as e:
        if not sensitive:
            raise
        raise without_values(what, e) from None
