"""What a step may not publish unless a person says so: a KPI outside its limits, a closed period that would change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from etl_assets.graph.acceptance import accepted_or_held, changed
from etl_assets.graph.adjusted import Adjuster
from etl_assets.graph.closed_periods import LateChange, closed_and_published, closes_periods, late_data
from etl_assets.graph.reconciled import Reconciler
from etl_assets.graph.runtime import Runtime
from etl_assets.project import TableNode
from etl_resources.engines.transform import TransformResult
from etl_resources.ledger.held import Acceptance, Held
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.records import Publish
from etl_resources.manifest_tables import ChangeLimit
from etl_resources.planning import Plan, PlannedPartition
from etl_resources.quality.audit import CLOSED_PERIOD, CheckResult
from etl_resources.tables.head import read_head
from etl_resources.tables.input_tables import parquet_scan

if TYPE_CHECKING:
    import duckdb


def same_content(planned: PlannedPartition, result: TransformResult) -> bool:
    """Whether what was computed is what is published."""
    return planned.current is not None and planned.current.version == result.version


@dataclass(frozen=True)
class Judged:
    """What was found of a computed partition."""

    checks: Sequence[CheckResult]
    kept: Publish | None = None
    """What is published and stays, because the partition is closed and adjustments tell the difference."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """Who accepted it, and what consumers are told."""

    def restated(self, result: TransformResult) -> dict[str, Any]:
        """What its inputs give, where it isn't what is published: its adjustments are made from that."""
        return {"restated": result.version, "restated_path": result.paths[0]} if self.kept else {}


@dataclass(frozen=True)
class StepAcceptance:
    """Of one execution of a step. schema: SCHEMA option of read_parquet, of the table's columns."""

    runtime: Runtime
    node: TableNode
    ledger: Ledger
    run_id: str
    schema: str
    reconciler: Reconciler
    adjuster: Adjuster | None

    def judge(
        self,
        engine: "duckdb.DuckDBPyConnection",
        the_plan: Plan,
        planned: PlannedPartition,
        result: TransformResult,
        checks: Sequence[CheckResult],
    ) -> Judged:
        """The checks of acceptance. What they alone refuse, a person may have accepted; else it waits from here on.

        checks: those of its audit, which nobody can accept.
        """
        scan = parquet_scan([*result.paths], self.schema)
        late = self._late(engine, the_plan, planned, result, scan)
        found = self._of_period(the_plan, planned, late)
        found += self.reconciler.acceptance(engine, the_plan, planned, scan)
        if self._limit is not None:
            before = self._published(planned.partition) if planned.current else None
            found.append(changed(engine, self._limit, scan, before))
        accepted = None
        if any(c.blocks for c in found) and not any(c.blocks for c in checks):
            attempt, place = the_plan.attempt or "", (self.node.name, planned.partition, planned.token, result.version)
            written = Held(*place, planned.epoch, attempt, self.run_id, result.written, result.paths[0])
            found, accepted = accepted_or_held(self.ledger, planned, written, found)
        told = self._restatement(engine, the_plan, planned, result, late, accepted)
        evidence = {
            **({"accepted": accepted.as_json()} if accepted else {}),
            **({"restatement": told} if told else {}),
        }
        return Judged(found, planned.current if late and self._adjusts else None, evidence)

    @cached_property
    def _adjusts(self) -> bool:
        return closes_periods(self.node) and late_data(self.node) == "adjustment"

    @cached_property
    def _limit(self) -> ChangeLimit | None:
        kpi = self.node.dataset.kpi if self.node.layer == "kpi" else None
        return kpi.accept.change if kpi and kpi.accept else None

    def _late(
        self,
        engine: "duckdb.DuckDBPyConnection",
        the_plan: Plan,
        planned: PlannedPartition,
        result: TransformResult,
        scan: str,
    ) -> LateChange | None:
        """What differs from a closed period; None: it is open, or nothing does."""
        closing = the_plan.closed.get(planned.partition)
        if closing is None or closed_and_published(self.node.name, planned, closing).version == result.version:
            return None
        return LateChange(engine, self.node, closing, self._published(planned.partition), scan)

    def _of_period(self, the_plan: Plan, planned: PlannedPartition, late: LateChange | None) -> list[CheckResult]:
        if late is not None:
            return [late.told() if self._adjusts else late.check()]
        closing = the_plan.closed.get(planned.partition)
        told = {"period": str(closing or "open")}
        return [CheckResult(CLOSED_PERIOD, passed=True, metadata=told)] if closes_periods(self.node) else []

    def _restatement(
        self,
        engine: "duckdb.DuckDBPyConnection",
        the_plan: Plan,
        planned: PlannedPartition,
        result: TransformResult,
        late: LateChange | None,
        accepted: Acceptance | None,
    ) -> dict[str, Any] | None:
        """What consumers are told of a closed period that this publish changes, or adjusts."""
        if self.adjuster is not None:
            return self.adjuster.restatement(engine, the_plan, planned, result.written)
        if late is None or self._adjusts or planned.current is None:
            return None
        before = {"version": planned.current.version, "epoch": planned.current.epoch, "rows": planned.current.rows}
        after = {"version": result.version, "epoch": planned.epoch, "rows": result.written}
        return late.restatement(self.runtime.project, planned.partition, before, after, accepted)

    def _published(self, partition: str) -> str:
        """Table expression of what is published."""
        table = self.runtime.store.catalog.load_table(self.runtime.addresses[self.node.name].identifier)
        return parquet_scan(read_head(table)[partition].data_paths, self.schema)
