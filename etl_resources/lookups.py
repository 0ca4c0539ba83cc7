"""Lookups: inputs of which a partition uses only the rows that it looks up, and the version of exactly those.

The version is the content hash of the relation that the transform reads: one row per key, nulls where nothing was
found. So a change of a column or of a row that nobody looked up is no change, and a row for a missed key is one.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from etl_resources.contract import Contract, ContractColumn
from etl_resources.identifiers import quote
from etl_resources.manifest_tables import Lookup, Reference
from etl_resources.quality.content_hash import SCHEME, content_hash, version_of

if TYPE_CHECKING:
    import duckdb

SCHEMA = "lookup"
"""Schema of the relations in SQL: silver.customers is looked up as lookup.customers."""
_UNTIL = "_until"
"""Column of what is looked up as of a day: when the next row of its key begins."""
FOUND = "found"
"""Column of a reference's relation: whether the key is there."""


@dataclass(frozen=True)
class LookupTable:
    """What is looked up, where and how, resolved against the contracts of both tables."""

    asset: str
    """Table in which rows are found, e.g. silver.customers."""
    source: str
    """Input whose rows look up, e.g. silver.sales_orders."""
    on: Mapping[str, str]
    """The source's column: the column that it equals."""
    as_of: tuple[str, str] | None
    """The source's column, and the column whose newest value at or before it is taken."""
    latest_by: str | None
    """Column whose newest value is taken, whatever the source's row."""
    days_back: int | None
    columns: tuple[str, ...]
    """Columns that are taken beside the one that orders."""
    contract: Contract
    """Of the relation: the source's columns (its key), then what was found."""
    definition: str
    """Digest of all that decides the relation beside the content of the two tables."""

    @property
    def name(self) -> str:
        """In SQL, e.g. lookup.customers."""
        return relation_name(self.asset)

    @property
    def missed(self) -> str:
        """SQL that is true of a key of the relation that found nothing."""
        return " and ".join(f"{quote(c)} is null" for c in self._found)

    def relation(self, source: str, looked_up: str) -> str:
        """DuckDB table expression of the relation, from those of the two tables. A key with a null finds nothing."""
        keys = [*self.on, *([self.as_of[0]] if self.as_of else [])]
        wanted = ", ".join(map(quote, keys))
        known = " and ".join(f"{quote(k)} is not null" for k in keys)
        condition = " and ".join(f"k.{quote(a)} = f.{quote(b)}" for a, b in self.on.items())
        hit = None
        if self.as_of is not None:
            day, found = f"k.{quote(self.as_of[0])}", f"f.{quote(self.as_of[1])}"
            condition = f"{condition} and {day} >= {found} and {day} < f.{_UNTIL}"
            if self.days_back is not None:
                hit = f"{found} >= {day} - interval ({self.days_back}) day"
        given = ", ".join(
            f"case when {hit} then f.{quote(c)} end as {quote(c)}" if hit else f"f.{quote(c)}" for c in self._found
        )
        return (
            f"(select {', '.join(f'k.{quote(k)}' for k in keys)}, {given} "
            f"from (select distinct {wanted} from {source} where {known}) as k "
            f"left join ({self._candidates(source, looked_up)}) as f on {condition})"
        )

    def version(self, engine: "duckdb.DuckDBPyConnection", source: str, looked_up: str) -> str:
        """Version of the relation: its number of keys and its content hash."""
        row = engine.execute(
            f"select count(*), {content_hash(self.contract, 'duckdb')} from {self.relation(source, looked_up)}"
        ).fetchone()
        assert row is not None  # noqa: S101  (an aggregate without group by always returns a row)
        return version_of(int(row[0]), row[1])

    @property
    def _found(self) -> tuple[str, ...]:
        order = self.as_of[1] if self.as_of else self.latest_by
        return tuple(dict.fromkeys((*self.columns, *([order] if order else []))))

    def _candidates(self, source: str, looked_up: str) -> str:
        """Rows that any key could find, far less than a whole table of customers; with as_of, each with _UNTIL.

        That and an ordinary join take a tenth of an asof join by a key of many values.
        """
        used = ", ".join(f"t.{quote(c)}" for c in dict.fromkeys((*self.on.values(), *self._found)))
        equal = " and ".join(f"t.{quote(b)} = s.{quote(a)}" for a, b in self.on.items())
        place = f"from {looked_up} as t semi join {source} as s on {equal}"
        key = ", ".join(f"t.{quote(c)}" for c in self.on.values())
        if self.as_of is not None:
            begins = f"t.{quote(self.as_of[1])}"
            until = f"coalesce(lead({begins}) over (partition by {key} order by {begins}), 'infinity') as {_UNTIL}"
            return f"select {used}, {until} {place} where {begins} is not null"
        if self.latest_by is None:
            return f"select {used} {place}"
        newest = f"t.{quote(self.latest_by)} desc nulls last"
        return f"select {used} {place} qualify row_number() over (partition by {key} order by {newest}) = 1"


