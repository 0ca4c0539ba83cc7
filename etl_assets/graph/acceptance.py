"""What must hold of a KPI's partition before it is published: the totals of the capture that it was made from (M15)."""

from typing import TYPE_CHECKING

from etl_assets.project import TableNode
from etl_resources.errors import PermanentError
from etl_resources.identifiers import quote
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.lineage import capture_epochs
from etl_resources.manifest_tables import Reconcile
from etl_resources.planning import Plan, PlannedPartition
from etl_resources.quality.audit import CheckResult
from etl_resources.quality.dead_letters import rejected_sums
from etl_resources.quality.reconciliation import Row, reconcile, reconcile_groups

if TYPE_CHECKING:
    import duckdb


def accept(
    engine: "duckdb.DuckDBPyConnection",
    ledger: Ledger,
    node: TableNode,
    control: str,
    the_plan: Plan,
    planned: PlannedPartition,
    scan: str,
) -> list[CheckResult]:
    """The reconciliation that the manifest asks for; none for other tables. control: key of its control totals.

    Raises PermanentError when there is nothing to compare with.
    """
    kpi = node.dataset.kpi
    if node.layer != "kpi" or kpi is None or kpi.accept is None:
        return []
    rule = kpi.accept.reconcile
    with ledger.alone:
        epochs = capture_epochs(ledger.connection, planned.inputs).get((rule.system, planned.partition), set())
        found = ledger.totals(control, planned.partition, epochs)
        rejected = _rejected(ledger, rule, the_plan, planned)
    if found is None:
        raise PermanentError(
            f"{node.name}, partition {planned.partition}: the captures that it is made from took no control "
            f"totals of {node.dataset.dataset}. Materialize bronze of system {rule.system} again."
        )
    capture, totals = found
    names = dict.fromkeys((*node.contract.key, *rule.compare))
    cursor = engine.execute(f"select {', '.join(map(quote, names))} from {scan}")
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    if rule.by is None:
        return [reconcile(rows, totals, node.contract.key, rule.compare, capture)]
    return [reconcile_groups(rows, rejected, totals, rule.by, rule.compare, capture)]


def _rejected(ledger: Ledger, rule: Reconcile, the_plan: Plan, planned: PlannedPartition) -> list[Row]:
    """Sums of the rows that the publish which was read had rejected."""
    if rule.rejected is None or rule.by is None:
        return []
    publish = the_plan.inputs[rule.rejected.table].publishes[planned.partition]
    return list(rejected_sums(ledger.connection, publish, rule.by, rule.rejected.columns))
