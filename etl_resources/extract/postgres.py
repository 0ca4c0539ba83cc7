"""Capture of a Postgres system of record: one REPEATABLE READ snapshot for all its tables (M7).

The psycopg connection that exports the snapshot stays open; it takes fingerprints and control totals, and DuckDB
readers import the same snapshot. Everything that a capture says is therefore true of one instant.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from etl_resources.calendar import Grain, contiguous_ranges
from etl_resources.contract import Contract
from etl_resources.errors import PermanentError, RestartError
from etl_resources.extract.exported_snapshot import READER_WORK_MEM, ExportedSnapshot
from etl_resources.extract.source_query import (
    joined,
    place_of,
    select_fingerprints,
    select_partitions_of_keys,
    select_rows,
    select_unplaced,
)
from etl_resources.identifiers import quote, quote_qualified
from etl_resources.introspect import TableColumn, always_has_parent, describe_table, is_never_null
from etl_resources.ledger.connection import connect_again, typed_errors
from etl_resources.manifest_columns import Column
from etl_resources.manifest_sources import PostgresSource
from etl_resources.partition_sql import PartitionBy, Placement
from etl_resources.schema_drift import SourceColumn, SourceSchema
from etl_resources.sensitive import quoting_no_values

if TYPE_CHECKING:
    import psycopg

KEYS_PER_LOOKUP = 10_000


@dataclass(frozen=True)
class SourceTable:
    """A source with what places its rows; None: it has one partition."""

    source: PostgresSource
    """With the columns that are read, and the types that they have there."""
    by: Placement | None
    evolved: tuple[str, ...] = ()
    """Columns that no manifest declares."""
    as_text: frozenset[str] = frozenset()
    """Columns that are read as text: no manifest type is theirs, or they are judged value by value."""
    judged: frozenset[str] = frozenset()
    """Of those, the ones whose values may be rejected; rows that are not are captured."""
    sensitive: bool = False
    """Whether no error may quote its rows."""
    masked: frozenset[str] = frozenset()
    """Columns of whose values no more than the mask is captured."""
    seed: int = 0
    """Of the hashes by which rows are compared."""

    @classmethod
    def found(
        cls,
        source: PostgresSource,
        contract: Contract,
        now: Mapping[str, SourceColumn],
        judged: Collection[str] = (),
        seed: int = 0,
    ) -> "SourceTable":
        """What is captured by a contract, of the columns that the source has."""
        columns = {c.name: now[c.name] for c in contract.columns if c.name in now}
        text = {name for name, found in columns.items() if found.type is None or name in judged}
        read = {name: Column(type=found.type or "string") for name, found in columns.items()}
        return cls(
            source.model_copy(update={"columns": read}),
            Placement.of(contract),
            tuple(c.name for c in contract.columns if c.evolved and c.name in now),
            frozenset(text),
            frozenset(judged),
            contract.is_sensitive,
            frozenset(c.name for c in contract.columns if c.cover and c.cover.mode == "mask"),
            seed,
        )

    @property
    def name(self) -> str:
        return self.source.table

    @property
    def placed_by(self) -> PartitionBy:
        """What places a captured row, whose columns bear the manifest's names."""
        if self.by is None:
            return PartitionBy(None)
        kind = self.source.columns[self.by.column].type
        return PartitionBy(quote(self.by.column), kind == "timestamptz", self.by.grain)


