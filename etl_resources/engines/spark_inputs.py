"""What a transform reads, as Spark reads it: tables at their pinned snapshots, what is looked up, its period."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etl_resources.contract import Contract
from etl_resources.conventions import META_RUN_ID
from etl_resources.engines.spark_sql import spark_columns, spark_condition, spark_literal, spark_type
from etl_resources.identifiers import quote
from etl_resources.lookups import FOUND, LookupTable, ReferenceTable
from etl_resources.partition_sql import PartitionBy
from etl_resources.tables.address import TableAddress
from etl_resources.tables.catalog import CATALOG_NAME

if TYPE_CHECKING:
    from pyiceberg.table import Table


@dataclass(frozen=True)
class SparkRelation:
    """A relation of a transform. columns: name → manifest type."""

    query: str
    columns: Mapping[str, str]
    contract: Contract | None = None
    """Of a lookup's relation, whose version is proved."""
    version: str | None = None
    """The version that was planned with."""


def relation_columns(contract: Contract, *, with_run_id: bool = False) -> dict[str, str]:
    """Column → manifest type, of what a table gives to a transform."""
    return {c.name: c.type for c in contract.columns} | ({META_RUN_ID: "string"} if with_run_id else {})


def no_rows(columns: Mapping[str, str]) -> str:
    """Query: columns without a row."""
    items = ", ".join(f"cast(null as {spark_type(kind)}) as {quote(name)}" for name, kind in columns.items())
    return f"select {items} from range(0)"


def given_rows(rows: Collection[tuple[object, ...]], columns: Mapping[str, str]) -> str:
    """Query: rows that are known here, such as the days of the calendar, with these columns."""
    values = ", ".join(f"({', '.join(map(_value, row))})" for row in rows)
    return f"select {spark_columns(columns)} from values {values} as given({', '.join(map(quote, columns))})"


def _value(value: object) -> str:
    return "null" if value is None else spark_literal(str(value))


def scan(address: TableAddress, table: "Table", snapshot_id: int, partitions: Collection[str]) -> str:
    """Query: the rows of these partitions of a table at a snapshot, by its columns of today."""
    columns = relation_columns(address.contract, with_run_id=address.with_run_id)
    by, name = PartitionBy.of(address.contract), address.contract.partition_column
    kept = by.keep(partitions)
    given = _names_then(table, snapshot_id)
    if name is not None:
        kept = spark_condition(kept, {name: columns[name]}, f"{address.asset}: its partitions")
    place = ".".join((CATALOG_NAME, *(quote(part) for part in address.identifier.split("."))))
    return (
        f"select * from (select {spark_columns(columns, given)} from {place} version as of {snapshot_id}) where {kept}"
    )


def _names_then(table: "Table", snapshot_id: int) -> dict[str, str | None]:
    """Column of today → its name in the snapshot's schema, by which Spark reads it; None: it didn't exist."""
    snapshot = table.snapshot_by_id(snapshot_id)
    schemas = table.schemas()
    then = schemas.get(snapshot.schema_id) if snapshot is not None and snapshot.schema_id is not None else None
    names = {f.field_id: f.name for f in (then or table.schema()).fields}
    return {f.name: names.get(f.field_id) for f in table.schema().fields}


def lookup(table: LookupTable, source: str, looked_up: str) -> str:
    """Query: the relation of a lookup, from the queries of its two tables; as LookupTable.relation."""
    keys = [*table.on, *([table.as_of[0]] if table.as_of else [])]
    wanted = ", ".join(f"{quote(k)} as {_key(i)}" for i, k in enumerate(keys))
    known = " and ".join(f"{quote(k)} is not null" for k in keys)
    shown = ", ".join(f"{_key(i)} as {quote(k)}" for i, k in enumerate(keys))
    asked = f"(select distinct {wanted} from ({source}) where {known}) as k"  # no WITH: a cached one isn't found again
    equal = " and ".join(f"k.{_key(i)} = f.{quote(b)}" for i, b in enumerate(table.on.values()))
    if isinstance(table, ReferenceTable):
        used = ", ".join(dict.fromkeys(map(quote, table.on.values())))
        first = quote(next(iter(table.on.values())))
        return (
            f"select {shown}, f.{first} is not null as {FOUND} "
            f"from {asked} left join (select distinct {used} from ({looked_up})) as f on {equal}"
        )
    found = _taken(table)
    if table.as_of is None:
        newest, per = f"f.{quote(table.latest_by or '')}", ", ".join(_key(i) for i, _ in enumerate(keys))
        hit = None
    else:
        day, newest = f"k.{_key(len(keys) - 1)}", f"f.{quote(table.as_of[1])}"
        equal, per = f"{equal} and {day} >= {newest}", ", ".join(_key(i) for i, _ in enumerate(keys))
        hit = f"{newest} >= {day} - interval '{table.days_back}' day" if table.days_back is not None else None
    given = ", ".join(
        f"case when {hit} then f.{quote(c)} end as {quote(c)}" if hit else f"f.{quote(c)} as {quote(c)}" for c in found
    )
    names = ", ".join(map(quote, found))
    return (
        f"select {shown}, {names} from (select k.*, {given}, "
        f"row_number() over (partition by {per} order by {newest} desc nulls last) as _n "
        f"from {asked} left join ({looked_up}) as f on {equal}) where _n = 1"
    )


def _taken(table: LookupTable) -> Sequence[str]:
    order = table.as_of[1] if table.as_of else table.latest_by
    return tuple(dict.fromkeys((*table.columns, *([order] if order else []))))


def _key(i: int) -> str:
    return f"_k{i}"
