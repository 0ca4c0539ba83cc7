"""A partition that was written against the control totals of the capture that it was made from."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

from etl_assets.project import TableNode
from etl_assets.reconciliations import Reconciliation, reconciliations
from etl_resources.calendar import bounds
from etl_resources.dead_letters.index import rejected_version
from etl_resources.dead_letters.reading import rejected_sums
from etl_resources.errors import PermanentError, TransientError
from etl_resources.identifiers import quote
from etl_resources.ledger.control_totals import captured_totals
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.lineage import capture_epochs, control_input, control_key, is_same_period
from etl_resources.ledger.records import Publish
from etl_resources.manifest_tables import Reconcile
from etl_resources.planning import Plan, PlannedPartition
from etl_resources.quality.audit import RECONCILED, CheckResult
from etl_resources.quality.content_hash import version_of
from etl_resources.quality.reconciliation import Row, reconcile, reconcile_groups
from etl_resources.run_token import InputVersion
from etl_resources.tables.input_tables import PinnedTable

if TYPE_CHECKING:
    import duckdb

LOST = "the ledger lost the control totals that this was planned with. Run again."


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

    def read(
        self, pinned: Mapping[str, PinnedTable], inputs: Sequence[InputVersion], partition: str
    ) -> tuple[list[InputVersion], str | None]:
        """What one partition will be compared with, as input versions; or why there is nothing to compare with.

        Their content is the version: other totals are compared again, although no table has changed.
        """
        found = dict[tuple[str, str], InputVersion]()
        epochs = capture_epochs(self.ledger.connection, inputs) if self._declared else {}
        for declared in self._declared:
            system, control = declared.rule.system, self._control(declared)
            captured = sorted(p for s, p in epochs if s == system and is_same_period(partition, p))
            totals = {p: captured_totals(self.ledger.connection, control, p, epochs[system, p]) for p in captured}
            if not totals or None in totals.values():
                return [], (
                    f"{self.node.name}, partition {partition}: the captures that it is made from took no control "
                    f"totals of {declared.control}. Materialize bronze of system {system} again."
                )
            try:
                rejected = self._rejected_version(declared.rule, pinned, inputs)
            except PermanentError as e:
                return [], str(e)
            name = control_input(control)
            for p, (capture, rows) in ((p, t) for p, t in totals.items() if t is not None):
                version = _version(self._of_period(partition, p, rows), rejected)
                found[name, p] = InputVersion(name, p, version, capture, looked_up=True)
        return list(found.values()), None

    def _of_period(self, partition: str, captured: str, totals: Sequence[Row]) -> Sequence[Row]:
        """Of the totals of a captured partition, those that belong to a partition of the table."""
        if captured == partition:
            return totals
        (start, end), by = bounds(partition), self.node.contract.partition_column or ""
        return [row for row in totals if start <= date.fromisoformat(str(row[by])[:10]) < end]

    def _control(self, declared: Reconciliation) -> str:
        return control_key(declared.control, self.control_sql[declared.control])

    def _compared(
        self,
        engine: "duckdb.DuckDBPyConnection",
        declared: Reconciliation,
        the_plan: Plan,
        planned: PlannedPartition,
        scan: str,
    ) -> CheckResult:
        """With the totals that were planned with."""
        rule, key, control = declared.rule, self.node.contract.key, self._control(declared)
        captures = {i.partition: i.epoch for i in planned.inputs if i.asset == control_input(control)}
        capture, totals = max(captures.values()), list[Row]()
        with self.ledger.alone:
            for captured, epoch in captures.items():
                found = captured_totals(self.ledger.connection, control, captured, [epoch])
                if found is None:
                    raise TransientError(f"{self.node.name}, partition {planned.partition}: {LOST}")
                totals += self._of_period(planned.partition, captured, found[1])
            rejected = self._rejected(engine, rule, the_plan.inputs, planned.inputs)
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

    def _rejected_version(
        self, rule: Reconcile, pinned: Mapping[str, PinnedTable], inputs: Sequence[InputVersion]
    ) -> str | None:
        """Of the same rows, without reading them."""
        if rule.rejected is None or rule.by is None:
            return None
        found = [rejected_version(self.ledger.connection, p) for p in _read(rule.rejected.table, pinned, inputs)]
        return ",".join(filter(None, found)) or None

    def _rejected(
        self,
        engine: "duckdb.DuckDBPyConnection",
        rule: Reconcile,
        pinned: Mapping[str, PinnedTable],
        inputs: Sequence[InputVersion],
    ) -> list[Row]:
        """Sums of the rows that the publishes which are read had rejected."""
        if rule.rejected is None or rule.by is None:
            return []
        return [
            row
            for publish in _read(rule.rejected.table, pinned, inputs)
            for row in rejected_sums(engine, self.ledger.connection, publish, rule.by, rule.rejected.columns)
        ]


def _read(table: str, pinned: Mapping[str, PinnedTable], inputs: Sequence[InputVersion]) -> list[Publish]:
    """Publishes of a table that are read."""
    return [pinned[table].publishes[i.partition] for i in inputs if i.asset == table and not i.looked_up]


def _version(totals: Sequence[Row], rejected: str | None) -> str:
    """Of the totals, in any order, and of the rejected rows."""
    told = [sorted(json.dumps(r, sort_keys=True, default=str) for r in totals), rejected]
    return version_of(len(totals), hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16])


def _rows(engine: "duckdb.DuckDBPyConnection", names: Sequence[str], query: str) -> list[Row]:
    return [dict(zip(names, row, strict=True)) for row in engine.execute(query).fetchall()]