class PostgresSnapshot:
    """One instant of a system of record."""

    def __init__(self, connection: "psycopg.Connection[Any]", dsn: str, setting: str) -> None:
        self._connection = connection
        row = connection.execute("select pg_export_snapshot(), current_setting('server_version_num')").fetchone()
        assert row is not None  # noqa: S101  (a select without from always returns a row)
        self._server = str(int(row[1]) // 10000)
        self.exported = ExportedSnapshot(dsn, row[0], setting)
        """For readers beside this connection, while it is open."""

    def fingerprints(self, table: SourceTable, partitions: Sequence[str]) -> dict[str, str]:
        """Partition → fingerprint; a partition without rows has one too.

        Raises PermanentError for infinite dates and years that no table holds, and for NaN, which would arrive as 0.
        """
        found = dict.fromkeys(partitions, f"pg{self._server}:0:0:")
        if not partitions:
            return found
        query = select_fingerprints(
            table.source, table.by, partitions, table.evolved, table.as_text, table.masked, table.seed
        )
        what = f"Observing {table.name}"
        with typed_errors(what), quoting_no_values(what, sensitive=table.sensitive):
            for partition, rows, digest, newest, foreign, columns in self._connection.execute(query.encode()):
                if foreign:
                    raise PermanentError(
                        f"{table.name}, partition {partition}: {foreign} rows have a date outside of the years 1 to "
                        f"9999, or a number that is NaN, in {columns}: no table holds them. Correct them in the source."
                    )
                found[partition] = f"pg{self._server}:{rows}:{digest}:{newest or ''}"
        return found

    def control_totals(
        self, control: str, sql: str, partitions: Sequence[str], grain: Grain
    ) -> dict[str, list[dict[str, Any]]]:
        """Partition → rows of a reconciliation query, whose first column is a day of the period to which they belong.

        Raises PermanentError for a row of another period than was asked for.
        """
        totals: dict[str, list[dict[str, Any]]] = {p: [] for p in partitions}
        for start, end in contiguous_ranges(partitions):
            with typed_errors(f"Control totals of {control}"):
                cursor = self._connection.execute(sql.encode(), {"start": start, "end": end})
                names = [c.name for c in cursor.description or ()]
                for row in cursor:
                    day = row[0].date() if isinstance(row[0], datetime) else row[0]
                    if not isinstance(day, date) or not start <= day < end:
                        raise PermanentError(
                            f"Control totals of {control}: a row has the {names[0]} {row[0]}, and was asked to be from "
                            f"%(start)s = {start} to before %(end)s = {end}. Correct the SQL."
                        )
                    told = {n: _json(v) for n, v in zip(names, row, strict=True)}
                    totals[grain.containing(day)].append(told)
        return totals

    def partitions_of(self, table: SourceTable, keys: Sequence[tuple[Any, ...]]) -> set[str]:
        """Partitions in which these keys lie now."""
        found: set[str] = set()
        query = select_partitions_of_keys(table.source, table.by)
        what = f"Looking up moved rows of {table.name}"
        with typed_errors(what), quoting_no_values(what, sensitive=table.sensitive):
            for i in range(0, len(keys), KEYS_PER_LOOKUP):
                columns = [list(c) for c in zip(*keys[i : i + KEYS_PER_LOOKUP], strict=True)]
                found |= {p for (p,) in self._connection.execute(query.encode(), columns) if p}
        return found

    def pages(self, table: SourceTable) -> int:
        """Blocks of the table's own rows; 0 where they aren't found by block: in views, and in partitioned tables."""
        query = (
            "select case when relkind in ('r', 'm') then pg_relation_size(oid) / current_setting('block_size')::int "
            "else 0 end from pg_class where oid = to_regclass(%s)"
        )
        with typed_errors(f"Reading {table.name}"):
            row = self._connection.execute(query, [quote_qualified(table.name)]).fetchone()
        return int(row[0]) if row else 0

    def columns(self, source: PostgresSource) -> SourceSchema:
        """Every column of the table, and those of its parents that it takes."""
        table = describe_table(self._connection, source.table)
        found = {c.name: _source_column(c) for c in table.columns}
        for join in source.joins:
            parent = {c.name: c for c in describe_table(self._connection, join.table).columns}
            for name, theirs in join.columns.items():
                found.pop(name, None)  # the join wins
                if theirs in parent:
                    found[name] = _source_column(parent[theirs])
        return SourceSchema(found, typed=True)

    def prove_placed(self, table: SourceTable) -> None:
        """Every row has a partition. Raises PermanentError: the others are in no window, and nothing would miss them.

        Asked of the rows only where the catalog doesn't promise it.
        """
        if table.by is None:
            return
        origin, column, join = place_of(table.source, table.by.column)
        what = f"Reading {table.name}"
        with typed_errors(what), quoting_no_values(what, sensitive=table.sensitive):
            promised = is_never_null(self._connection, origin, [column])
            if promised and join is not None:
                own = not set(join.on.values()) & set(joined(table.source))
                promised = own and always_has_parent(self._connection, table.name, origin, join.on)
            if promised:
                return
            query = select_unplaced(table.source, table.by.column)
            rows, first = self._connection.execute(query.encode()).fetchone() or (0, "")
        if rows:
            parent = f", or no parent in {origin}" if join else ""
            raise PermanentError(
                f"{table.name}: {rows} rows have no {table.by.column}{parent}, the first is {first}. They are "
                "in no partition and would never be captured. Correct them in the source, or leave them out by a view."
            )

    def prove_types(self, table: SourceTable) -> None:
        """The rows that will be read have the types that were found. Raises PermanentError naming each that differs.

        numeric without precision would arrive as a double: money must not.
        """
        query = select_rows(table.source, table.by, [], table.as_text)
        what = f"Reading {table.name}"
        with typed_errors(what), quoting_no_values(what, sensitive=table.sensitive):
            description = self._connection.execute(f"{query} limit 0".encode()).description or ()
        wrong = [
            f"{c.name} is {_type_text(c)} and was {found}"
            for c in description
            if c.name not in table.as_text and not _same_type(c, found := table.source.columns[c.name].type or "")
        ]
        if wrong:
            raise RestartError(f"{table.name} was altered while it was looked at: {'; '.join(wrong)}. Run again.")


@contextmanager
def open_source(dsn: str, *, setting: str, timeout_s: int) -> Iterator["psycopg.Connection[Any]"]:
    """A read-only connection to a system of record."""
    options = f"-c default_transaction_read_only=on -c work_mem={READER_WORK_MEM} -c timezone=UTC"
    connection = connect_again(dsn, setting=setting, timeout_s=timeout_s, options=options)
    with connection:
        yield connection


@contextmanager
def snapshot_of(connection: "psycopg.Connection[Any]", dsn: str, setting: str) -> Iterator[PostgresSnapshot]:
    """Take the snapshot now; it lasts until the context ends."""
    import psycopg

    with typed_errors(f"Capturing {setting}"):
        connection.execute("begin isolation level repeatable read read only")
        snapshot = PostgresSnapshot(connection, dsn, setting)
    try:
        yield snapshot
    finally:
        with suppress(psycopg.OperationalError):  # the session is lost, which whoever read in it has met
            if not connection.closed:
                connection.execute("rollback")


def _source_column(column: TableColumn) -> SourceColumn:
    shown = column.type or column.postgres_type  # varchar(20) is string: a longer one is no other type
    if column.type is None and column.postgres_type == "numeric":
        shown = "numeric without precision"
    return SourceColumn(shown, column.type)


def _json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, date) else value


def _type_text(column: "psycopg.Column") -> str:
    if column.type_display.startswith("numeric") and column.precision is None:
        return "numeric without precision"
    return column.type_display


_SAME = {
    "bigint": {"int8"},
    "int": {"int4", "int2"},
    "string": {"text", "varchar", "bpchar", "name", "char"},
    "date": {"date"},
    "timestamptz": {"timestamptz"},
    "boolean": {"bool"},
}


def _same_type(column: "psycopg.Column", declared: str) -> bool:
    import psycopg

    info = psycopg.adapters.types.get(column.type_code)
    name = info.name if info else ""
    if declared.startswith("decimal"):
        return name == "numeric" and declared == f"decimal({column.precision},{column.scale})"
    return name in _SAME.get(declared, set())
