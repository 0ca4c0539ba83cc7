"""Differences between two versions of a table, by key within each partition. Only partitions that differ are read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etl_resources.contract import Contract
from etl_resources.engines.transform import engine_error
from etl_resources.identifiers import literal, quote
from etl_resources.ledger.ledger import Ledger
from etl_resources.quality.stored_content import batches, unreadable
from etl_resources.tables.head import PartitionHead
from etl_resources.tables.schema import duckdb_type, read_schema
from etl_resources.tables.versions import Version, files_gone, version_head

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.table import Table

ADDED, REMOVED, CHANGED = "added", "removed", "changed"
_OLD, _NEW = "a__", "b__"


@dataclass
class PartitionDiff:
    """Rows of one partition by what became of them."""

    partition: str
    added: int = 0
    removed: int = 0
    changed: int = 0
    equal: int = 0


@dataclass(frozen=True)
class RowDiff:
    """One row that differs. `changes`: column → (before, after); of an added or removed row all columns."""

    partition: str
    kind: str
    key: Mapping[str, Any]
    changes: Mapping[str, tuple[Any, Any]]


@dataclass
class TableDiff:
    """What `diff` found."""

    before: Version
    after: Version
    partitions: list[PartitionDiff] = field(default_factory=list)
    rows: list[RowDiff] = field(default_factory=list)
    equal_partitions: int = 0
    """Partitions whose content version is the same in both; they were not read."""

    @property
    def differing_rows(self) -> int:
        return sum(p.added + p.removed + p.changed for p in self.partitions)


def diff_versions(
    engine: "duckdb.DuckDBPyConnection",
    ledger: Ledger,
    table: "Table",
    asset: str,
    contract: Contract,
    before: Version,
    after: Version,
    limit: int,
) -> TableDiff:
    """Counts of every partition that differs, and the first `limit` rows that do.

    Raises PermanentError when files of a version are gone.
    """
    import duckdb

    heads = [version_head(table, asset, v) for v in (before, after)]
    known = [ledger.at_epochs(asset, {p: h.epoch for p, h in some.items()}) for some in heads]
    every = sorted({p for some in heads for p in some})
    differing = [p for p in every if len({k[p].version if p in k else None for k in known}) > 1 or p not in known[0]]
    found = TableDiff(before, after, equal_partitions=len(every) - len(differing))
    columns = {f.name for f in table.schema().fields}
    names = [n for n in contract.names if n in columns]
    schema = read_schema(table.schema())
    sizes = {p: max((h[p] for h in heads if p in h), key=lambda h: h.rows) for p in differing}
    for batch in batches(sizes):
        comparison = _comparison(contract, names, schema, *({p: h[p] for p in batch if p in h} for h in heads))
        try:
            found.partitions += _counts(engine, comparison)
            if len(found.rows) < limit:
                found.rows += _rows(engine, comparison, contract, names, limit - len(found.rows))
        except duckdb.Error as e:
            if not unreadable(e):
                raise engine_error(f"Comparing versions of {asset}", e) from e
            raise files_gone(table, asset, (before, after), str(e)) from e
    return found


def diff_scans(
    engine: "duckdb.DuckDBPyConnection", contract: Contract, before: str, after: str, limit: int
) -> tuple[PartitionDiff, list[RowDiff]]:
    """The same of two table expressions that hold one partition each: counts, and the first rows that differ."""
    sides = [
        f"select {', '.join(f'{quote(n)} as {quote(mark + n)}' for n in contract.names)}, '' as partition from {scan}"
        for mark, scan in ((_OLD, before), (_NEW, after))
    ]
    comparison = _joined(contract, contract.names, *sides)
    counts = _counts(engine, comparison) or [PartitionDiff("")]
    return counts[0], list(_rows(engine, comparison, contract, contract.names, limit))


def _comparison(
    contract: Contract,
    names: Sequence[str],
    schema: str,
    before: Mapping[str, PartitionHead],
    after: Mapping[str, PartitionHead],
) -> str:
    """Query: every row of both sides, joined by key within its partition, with what became of it."""
    sides = (_side(side, contract, names, schema, heads) for side, heads in ((_OLD, before), (_NEW, after)))
    return _joined(contract, names, *sides)


def _joined(contract: Contract, names: Sequence[str], old: str, new: str) -> str:
    keys = " and ".join(f"{quote(_OLD + k)} is not distinct from {quote(_NEW + k)}" for k in contract.key)
    differs = " or ".join(f"{quote(_OLD + n)} is distinct from {quote(_NEW + n)}" for n in names)
    return (
        "select coalesce(a.partition, b.partition) as partition, "
        f"case when a.partition is null then '{ADDED}' when b.partition is null then '{REMOVED}' "
        f"when {differs} then '{CHANGED}' else 'equal' end as kind, a.* exclude (partition), b.* exclude (partition) "
        f"from ({old}) a full join ({new}) b on a.partition = b.partition and {keys}"
    )


def _side(mark: str, contract: Contract, names: Sequence[str], schema: str, heads: Mapping[str, PartitionHead]) -> str:
    columns = ", ".join(f"{quote(n)} as {quote(mark + n)}" for n in names)
    placed = [(path, p) for p, head in heads.items() for path in head.data_paths]
    if not placed:
        nulls = ", ".join(
            f"null::{duckdb_type(c.type)} as {quote(mark + c.name)}" for c in contract.columns if c.name in names
        )
        return f"select {nulls}, ''::varchar as partition limit 0"
    files = ", ".join(literal(path) for path, _ in placed)
    rows = ", ".join(f"({literal(path)}, {literal(p)})" for path, p in placed)
    return (
        f"select {columns}, etl_partition as partition "
        f"from read_parquet([{files}], schema = {schema}, filename = 'etl_file') "
        f"join (values {rows}) as etl_placed(etl_path, etl_partition) on etl_path = etl_file"
    )


def _counts(engine: "duckdb.DuckDBPyConnection", comparison: str) -> list[PartitionDiff]:
    rows = engine.execute(
        f"select partition, count(*) filter (where kind = '{ADDED}'), count(*) filter (where kind = '{REMOVED}'), "
        f"count(*) filter (where kind = '{CHANGED}'), count(*) filter (where kind = 'equal') "
        f"from ({comparison}) group by 1 order by 1"
    ).fetchall()
    return [PartitionDiff(*row) for row in rows]


def _rows(
    engine: "duckdb.DuckDBPyConnection", comparison: str, contract: Contract, names: Sequence[str], limit: int
) -> Iterator[RowDiff]:
    keys = ", ".join(f"coalesce({quote(_OLD + k)}, {quote(_NEW + k)})" for k in contract.key)
    columns = ", ".join(quote(mark + n) for mark in (_OLD, _NEW) for n in names)
    cursor = engine.execute(
        f"select partition, kind, {columns} from ({comparison}) where kind <> 'equal' "
        f"order by partition, {keys} limit {int(limit)}"
    )
    while some := cursor.fetchmany(1_000):
        for partition, kind, *values in some:
            old = dict(zip(names, values[: len(names)], strict=True))
            new = dict(zip(names, values[len(names) :], strict=True))
            key = {k: (new if kind == ADDED else old)[k] for k in contract.key}
            changed = {n: (old[n], new[n]) for n in names if n not in key and (kind != CHANGED or old[n] != new[n])}
            yield RowDiff(partition, kind, key, changed)
