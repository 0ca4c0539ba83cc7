"""A Postgres table as its catalog knows it: columns with manifest types, key, comments. Reads no rows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_resources.errors import PermanentError
from etl_resources.identifiers import quote_qualified
from etl_resources.ledger.connection import typed_errors
from etl_resources.suggest import hint

if TYPE_CHECKING:
    import psycopg

_TYPES = {
    "bigint": "bigint",
    "integer": "int",
    "smallint": "int",
    "text": "string",
    "character varying": "string",
    "character": "string",
    "date": "date",
    "timestamp with time zone": "timestamptz",
    "boolean": "boolean",
    "name": "string",
    '"char"': "string",
}
_REASONS = {
    "numeric": "numeric without precision may hold anything: give it one, or cast in a view",
    "timestamp without time zone": "no point in time: cast in a view with AT TIME ZONE",
}
_NUMERIC = re.compile(r"^numeric\((\d+),(-?\d+)\)$")
_LENGTH = re.compile(r"\(\d+\)")
_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
MAX_PRECISION = 38

_COLUMNS = """
select a.attname,
       format_type(coalesce(nullif(t.typbasetype, 0), a.atttypid),
                   case when t.typtype = 'd' then t.typtypmod else a.atttypmod end),
       not (a.attnotnull or t.typnotnull),
       col_description(c.oid, a.attnum),
       obj_description(c.oid, 'pg_class')
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_catalog.pg_type t on t.oid = a.atttypid
where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'p', 'v', 'm', 'f')
order by a.attnum
"""
_PRIMARY_KEY = """
select a.attname
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid = i.indrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
cross join unnest(i.indkey) with ordinality as k (attnum, place)
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
where n.nspname = %s and c.relname = %s and i.indisprimary
order by k.place
"""
_TABLES = """
select n.nspname || '.' || c.relname
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname !~ '^(pg_|information_schema$)'
order by 1
limit 200
"""
_NEVER_NULL = """
select count(*) = cardinality(%s::text[])
from pg_catalog.pg_attribute where attrelid = to_regclass(%s) and attname = any(%s) and attnotnull and not attisdropped
"""
_REFERS = """
select exists (
    select from pg_catalog.pg_constraint c
    where c.contype = 'f' and c.convalidated and c.conrelid = to_regclass(%s) and c.confrelid = to_regclass(%s)
      and %s::text[] = (
        select array_agg(p.attname || '=' || o.attname order by p.attname collate "C")
        from unnest(c.confkey, c.conkey) k (parent, own)
        join pg_catalog.pg_attribute p on p.attrelid = c.confrelid and p.attnum = k.parent
        join pg_catalog.pg_attribute o on o.attrelid = c.conrelid and o.attnum = k.own)
)
"""


@dataclass(frozen=True)
class TableColumn:
    """One column; `type` is a manifest type, None where there is none, for the reason given."""

    name: str
    postgres_type: str
    type: str | None
    reason: str | None
    nullable: bool
    description: str | None


@dataclass(frozen=True)
class TableDescription:
    """One table; `primary_key` is () where it has none, as views do."""

    name: str
    description: str | None
    columns: tuple[TableColumn, ...]
    primary_key: tuple[str, ...]


def describe_table(connection: "psycopg.Connection[Any]", table: str) -> TableDescription:
    """A table, view or foreign table. Raises PermanentError naming the tables there when it doesn't exist."""
    place = tuple(table.split(".", 1))
    with typed_errors(f"Reading the catalog for {table}"), connection.transaction():
        connection.execute("set transaction read only")
        rows = connection.execute(_COLUMNS, place).fetchall()
        if not rows:
            known = [name for (name,) in connection.execute(_TABLES)]
            raise PermanentError(f"Table {table} doesn't exist there; {hint(table, known)}.")
        key = tuple(name for (name,) in connection.execute(_PRIMARY_KEY, place))
    columns = tuple(_column(name, kind, nullable, comment) for name, kind, nullable, comment, _ in rows)
    return TableDescription(table, rows[0][4], columns, key)


def is_never_null(connection: "psycopg.Connection[Any]", table: str, columns: Sequence[str]) -> bool:
    """Whether the catalog promises it of all these columns. Of a view it promises nothing."""
    names = list(columns)
    row = connection.execute(_NEVER_NULL, (names, quote_qualified(table), names)).fetchone()
    return bool(row and row[0])


def always_has_parent(connection: "psycopg.Connection[Any]", table: str, parent: str, on: Mapping[str, str]) -> bool:
    """Whether a foreign key promises that each row finds its parent. on: parent's column → the row's column."""
    pairs = [f"{theirs}={ours}" for theirs, ours in sorted(on.items())]
    row = connection.execute(_REFERS, (quote_qualified(table), quote_qualified(parent), pairs)).fetchone()
    return bool(row and row[0]) and is_never_null(connection, table, list(on.values()))


def _column(name: str, postgres_type: str, nullable: bool, description: str | None) -> TableColumn:
    type_, reason = manifest_type(postgres_type)
    if not _NAME.match(name):
        type_, reason = None, "a name here has lower case letters, digits and _: rename it in a view"
    return TableColumn(name, postgres_type, type_, reason, nullable, description)


def manifest_type(postgres_type: str) -> tuple[str | None, str | None]:
    """(manifest type, None), or (None, why there is none), of a type as format_type prints it."""
    plain = _LENGTH.sub("", postgres_type)
    if plain in _TYPES:
        return _TYPES[plain], None
    numeric = _NUMERIC.match(postgres_type)
    if numeric and int(numeric[1]) <= MAX_PRECISION and 0 <= int(numeric[2]) <= int(numeric[1]):
        return f"decimal({numeric[1]},{numeric[2]})", None
    if numeric:
        return None, f"precision is at most {MAX_PRECISION}, scale between 0 and precision: cast in a view"
    return None, _REASONS.get(plain, "no type here holds it: cast in a view, e.g. to text")
