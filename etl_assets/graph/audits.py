"""What a manifest declares of a table, held against a partition that was written and isn't published yet."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from etl_assets.project import TableNode
from etl_resources.engines.transform import TransformResult, create_views
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.records import rows_before
from etl_resources.quality.audit import CheckResult
from etl_resources.quality.partition_checks import HISTORY_MAX, AuditedPartition, audit_partition
from etl_resources.quality.row_checks import audit_rows

if TYPE_CHECKING:
    import duckdb


def audit_declared(
    engine: "duckdb.DuckDBPyConnection",
    ledger: Ledger,
    node: TableNode,
    partition: str,
    result: TransformResult,
    scan: str,
) -> list[CheckResult]:
    """Rules that don't reject, checks of the partition as a whole.

    scan: DuckDB table expression of what was written. The engine still has the views that the transform read.
    """
    checks, earlier = node.dataset.table(node.layer).checks, []
    if any(check.rows_change is not None for check in checks):
        with ledger.alone:
            earlier = rows_before(ledger.connection, node.name, partition, HISTORY_MAX)
    if node.queries:
        create_views(engine, {node.name: scan})
    written = AuditedPartition(partition, scan, result.written, earlier, datetime.now(UTC).date(), node.queries)
    return [
        *audit_rows(engine, node.contract, scan),
        *audit_partition(engine, node.contract, checks, written),
    ]
