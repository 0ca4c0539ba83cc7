"""Rows of a captured table whose values no longer fit a column: kept as dead letters, while the others are captured."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from etl_assets.graph.bronze_table import BronzeTable
from etl_resources.dead_letters.writing import Letters
from etl_resources.engines.transform import JUDGED
from etl_resources.extract.capture import judge_rejected
from etl_resources.extract.exported_snapshot import ExportedSnapshot

if TYPE_CHECKING:
    import duckdb


def reject_misfits(
    engine: "duckdb.DuckDBPyConnection",
    snapshot: ExportedSnapshot,
    table: BronzeTable,
    letters: Letters,
    written: "dict[str, int]",
    partitions: Sequence[str],
    epoch: int,
) -> None:
    """Keep what isn't among the rows written (partition → rows) of each partition, and count it in the table."""
    for partition in partitions if table.source.judged else ():
        if table.source_rows(partition) != written.get(partition, 0):
            keep = partial(_keep, table, letters, partition, epoch)
            judge_rejected(engine, snapshot, table.source, table.address, partition, keep, key=table.key)
    letters.commit()


def _keep(
    table: BronzeTable, letters: Letters, partition: str, epoch: int, reader: "duckdb.DuckDBPyConnection"
) -> None:
    letters.write(reader, JUDGED, table.address.contract.key, partition=partition, epoch=epoch)
    found = reader.execute(f"select count(*) from {JUDGED}").fetchone()
    table.rejected[partition] = int(found[0]) if found else 0
