"""DDL of the Postgres sink: target tables from contracts, the commit table, the staging schema."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from etl_resources.contract import Contract, ContractColumn
from etl_resources.errors import PermanentError
from etl_resources.identifiers import literal, quote, quote_qualified
from etl_resources.partition_sql import PartitionBy
from etl_resources.tables.schema import postgres_type

if TYPE_CHECKING:
    import psycopg

STAGING_SCHEMA = "etl_staging"
COMMITS = "etl_serving.commits"
STAGING_TABLES = f"""
select relname from pg_class
where relnamespace = to_regnamespace('{STAGING_SCHEMA}') and relkind in ('r', 'p') and not relispartition"""
"""Staging tables without their parts, which are dropped with them."""
PARTITION_COLUMN = "etl_partition"
_DDL_LOCK = 7_201_536_002

_COMMIT_TABLE = f"""
create schema if not exists {STAGING_SCHEMA};
create schema if not exists etl_serving;
create table if not exists {COMMITS} (
    target       text not null,
    partition    text not null,
    epoch        bigint not null default 0,
    token        text not null default '',
    version      text not null default '',
    rows         bigint not null default 0,
    attempt      text not null default '',
    run_id       text not null default '',
    published_at timestamptz not null default now(),
    evidence     jsonb,
    primary key (target, partition)
)"""
_ADD_EVIDENCE = f"""
do $$ begin
    if not exists (select from pg_attribute where attrelid = '{COMMITS}'::regclass and attname = 'evidence') then
        alter table {COMMITS} add column evidence jsonb;
    end if;
end $$"""
"""For commit tables from before evidence was kept. The look spares the lock that an unneeded `alter` would take."""


def ensure_target(connection: "psycopg.Connection[Any]", target: str, contract: Contract, key: Sequence[str]) -> None:
    """Create what is missing; rename, add and widen columns; let those be empty that the contract doesn't require.

    Raises PermanentError when the key differs, or a column's type in another way than that it becomes wider.
    """
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%s)", (_DDL_LOCK,))
        connection.execute(_COMMIT_TABLE.encode())
        connection.execute(_ADD_EVIDENCE.encode())
        connection.execute(f"create schema if not exists {quote(target.partition('.')[0])}")
        found = _columns(connection, target)
        if not found:
            connection.execute(f"delete from {COMMITS} where target = %s", (target,))  # of a table that was dropped
            _create(connection, target, contract, key)
            return
        for c in contract.columns:
            if c.renamed_from in found and c.name not in found:
                renamed = f"rename column {quote(c.renamed_from)} to {quote(c.name)}"
                connection.execute(f"alter table {quote_qualified(target)} {renamed}")
                found[c.name] = found.pop(c.renamed_from)
        _prove_key(connection, target, key)
        for c in contract.columns:
            kind = found.get(c.name)
            if kind is None:
                connection.execute(f"alter table {quote_qualified(target)} add column {quote(c.name)} {_type(c.type)}")
            elif kind != postgres_type(c.type):
                _widen(connection, target, c, kind)
        for name in _required(connection, target) - {c.name for c in contract.columns if not c.nullable}:
            connection.execute(f"alter table {quote_qualified(target)} alter column {quote(name)} drop not null")


def forget_former(connection: "psycopg.Connection[Any]", target: str, contract: Contract) -> None:
    """Forget commit rows of partitions of another kind, which the target had before: their rows are, or will be,
    replaced by those of the same days, and no run would ever write these partitions again."""
    found = connection.execute(f"select partition from {COMMITS} where target = %s", (target,)).fetchall()
    former = [partition for (partition,) in found if not contract.has_partition(partition)]
    if former:
        rows = (target, former)
        connection.execute(f"delete from {COMMITS} where target = %s and partition = any(%s)", rows)


def _widen(connection: "psycopg.Connection[Any]", target: str, column: ContractColumn, kind: str) -> None:
    """Give a column a type that holds all its values with the same text: what is served stays what was published.

    Raises PermanentError where it isn't wider, or where Postgres refuses because something depends on the column.
    """
    import psycopg

    wanted = postgres_type(column.type)
    differs = f"Serving table {target}: column {column.name} is {kind} and the manifest says {column.type}"
    if not _is_wider(kind, wanted):
        raise PermanentError(f"{differs}. Alter or drop the table, then materialize again.")
    try:
        connection.execute(f"alter table {quote_qualified(target)} alter column {quote(column.name)} type {wanted}")
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.DependentObjectsStillExist) as e:
        why = "; ".join(filter(None, (e.diag.message_primary, e.diag.message_detail)))
        raise PermanentError(f"{differs}. It can't be widened: {why}. Drop that, then materialize again.") from e


def _is_wider(kind: str, wanted: str) -> bool:
    """Whether every value of a type is one of the other, with the same text."""
    before, after = (re.fullmatch(r"numeric\((\d+),(\d+)\)", t) for t in (kind, wanted))
    if before and after:
        return before[2] == after[2] and int(before[1]) <= int(after[1])
    if wanted == "bigint":
        return kind in ("smallint", "integer")
    return wanted == "text" and kind.startswith("character varying")


def create_staging(table: str, contract: Contract) -> bytes:
    """DDL of an attempt's staging table. It may be lost in a crash of the server, as its parts are emptied by one."""
    return (
        f"set local synchronous_commit = off; create table {table} ({PARTITION_COLUMN} text, {_typed(contract)}) "
        f"partition by list ({PARTITION_COLUMN})"
    ).encode()


