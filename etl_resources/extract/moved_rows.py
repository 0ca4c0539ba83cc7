"""Rows that moved between partitions, or vanished: the published table's own keys are the key → partition index.

A capture of May that holds an order published in March must republish March too; an order that vanished from March
may lie in April now. Without this a moved row is counted twice, or never.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from etl_resources.extract.postgres import PostgresSnapshot, SourceTable
from etl_resources.identifiers import quote
from etl_resources.tables.input_tables import PinnedTable, parquet_scan

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.manifest import DataFile

Moves = set[tuple[str, str]]
"""(published in, captured in) pairs of partitions that exchanged a row."""


def find_moves(
    engine: "duckdb.DuckDBPyConnection",
    snapshot: PostgresSnapshot,
    table: SourceTable,
    published: PinnedTable,
    captured: Sequence[str],
    paths: Sequence[str],
) -> Moves:
    """Moves that touch the captured partitions (partition keys captured, files written for them).

    Only keys that their partition didn't hold before can have come from another one: for these the other partitions
    are read, of which files and row groups without such a key are skipped. Without one nothing of them is. A file whose
    bounds in the table's manifests exclude all of these keys isn't even opened: new orders have new numbers, and cost
    the same however many partitions there are.
    """
    everywhere = [p for head in published.heads.values() for p in head.data_paths]
    if not everywhere or table.by is None:
        return set()
    key = ", ".join(map(quote, table.source.key))

    def keys(files: Sequence[str]) -> str:
        scan = parquet_scan(sorted(files or everywhere[:1]), published.schema)
        return f"select {key}, {table.placed_by.key()} as partition from {scan}" + ("" if files else " where false")

    before = [p for c in captured if c in published.heads for p in published.heads[c].data_paths]
    engine.execute(
        f"create or replace temp table came as from ({keys(paths)}) c anti join ({keys(before)}) b "
        f"using ({key}, partition)"
    )
    moves: Moves = set()
    if held := _may_hold(published, table, engine):
        moves |= set(
            engine.execute(
                f"select distinct i.partition, c.partition from came c join ({keys(held)}) i using ({key}) "
                "where i.partition <> c.partition"
            ).fetchall()
        )
    vanished = engine.execute(
        f"select b.partition, {', '.join(f'b.{quote(k)}' for k in table.source.key)} from ({keys(before)}) b "
        f"anti join ({keys(paths)}) c using ({key}) where list_contains(?, b.partition)",
        [list(captured)],
    )
    return moves | _now_elsewhere(snapshot, table, vanished, set(published.heads))


def _may_hold(published: PinnedTable, table: SourceTable, engine: "duckdb.DuckDBPyConnection") -> list[str]:
    """Published files with rows that may hold a key in `came`: by the bounds of its columns that are whole numbers."""
    from pyiceberg.types import IntegerType, LongType

    schema = published.table.schema() if published.table is not None else None
    fields = [schema.find_field(k) for k in table.source.key] if schema is not None else []
    fields = [f for f in fields if isinstance(f.field_type, IntegerType | LongType)]  # bounds of text are cut off
    asked = ["count(*)", *(f"{of}({quote(f.name)})" for f in fields for of in ("min", "max"))]
    found = engine.execute(f"select {', '.join(asked)} from came").fetchone()
    rows, *bounds = found or (0,)
    ranges = {f.field_id: (bounds[2 * i], bounds[2 * i + 1]) for i, f in enumerate(fields)}

    def excluded(file: "DataFile") -> bool:
        for field_id, (least, most) in ranges.items():
            low, high = (file.lower_bounds or {}).get(field_id), (file.upper_bounds or {}).get(field_id)
            if low is not None and high is not None and (_number(low) > most or _number(high) < least):
                return True
        return False

    files = [f for h in published.heads.values() for f in h.files if rows and f.record_count]
    return [f.file_path for f in files if not excluded(f)]


def _number(bound: bytes) -> int:
    """Iceberg's form of a whole number, of 4 bytes in files of before a column was widened."""
    return int.from_bytes(bound, "little", signed=True)


def _now_elsewhere(
    snapshot: PostgresSnapshot,
    table: SourceTable,
    vanished: "duckdb.DuckDBPyConnection",
    published: set[str],
) -> Moves:
    """Where rows that left their partition are in the snapshot; deleted ones are nowhere."""
    moves: Moves = set()
    while batch := vanished.fetchmany(10_000):
        by_partition: dict[str, list[tuple[object, ...]]] = {}
        for partition, *key in batch:
            by_partition.setdefault(partition, []).append(tuple(key))
        for partition, keys in by_partition.items():
            now = snapshot.partitions_of(table, keys) & published
            moves |= {(partition, other) for other in now if other != partition}
    return moves


def links(moves: Iterable[tuple[str, str]]) -> Mapping[str, tuple[str, ...]]:
    """Partition → the partitions that must be published together with it (connected by moves), sorted."""
    groups: dict[str, set[str]] = {}
    for old, new in moves:
        merged = groups.get(old, {old}) | groups.get(new, {new})
        groups.update(dict.fromkeys(merged, merged))
    return {p: tuple(sorted(group - {p})) for p, group in groups.items()}
