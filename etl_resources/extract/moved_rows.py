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
    """Moves that touch the captured partitions (partition keys captured, files written for them)."""
    if not published.heads or table.by is None:
        return set()
    key = ", ".join(map(quote, table.source.key))
    partition = f"{table.placed_by.key()} as partition"
    index_paths = sorted(p for h in published.heads.values() for p in h.data_paths)
    index = f"select {key}, {partition} from {parquet_scan(index_paths, published.schema)}"
    rows = f"select {key}, {partition} from {parquet_scan(list(paths), published.schema)}"
    here = f"select {key}, partition from ({rows})" if paths else f"select * from ({index}) limit 0"
    moves: Moves = set(
        engine.execute(
            f"select distinct i.partition, c.partition from ({here}) c join ({index}) i using ({key}) "
            "where i.partition <> c.partition"
        ).fetchall()
    )
    vanished = engine.execute(
        f"select i.partition, {', '.join(f'i.{quote(k)}' for k in table.source.key)} from ({index}) i "
        f"anti join ({here}) c using ({key}) where list_contains(?, i.partition)",
        [list(captured)],
    )
    return moves | _now_elsewhere(snapshot, table, vanished, set(published.heads))


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
