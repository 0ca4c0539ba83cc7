"""Order-independent content hash of a partition, equal in DuckDB, Postgres and Spark.

The sum modulo 2^64 of the first 64 bits of md5 over a canonical text of each row: the first 8 hex digits of md5 over
the columns' names joined by chr(31), then the columns in contract order, all joined by chr(31): text after its length
in bytes ('2:é'), '-' for null, true or false, dates as days and timestamps as microseconds since 1970 (no session
setting renders them), decimals with all digits of their scale. The names make a renamed column, or two that swapped
their values, another content: nobody would find the values under the new name. A column that no manifest declares and
the table followed (schema_evolution: evolve) adds its name, = and value at the end, and nothing where it is null: rows
of before it existed keep their hash. It detects change and proves parity; it is not a signature (a sum can be forged).
"""

import hashlib
from typing import Literal

from etl_resources.contract import Contract, ContractColumn
from etl_resources.identifiers import literal, quote
from etl_resources.manifest_columns import DECIMAL
from etl_resources.quality.row_digests import MODULUS

Dialect = Literal["duckdb", "postgres", "spark"]

SCHEME = "h2"
"""Name of the definition above; a changed definition is a new name, so that old hashes are never compared with new."""
_MODULUS = str(MODULUS)


def row_text(contract: Contract, dialect: Dialect) -> str:
    """SQL expression of a row's canonical text."""
    declared = [c for c in contract.columns if not c.evolved]
    evolved = sorted((c for c in contract.columns if c.evolved), key=lambda c: c.name)
    names = hashlib.md5("\x1f".join(c.name for c in declared).encode(), usedforsecurity=False).hexdigest()[:8]
    if dialect == "duckdb":  # the same text in two thirds of the time
        text = f"concat({literal(names)}{''.join(f', chr(31), {_pieces(c)}' for c in declared)})"
    else:
        text = " || chr(31) || ".join((literal(names), *(_canonical(c, dialect) for c in declared)))
    return text + "".join(
        f" || case when {quote(c.name)} is null then '' else chr(31) || {literal(f'{c.name}=')} || "
        f"{_canonical(c, dialect)} end"
        for c in evolved
    )


def content_hash(contract: Contract, dialect: Dialect) -> str:
    """SQL aggregate giving the hash of a set of rows as 16 hex digits (of the empty set: 16 zeros)."""
    if dialect == "duckdb":
        return sum_of_numbers(row_number(contract))
    if dialect == "spark":
        total = f"cast(coalesce(sum({row_digits(contract)}), 0) % {_MODULUS} as string)"
        return f"lpad(lower(conv({total}, 10, 16)), 16, '0')"
    text = row_text(contract, dialect)
    number = f"('x' || substr(md5({text}), 1, 16))::bit(64)::bigint"  # summed as numeric, without a numeric per row
    total = f"mod(mod(coalesce(sum({number}), 0), {_MODULUS}) + {_MODULUS}, {_MODULUS})"  # mod: % is a placeholder
    high, low = f"div({total}, 4294967296)::bigint", f"mod({total}, 4294967296)::bigint"
    return f"lpad(to_hex({high}), 8, '0') || lpad(to_hex({low}), 8, '0')"


def row_number(contract: Contract) -> str:
    """DuckDB expression of what a row adds to the hash: 64 bits as ubigint."""
    return f"('0x' || substr({row_digest(contract)}, 1, 16))::ubigint"


def sum_of_numbers(number: str) -> str:
    """DuckDB aggregate giving the hash of rows whose `row_number`, or `engine_hash`, is known, as 16 hex digits."""
    return f"printf('%016x', (coalesce(sum({number}), 0) % {_MODULUS}::hugeint)::ubigint)"


def engine_hash(contract: Contract) -> str:
    """DuckDB expression of a row's hash by the engine's own function, at a tenth of what md5 takes: 64 bits as ubigint.

    Only one engine's, and only of one version: for comparing what it holds with what it reads back, never to be kept.
    """
    return f"hash({', '.join(quote(c.name) for c in contract.columns)})"


def row_digits(contract: Contract) -> str:
    """Spark expression of what a row adds to the hash: 64 bits as decimal(20,0)."""
    return f"cast(conv(substr(md5({row_text(contract, 'spark')}), 1, 16), 16, 10) as decimal(20,0))"


def row_digest(contract: Contract) -> str:
    """DuckDB expression of the md5 of a row's text, of which `row_number` is the first half (row_digests adds them)."""
    return f"md5({row_text(contract, 'duckdb')})"


def version_of_sum(rows: int, total: int) -> str:
    """Version of rows whose numbers (`row_digits`) were added up."""
    return version_of(rows, digits_of_sum(total))


def digits_of_sum(total: int) -> str:
    """As sum_of_numbers, of numbers that were added up elsewhere."""
    return f"{total % MODULUS:016x}"


def version_of(rows: int, hash_digits: str) -> str:
    """Version of a partition's content: row count, hash and hash scheme, e.g. 1896-00f3…-h2."""
    return f"{rows}-{hash_digits}-{SCHEME}"


def hash_of(version: str) -> str:
    """The hash in a version, 16 hex digits."""
    return version.split("-")[1]


def _pieces(column: ContractColumn) -> str:
    """As _canonical, of DuckDB, as arguments of `concat`: what is required has a value, or the audit refuses it."""
    if column.nullable:
        return _canonical(column, "duckdb")
    if column.type == "string":
        return f"strlen({quote(column.name)}), ':', {quote(column.name)}"
    return _text(column, "duckdb")


def _canonical(column: ContractColumn, dialect: Dialect) -> str:
    name = quote(column.name)
    if dialect == "spark":
        values = {
            "string": f"cast(octet_length({name}) as string) || ':' || {name}",
            "timestamptz": f"cast(unix_micros({name}) as string)",
            "date": f"cast(unix_date({name}) as string)",
        }
        return f"coalesce({values.get(column.type, f'cast({name} as string)')}, '-')"
    if column.type == "string":
        length = "strlen" if dialect == "duckdb" else "octet_length"
        return f"coalesce({length}({name})::text || ':' || {name}, '-')"
    return f"coalesce({_text(column, dialect)}, '-')"


def _text(column: ContractColumn, dialect: Dialect) -> str:
    """Of a value that is no text, in DuckDB or Postgres; null of null."""
    name = quote(column.name)
    decimal = DECIMAL.match(column.type)
    if column.type == "timestamptz":
        micros = f"epoch_us({name})" if dialect == "duckdb" else f"(extract(epoch from {name}) * 1000000)::bigint"
        return f"{micros}::text"
    if column.type == "date":
        return f"({name} - date '1970-01-01')::text"
    if decimal and decimal[1] == decimal[2]:  # DuckDB writes .05 where a decimal has no place before the point
        return f"regexp_replace({name}::text, '^(-?)[.]', '\\10.')"
    return f"{name}::text"
