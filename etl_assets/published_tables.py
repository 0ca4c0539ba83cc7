"""What there is to query: every table and target with what the ledger knows of it."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from etl_assets.graph.runtime import Runtime
from etl_assets.project import ServingNode, TableNode
from etl_resources.ledger.ledger import Ledger


@dataclass(frozen=True)
class PublishedTable:
    """One table or served table; nothing published: no partitions, no rows, no time."""

    name: str
    partitions: int
    rows: int
    published_at: datetime | None
    """Newest publish of any partition."""
    location: str
    """Folder of an Iceberg table; schema.table in Postgres."""
    catalog_name: str | None
    """Name in the Iceberg catalog."""
    columns: int
    """Columns of the contract."""

    def as_json(self) -> dict[str, Any]:
        """For scripts; the time in ISO 8601."""
        return {**asdict(self), "published_at": self.published_at.isoformat() if self.published_at else None}


def list_tables(runtime: Runtime) -> list[PublishedTable]:
    """All tables in the order of the flow, then what is served."""
    with Ledger.open(runtime.settings) as ledger:
        rows = ledger.connection.execute(
            "select asset, count(*), sum(rows)::bigint, max(published_at) from etl.current_versions group by asset"
        ).fetchall()
    known = {asset: (partitions, total, newest) for asset, partitions, total, newest in rows}
    return [_entry(runtime, node, *known.get(node.name, (0, 0, None))) for node in runtime.project.nodes]


def _entry(
    runtime: Runtime, node: TableNode | ServingNode, partitions: int, rows: int, newest: datetime | None
) -> PublishedTable:
    if isinstance(node, ServingNode):
        columns = len(node.table.contract.columns)
        return PublishedTable(node.name, partitions, rows, newest, node.target.place, None, columns)
    address = runtime.addresses[node.name]
    return PublishedTable(
        node.name, partitions, rows, newest, address.location, address.identifier, len(node.contract.columns)
    )