@dataclass(frozen=True)
class ReferenceTable(LookupTable):
    """A lookup of keys alone: whether there is any row with such a key, in column FOUND."""

    @property
    def missed(self) -> str:
        """SQL that is true of a key that is nowhere."""
        return f"not {FOUND}"

    def relation(self, source: str, looked_up: str) -> str:
        """DuckDB table expression, one row per key of the source: a row that comes or goes decides only its keys."""
        keys, known = ", ".join(map(quote, self.on)), " and ".join(f"{quote(k)} is not null" for k in self.on)
        equal = " and ".join(f"k.{quote(a)} = f.{quote(b)}" for a, b in self.on.items())
        return (
            f"(select k.*, f.{quote(next(iter(self.on.values())))} is not null as {FOUND} "
            f"from (select distinct {keys} from {source} where {known}) as k "
            f"left join (select distinct * from ({self._candidates(source, looked_up)})) as f on {equal})"
        )


def relation_name(asset: str) -> str:
    """silver.customers → lookup.customers."""
    return f"{SCHEMA}.{asset.partition('.')[2]}"


def lookup_table(asset: str, lookup: Lookup, source: Contract, looked_up: Contract) -> LookupTable:
    """A lookup of a manifest with the contracts of the two tables; columns that they don't have are left out."""
    as_of = next(iter(lookup.as_of.items())) if lookup.as_of else None
    order = as_of[1] if as_of else lookup.latest_by
    keys = [*lookup.on, *([as_of[0]] if as_of else [])]
    found = dict.fromkeys((*lookup.columns, *([order] if order else [])))
    columns = [*_columns(source, keys), *_columns(looked_up, found)]
    contract = Contract(tuple(columns), tuple(keys), None)
    return LookupTable(
        asset,
        lookup.from_,
        lookup.on,
        as_of,
        lookup.latest_by,
        lookup.days_back,
        lookup.columns,
        contract,
        _digest(asset, lookup, source, looked_up),
    )


def reference_table(
    asset: str, source: str, reference: Reference, held: Contract, referred: Contract
) -> ReferenceTable:
    """A reference of a manifest with the contracts of the input that holds the keys and of the table that has them."""
    columns = (*_columns(held, reference.on), ContractColumn(FOUND, "boolean"))
    identity = [SCHEME, "reference", asset, source, reference.on, _names(held, referred)]
    contract = Contract(columns, tuple(reference.on), None)
    return ReferenceTable(asset, source, reference.on, None, None, None, (), contract, _sha(identity))


def _columns(contract: Contract, names: Any) -> list[ContractColumn]:
    known = {c.name: c for c in contract.columns}
    return [replace(known[n], nullable=True, rules=(), reason=None) for n in names if n in known]


def _digest(asset: str, lookup: Lookup, *contracts: Contract) -> str:
    """Content versions say nothing of types: both contracts are part."""
    return _sha([SCHEME, asset, lookup.model_dump(mode="json"), _names(*contracts)])


def _names(*contracts: Contract) -> list[list[tuple[str, str]]]:
    return [[(c.name, c.type) for c in contract.columns] for contract in contracts]


def _sha(identity: list[Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
