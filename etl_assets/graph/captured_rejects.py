"""Rows of a captured table whose values no longer fit a column: kept as dead letters, while the others are captured."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from etl_assets.graph.bronze_table import BronzeTable
from etl_resources.engines.transform import JUDGED
from etl_resources.extract.capture import judge_rejected
from etl_resources.extract.postgres import PostgresSnapshot
from etl_resources.failpoints import failpoint
from etl_resources.ledger.ledger import Ledger
from etl_resources.quality.dead_letters import keep_rejected, store_rejected
from etl_resources.tables.evidence import EvidencePath

if TYPE_CHECKING:
    import duckdb


def reject_misfits(
    engine: "duckdb.DuckDBPyConnection",
    snapshot: PostgresSnapshot,
    table: BronzeTable,
    ledger: Ledger,
    written: "dict[str, int]",
    partitions: Sequence[str],
    epoch: int,
) -> None:
    """Keep what isn't among the rows written (partition → rows) of each partition, and count it in the table."""
    for partition in partitions if table.source.judged else ():
        if table.source_rows(partition) != written.get(partition, 0):
            keep = partial(_keep, table, ledger, partition, epoch)
            judge_rejected(engine, snapshot, table.source, table.address, partition, keep, key=table.key)
    if table.rejected:
        failpoint("stage.rejected_kept", table.node.name)


def _keep(table: BronzeTable, ledger: Ledger, partition: str, epoch: int, reader: "duckdb.DuckDBPyConnection") -> None:
    key, path = table.address.contract.key, EvidencePath(epoch, table.attempt)
    store_rejected(reader, JUDGED, key, path.rejected(table.address.location, partition))
    keep_rejected(
        ledger.connection,
        reader,
        JUDGED,
        key,
        asset=table.node.name,
        partition=partition,
        epoch=epoch,
        attempt=table.attempt,
    )
    found = reader.execute(f"select count(*) from {JUDGED}").fetchone()
    table.rejected[partition] = int(found[0]) if found else 0
