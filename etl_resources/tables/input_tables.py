"""Input tables pinned to a snapshot: which files of which version each partition consists of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from etl_resources.calendar import WHOLE
from etl_resources.contract import Contract
from etl_resources.errors import PermanentError
from etl_resources.identifiers import literal, quote
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.records import Publish
from etl_resources.run_token import InputVersion
from etl_resources.tables.address import TableAddress
from etl_resources.tables.head import PartitionHead, read_head
from etl_resources.tables.schema import duckdb_type, read_schema
from etl_resources.tables.settle import recognise_published, settle_table

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table


@dataclass(frozen=True)
class PinnedTable:
    """One table at one snapshot."""

    asset: str
    snapshot_id: int | None
    schema: str
    """SCHEMA option of read_parquet."""
    heads: Mapping[str, PartitionHead]
    publishes: Mapping[str, Publish]
    partitioned: bool = True
    table: "Table | None" = field(default=None, compare=False, repr=False)
    """As it was loaded; it may have older snapshots."""

    def partition_for(self, partition: str) -> str:
        """Its partition that a dependant's partition reads: the same period, or all of a table without partitions."""
        return partition if self.partitioned else WHOLE

    def version(self, partition: str) -> InputVersion | None:
        """What is published of a partition; None when nothing is."""
        publish = self.publishes.get(partition)
        return InputVersion(self.asset, partition, publish.version, publish.epoch) if publish else None

    def scan(self, partitions: Sequence[str]) -> str:
        """DuckDB table expression of exactly the files of these partitions, at least one."""
        return parquet_scan([path for p in partitions for path in self.heads[p].data_paths], self.schema)

    def former_scan(self, ledger: Ledger, version: InputVersion) -> str | None:
        """As scan, of an earlier publish of a partition, typed as the table is now; None when its snapshot expired."""
        published = ledger.at_epochs(self.asset, {version.partition: version.epoch}).get(version.partition)
        if self.table is None or published is None or published.snapshot_id is None:
            return None
        if self.table.snapshot_by_id(published.snapshot_id) is None:
            return None
        try:
            head = read_head(self.table, published.snapshot_id).get(version.partition)
        except FileNotFoundError:
            return None
        return parquet_scan(head.data_paths, self.schema) if head is not None else None


def parquet_scan(paths: list[str], schema: str) -> str:
    """DuckDB table expression of Parquet files, columns by field id."""
    return f"read_parquet([{', '.join(map(literal, paths))}], schema = {schema})"


def no_rows(contract: Contract) -> str:
    """DuckDB table expression of a table's columns without a row: nothing of it is read, or it doesn't exist yet."""
    columns = ", ".join(f"null::{duckdb_type(c.type)} as {quote(c.name)}" for c in contract.columns)
    return f"(select {columns} where false)"


def pin(catalog: "Catalog", ledger: Ledger, address: TableAddress, *, strict: bool = True) -> PinnedTable:
    """The table as it is published now.

    A publish that the ledger doesn't know yet (its writer died, or is between commit and evidence) is recorded first.
    Raises PermanentError when it can't be, if strict.
    """
    from pyiceberg.exceptions import NoSuchTableError

    partitioned = address.contract.partition_column is not None
    try:
        table = catalog.load_table(address.identifier)
    except NoSuchTableError:
        return PinnedTable(address.asset, None, "", {}, {}, partitioned)
    heads = read_head(table)
    epochs = {p: h.epoch for p, h in heads.items()}
    publishes = ledger.at_epochs(address.asset, epochs)
    if len(publishes) < len(epochs):
        settle_table(catalog, ledger, address)
        recognise_published(table, ledger, epochs)
        publishes = ledger.at_epochs(address.asset, epochs)
    unknown = sorted(set(epochs) - set(publishes))
    if unknown and strict:
        raise PermanentError(
            f"{address.asset}: the ledger doesn't know who published {', '.join(unknown)}. Was it restored from an "
            "older backup? Rebuild it: `data-pipeline recover`. Or materialize the asset again to publish them anew."
        )
    snapshot = table.current_snapshot()
    return PinnedTable(
        address.asset,
        snapshot.snapshot_id if snapshot else None,
        read_schema(table.schema(), address.columns, address.contract),
        heads,
        publishes,
        partitioned,
        table,
    )
