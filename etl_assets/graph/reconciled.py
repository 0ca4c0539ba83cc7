"""A partition that was written against the control totals of the capture that it was made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from etl_assets.project import TableNode
from etl_assets.reconciliations import Reconciliation, reconciliations
from etl_resources.errors import PermanentError
from etl_resources.identifiers import quote
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.lineage import capture_epochs, control_key
from etl_resources.manifest_tables import Reconcile
from etl_resources.planning import Plan, PlannedPartition
from etl_resources.quality.audit import RECONCILED, CheckResult
from etl_resources.quality.dead_letters import rejected_sums
from etl_resources.quality.reconciliation import Row, reconcile, reconcile_groups

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Reconciler:
    """Compares partitions of one table. control_sql: text of the project's control totals by name."""

    ledger: Ledger
    node: TableNode
    control_sql: Mapping[str, str]

    def checks(
        self, engine: "duckdb.DuckDBPyConnection", the_plan: Plan, planned: PlannedPartition, scan: str
    ) -> list[CheckResult]:
        """Those that the table declares among its checks."""
        return [
            replace(self._compared(engine, found, the_plan, planned, scan), name=found.check, severity=found.severity)
            for found in self._declared
            if found.check != RECONCILED
        ]

    def acceptance(
        self, engine: "duckdb.DuckDBPyConnection", the_plan: Plan, planned: PlannedPartition, scan: str
    ) -> list[CheckResult]:
        """That of a KPI's acceptance, if it declares one."""
        found = [d for d in self._declared if d.check == RECONCILED]
        return [self._compared(engine, d, the_plan, planned, scan) for d in found]

    @property
    def _declared(self) -> list[Reconciliation]:
        return [d for d in reconciliations(self.node.dataset) if d.layer == self.node.layer]

    def _compared(
        self,
        engine: "duckdb.DuckDBPyConnection",
        declared: Reconciliation,
        the_plan: Plan,
        planned: PlannedPartition,
        scan: str,
    ) -> CheckResult:
        """Raises PermanentError when there is nothing to compare with."""
        rule, key = declared.rule, self.node.contract.key
        control = control_key(declared.control, self.control_sql[declared.control])
        with self.ledger.alone:
            epochs = capture_epochs(self.ledger.connection, planned.inputs)
            found = self.ledger.totals(control, planned.partition, epochs.get((rule.system, planned.partition), set()))
            rejected = self._rejected(rule, the_plan, planned)
        if found is None:
            raise PermanentError(
                f"{self.node.name}, partition {planned.partition}: the captures that it is made from took no control "
                f"totals of {declared.control}. Materialize bronze of system {rule.system} again."
            )
        capture, totals = found
        if rule.by is None:
            names = list(dict.fromkeys((*key, *rule.compare)))
            rows = _rows(engine, names, f"select {', '.join(map(quote, names))} from {scan}")
            return reconcile(rows, totals, key, rule.compare, capture)
        sums = [f"sum({quote(m)})" if m in self.node.contract.names else "count(*)" for m in rule.compare]
        known = [f"count({quote(m)}) = count(*)" if m in self.node.contract.names else "true" for m in rule.compare]
        measures = [f"case when {k} then {s} end" for k, s in zip(known, sums, strict=True)]
        groups = ", ".join(map(quote, rule.by))
        query = f"select {groups}, {', '.join(measures)} from {scan} group by {groups}"
        rows = _rows(engine, [*rule.by, *rule.compare], query)
        return reconcile_groups(rows, rejected, totals, rule.by, rule.compare, capture)

    def _rejected(self, rule: Reconcile, the_plan: Plan, planned: PlannedPartition) -> list[Row]:
        """Sums of the rows that the publish which was read had rejected."""
        if rule.rejected is None or rule.by is None:
            return []
        publish = the_plan.inputs[rule.rejected.table].publishes[planned.partition]
        return list(rejected_sums(self.ledger.connection, publish, rule.by, rule.rejected.columns))


def _rows(engine: "duckdb.DuckDBPyConnection", names: Sequence[str], query: str) -> list[Row]:
    return [dict(zip(names, row, strict=True)) for row in engine.execute(query).fetchall()]
