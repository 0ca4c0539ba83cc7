"""What the step of a table of adjustments has beside that of every table: what is booked, and what should be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from etl_assets.graph.closed_periods import LateChange, targets_behind
from etl_assets.graph.runtime import Runtime
from etl_assets.project import TableNode
from etl_resources.adjustments import BOOKED, ENTRY, RESTATED, Adjusted, net_rows, restated_version
from etl_resources.errors import PermanentError, RestartError
from etl_resources.identifiers import literal
from etl_resources.ledger.closings import closings_of
from etl_resources.ledger.ledger import Ledger
from etl_resources.planning import Plan, PlannedPartition
from etl_resources.run_token import InputVersion
from etl_resources.tables.head import read_head
from etl_resources.tables.input_tables import PinnedTable, no_rows, parquet_scan
from etl_resources.tables.schema import read_schema
from etl_resources.verdicts import differences

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.table import Table

CAUSES_TOLD = 3


@dataclass
class Adjuster:
    """Of one execution of the step."""

    runtime: Runtime
    ledger: Ledger
    node: TableNode
    adjusted: Adjusted
    run_id: str
    _booked_at: dict[str, int | None] = field(default_factory=dict)
    """Partition → epoch of the adjustments on which this execution books; None: there are none."""

    def read(
        self, pinned: Mapping[str, PinnedTable], _: Sequence[InputVersion], partition: str
    ) -> tuple[list[InputVersion], str | None]:
        """What the inputs of the adjusted table give of a partition, as an input version of its adjustments."""
        name = self.adjusted.table
        publish = pinned[name].publishes[partition]
        return [restated_version(name, partition, publish.version, publish.restated, publish.epoch)], None

    def relations(self, the_plan: Plan, planned: PlannedPartition) -> dict[str, str]:
        """Relations of adjustments_sql beside the adjusted table. Raises RestartError when somebody booked since."""
        return {
            BOOKED: self._booked(planned),
            RESTATED: self._restated(the_plan, planned.partition),
            ENTRY: self._entry(the_plan, planned),
        }

    def prove(self, head: "Table") -> None:
        """Nobody booked since this execution read what is booked: called before each try to commit."""
        heads = read_head(head)
        for partition, epoch in self._booked_at.items():
            if (heads[partition].epoch if partition in heads else None) != epoch:
                raise RestartError(f"{self.node.name}, partition {partition} was adjusted meanwhile. Run again.")

    def restatement(
        self, engine: "duckdb.DuckDBPyConnection", the_plan: Plan, planned: PlannedPartition, rows: int
    ) -> dict[str, Any] | None:
        """What consumers of a closed period are told; None when nothing is booked of one that is closed."""
        name, partition = self.adjusted.table, planned.partition
        with self.ledger.alone:
            closing = closings_of(self.ledger.connection, name).get(partition)
        before = planned.current.rows if planned.current else 0
        if closing is None or rows == before:
            return None
        table = the_plan.inputs[name]
        publish = table.publishes[partition]
        net = net_rows(self.adjusted, table.scan([partition]), self._booked(planned))
        of = self.runtime.project.tables[name]
        late = LateChange(engine, of, closing, net, self._restated(the_plan, partition))
        told = late.restatement(
            self.runtime.project,
            partition,
            before={"version": publish.version, "epoch": publish.epoch, "rows": publish.rows},
            after={"version": publish.restated or publish.version},
        )
        return {
            **told,
            "adjustments": {"table": self.node.name, "entries": rows - before},
            "targets": targets_behind(self.runtime.project, self.node.name),
        }

    def _booked(self, planned: PlannedPartition) -> str:
        address, partition = self.runtime.addresses[self.node.name], planned.partition
        table = self.runtime.store.catalog.load_table(address.identifier)
        head = read_head(table).get(partition)
        epoch, known = head.epoch if head else None, planned.current.epoch if planned.current else None
        if head and known is None:
            raise PermanentError(
                f"{self.node.name}, partition {partition}: the ledger lost what is booked. Run `data-pipeline recover`."
            )
        if epoch != known or self._booked_at.setdefault(partition, epoch) != epoch:
            raise RestartError(f"{self.node.name}, partition {partition} was adjusted meanwhile. Run again.")
        rows = head is not None and planned.current is not None and planned.current.rows
        return (
            parquet_scan(head.data_paths, read_schema(table.schema(), address.columns))
            if head and rows
            else no_rows(self.node.contract)
        )

    def _restated(self, the_plan: Plan, partition: str) -> str:
        """What the inputs give: what is published, unless the partition is closed and they give something else."""
        table = the_plan.inputs[self.adjusted.table]
        publish = table.publishes[partition]
        path = (publish.account or {}).get("restated_path") if publish.restated else None
        return parquet_scan([path], table.schema) if path else table.scan([partition])

    def _entry(self, the_plan: Plan, planned: PlannedPartition) -> str:
        """Who found the difference, when, and why it is there."""
        zone = ZoneInfo(self.runtime.project.platform.calendar.time_zone)
        today = datetime.now(zone).date()
        return (
            f"(select date '{today}' as adjusted_on, {literal(self.run_id)} as adjusted_by_run, "
            f"{literal(self._because(the_plan, planned))} as adjusted_because)"
        )

    def _because(self, the_plan: Plan, planned: PlannedPartition) -> str:
        """Inputs of the adjusted table that changed since it was adjusted last."""
        name, partition = self.adjusted.table, planned.partition
        now = the_plan.inputs[name].publishes[partition]
        read = next((i.epoch for i in planned.current.inputs if i.asset == name), None) if planned.current else None
        with self.ledger.alone:
            before = self.ledger.at_epochs(name, {partition: read}).get(partition) if read is not None else None
        changes = [*differences(before.inputs, now.inputs)] if before else []
        told = [f"{c.asset} {c.partition}: {c.kind}" for c in changes[:CAUSES_TOLD]]
        if len(changes) > CAUSES_TOLD:
            told.append(f"{len(changes) - CAUSES_TOLD} more")
        return "; ".join(told) or f"{name} {partition} was published anew"