def create_part(part: str, partition: str, contract: Contract) -> bytes:
    """DDL of a partition's part, which isn't attached yet; one from a try before is dropped."""
    return (
        f"set local synchronous_commit = off; drop table if exists {part}; "
        f"create unlogged table {part} ({PARTITION_COLUMN} text default {literal(partition)}, {_typed(contract)}) "
        "with (autovacuum_enabled = off)"
    ).encode()


def distinct_rows(table: str, key: Sequence[str]) -> str:
    """SQL: how many rows of a table differ in their key, null as a value, by the way that is faster in Postgres."""
    if len(key) == 1:
        return f"count(distinct {quote(key[0])}) + (count({quote(key[0])}) < count(*))::int"
    return f"(select count(*) from (select distinct {', '.join(map(quote, key))} from {table}) as keys)"


def served_rows(
    connection: "psycopg.Connection[Any]", target: str, contract: Contract, partitions: Sequence[str]
) -> dict[str, int]:
    """Partition → rows that a target holds of it; of those that have any."""
    by = PartitionBy.of(contract)
    days = (
        f"select {by.column or 'null'} as day, count(*) as rows from {quote_qualified(target)} "
        f"where {by.keep(partitions)} group by 1"
    )
    key = replace(by, column=by.column and "day").key("postgres")  # of each day, not of each row: to_char is slow
    query = f"select {key}, sum(rows)::bigint from ({days}) as days group by 1"
    return dict(connection.execute(query.encode()).fetchall())


def _typed(contract: Contract) -> str:
    return ", ".join(f"{quote(c.name)} {postgres_type(c.type)}" for c in contract.columns)


def _prove_key(connection: "psycopg.Connection[Any]", target: str, key: Sequence[str]) -> None:
    """The table's primary key is the target's key. Raises PermanentError."""
    rows = connection.execute(
        "select attname from pg_index join pg_attribute on attrelid = indrelid and attnum = any(indkey) "
        "where indrelid = to_regclass(%s) and indisprimary order by array_position(indkey::int2[], attnum)",
        (quote_qualified(target),),
    ).fetchall()
    found = [name for (name,) in rows]
    if set(found) != set(key):
        is_now = f"is ({', '.join(found)})" if found else "is missing"
        raise PermanentError(
            f"Serving table {target}: its primary key {is_now} and the manifest says ({', '.join(key)}). "
            "Drop the table, then materialize all its partitions again; or alter its primary key."
        )


def _required(connection: "psycopg.Connection[Any]", target: str) -> set[str]:
    """Columns outside the primary key that refuse null and have no default."""
    rows = connection.execute(
        "select attname from pg_attribute a left join pg_index i on indrelid = attrelid and indisprimary "
        "where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped and attnotnull and not atthasdef "
        "and attidentity = '' and coalesce(attnum <> all (indkey), true)",
        (quote_qualified(target),),
    ).fetchall()
    return {name for (name,) in rows}


def _create(connection: "psycopg.Connection[Any]", target: str, contract: Contract, key: Sequence[str]) -> None:
    columns = ", ".join(f"{quote(c.name)} {_type(c.type)}{'' if c.nullable else ' not null'}" for c in contract.columns)
    connection.execute(
        f"create table {quote_qualified(target)} ({columns}, primary key ({', '.join(map(quote, key))}))"
    )
    name = target.partition(".")[2]
    by = contract.partition_column
    connection.execute(
        f"create index on {quote_qualified(target)} ({quote(by)})"
        if by is not None and by != key[0]
        else f"comment on table {quote_qualified(target)} is {_text(f'Served by data-pipeline: {name}')}"
    )


def _columns(connection: "psycopg.Connection[Any]", target: str) -> dict[str, str]:
    rows = connection.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped",
        (quote_qualified(target),),
    ).fetchall()
    return dict(rows)


def _type(column_type: str) -> str:
    return postgres_type(column_type)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
