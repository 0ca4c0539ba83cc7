"""The step of a system of record: one snapshot, all its tables, into bronze.

The tables of a system are captured together even when only one of them was selected: orders of one moment and lines
of another make no consistent day.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property, partial
from typing import TYPE_CHECKING

from etl_assets.graph import keys
from etl_assets.graph.bronze_table import BronzeTable
from etl_assets.graph.captured_rejects import reject_misfits
from etl_assets.graph.runtime import Runtime
from etl_assets.graph.source_readers import read_table
from etl_assets.graph.source_schema import follow_source, source_table
from etl_assets.project import TableNode
from etl_resources.dead_letters.writing import Letters
from etl_resources.engines.embedded import connect
from etl_resources.engines.transform import engine_error
from etl_resources.errors import PermanentError
from etl_resources.exchanged import held_back
from etl_resources.extract.capture import CapturedPartition, describe_captured
from etl_resources.extract.moved_rows import Moves, find_moves, links
from etl_resources.extract.postgres import PostgresSnapshot, open_source, snapshot_of
from etl_resources.failpoints import failpoint
from etl_resources.ledger.control_totals import record_totals, with_totals
from etl_resources.ledger.ledger import Ledger, new_attempt
from etl_resources.ledger.lineage import control_key
from etl_resources.ledger.marks import looked_at
from etl_resources.ledger.measures import record_measures
from etl_resources.ledger.pins import current_pins
from etl_resources.ledger.prunes import record_pruned
from etl_resources.ledger.records import IntendedPartition, Logic
from etl_resources.manifest_sources import PostgresSource
from etl_resources.progress import report
from etl_resources.quality.content_hash import version_of
from etl_resources.retries import retry_transient
from etl_resources.tables.schema import field_ids, read_schema

if TYPE_CHECKING:
    import duckdb

EMPTY_VERSION = version_of(0, "0" * 16)


class CaptureStep:
    """One capture of one system."""

    def __init__(self, runtime: Runtime, system: str, nodes: Sequence[TableNode], ledger: Ledger, run_id: str) -> None:
        self._runtime, self._system, self._nodes = runtime, system, nodes
        self._ledger, self._run_id = ledger, run_id
        self.tables: dict[str, BronzeTable] = {}
        self._pins: dict[str, str] = {}
        """Partition → why no table of the system captures it: a rollback pinned it in one of them."""

    def run(self, requested: Sequence[str]) -> None:
        """Observe, capture what changed, stage it. Publishing is the caller's."""
        dsn, setting = self._runtime.source_dsn(self._system)
        timeout_s = self._runtime.settings.postgres_connect_timeout_s
        with open_source(dsn, setting=setting, timeout_s=timeout_s) as connection, ExitStack() as until_done:
            above = max((self._newest_epoch(n) for n in self._nodes), default=0)
            with self._ledger.ordering_captures(self._system) as record_capture:
                snapshot = until_done.enter_context(snapshot_of(connection, dsn, setting))
                epoch = record_capture(self._run_id, above)
            failpoint("capture.snapshot_taken", self._system)
            self.tables = {n.name: self._open(n, snapshot) for n in self._nodes}  # pinned after the snapshot
            free = self._without_pinned(requested)
            changed = self._observe(snapshot, free)
            looked_at(self._ledger.connection, self.tables, set(free) - set(changed), epoch)
            report(self._system, "observed", changed=len(changed), unchanged=len(free) - len(changed))
            failpoint("capture.observed", self._system)
            if changed:
                self._capture(snapshot, changed, epoch)

    def _without_pinned(self, requested: Sequence[str]) -> list[str]:
        """Requested partitions that may be captured; the pinned ones keep what they have, in every table."""
        for (_, partition), pin in current_pins(self._ledger.connection, list(self.tables)).items():
            self._pins[partition] = str(pin)
        for table in self.tables.values():
            table.outcomes += [table.kept(p, self._pins[p]) for p in requested if p in self._pins]
        return [p for p in requested if p not in self._pins]

    def _newest_epoch(self, node: TableNode) -> int:
        address = self._runtime.addresses[node.name]
        self._runtime.store.created(address)
        return max(self._runtime.store.published_epochs(address).values(), default=0)

    def _open(self, node: TableNode, snapshot: PostgresSnapshot) -> BronzeTable:
        store, source = self._runtime.store, node.dataset.source
        assert isinstance(source, PostgresSource)  # noqa: S101  (only those are captured together)
        now = snapshot.columns(source)
        key = self._runtime.hash_key(node)
        followed = follow_source(self._runtime, self._ledger, node, now, self._run_id)
        address = followed.address
        store.settle(self._ledger, address)
        return BronzeTable(
            node=node,
            system=self._system,
            settings=self._runtime.settings,
            address=address,
            source=source_table(self._runtime, node, followed, now),
            key=key,
            followed=followed,
            field_ids=field_ids(followed.schema, address.columns),
            schema=read_schema(followed.schema),
            published=store.pin(self._ledger, address, strict=False),
            attempt=new_attempt(self._run_id),
        )

    def _observe(self, snapshot: PostgresSnapshot, requested: Sequence[str]) -> list[str]:
        """Partitions that differ from what is published in any table of the system; prunes the others."""
        changed: set[str] = set()
        for table in self.tables.values():
            snapshot.prove_types(table.source)
            snapshot.prove_placed(table.source)
            table.fingerprints = snapshot.fingerprints(table.source, requested)
            for partition in requested:
                publish = table.published.publishes.get(partition)
                if publish is None or not table.is_current(partition, publish):
                    changed.add(partition)
        changed |= {p for p in requested if p not in changed and not self._of_one_capture(p)}
        changed |= self._without_totals([p for p in requested if p not in changed])
        for table in self.tables.values():
            same = [table.published.publishes[p] for p in requested if p not in changed]
            table.outcomes += [table.pruned(p.partition) for p in same]
            size_bytes = sum(p.size_bytes for p in same)
            record_pruned(
                self._ledger.connection, table.node.name, self._run_id, same, files=len(same), size_bytes=size_bytes
            )
        return sorted(changed)

    def _of_one_capture(self, partition: str) -> bool:
        """A run that ended between the publishes of two tables left them with different captures, equal or not."""
        return len({t.published.publishes[partition].epoch for t in self.tables.values()}) == 1

    def _without_totals(self, partitions: Sequence[str]) -> set[str]:
        """Captured before a KPI asked for totals, or asked for these: the totals need a capture of their own."""
        (first, *_) = self.tables.values()
        epochs = {p: first.published.publishes[p].epoch for p in partitions}
        return set(partitions) - with_totals(self._ledger.connection, self._controls, epochs)

    @cached_property
    def _controls(self) -> Mapping[str, str]:
        """Key of the control totals → SQL, of what is made from these tables; totals are of periods, so whole tables
        have none."""
        controls = self._runtime.project.controls(self._system, self._nodes[0].every)
        return {control_key(n, sql): sql for n, sql in controls.items()}

    def _capture(self, snapshot: PostgresSnapshot, changed: Sequence[str], epoch: int) -> None:
        for table in self.tables.values():
            logic = Logic(table.node.logic_version, table.node.logic_parts)
            sized = self._runtime.sized(table.node)
            self._ledger.open_attempt(table.node.name, self._run_id, table.attempt, logic, sized)
        size = self._runtime.size(self._nodes[0])
        engine = connect(
            self._runtime.settings,
            threads=size.threads,
            memory_mb=size.memory_mb,
            extensions=("postgres_scanner",),
        )
        snapshot.exported.attach(engine)
        captured, moves, more = set[str](), Moves(), list(changed)
        while more:
            self._write(engine, snapshot, more, epoch)
            captured |= set(more)
            for table in self.tables.values():
                paths = [p for p in table.paths if any(f"/partition={m}/" in p for m in more)]
                find = partial(find_moves, engine, snapshot, table.source, table.published, more, paths)
                moves |= retry_transient(find, table.node.name)
            more = sorted({p for pair in moves for p in pair} - captured - self._pins.keys())
        self._record_totals(snapshot, epoch, sorted(captured))
        failpoint("capture.totals_recorded", self._system)
        for table in self.tables.values():
            self._stage(engine, snapshot, table, sorted(captured), links(moves), epoch)
        engine.close()

    def _write(
        self,
        engine: "duckdb.DuckDBPyConnection",
        snapshot: PostgresSnapshot,
        partitions: Sequence[str],
        epoch: int,
    ) -> None:
        for table in self.tables.values():
            unseen = [p for p in partitions if p not in table.fingerprints]
            table.fingerprints |= snapshot.fingerprints(table.source, unseen)
            self._ledger.intend(table.attempt, [IntendedPartition(p, epoch, None) for p in partitions])
            failpoint("capture.intended", table.node.name)
            self._read(engine, snapshot, table, partitions, epoch)
            failpoint("capture.files_written", table.node.name)
            report(table.node.name, "captured", partitions=len(partitions))

    def _read(
        self,
        engine: "duckdb.DuckDBPyConnection",
        snapshot: PostgresSnapshot,
        table: BronzeTable,
        partitions: Sequence[str],
        epoch: int,
    ) -> None:
        try:
            table.paths += read_table(self._runtime, engine, snapshot, table, partitions, epoch, self._run_id)
        finally:  # also of what failed, and before anything else can
            table.measured_with = table.measured_with or partitions[0]
            record_measures(self._ledger, table.attempt, table.measured_with, table.measures)

    def _letters(self, table: BronzeTable) -> Letters:
        source = keys.source_input(table.node.dataset)
        return self._runtime.letters(self._ledger, table.node.name, table.attempt, self._run_id, source)

    def _record_totals(self, snapshot: PostgresSnapshot, epoch: int, captured: Sequence[str]) -> None:
        for control, sql in self._controls.items():
            totals = snapshot.control_totals(control, sql, captured, self._nodes[0].contract.grain)
            record_totals(self._ledger.connection, epoch, control, totals)

    def _stage(
        self,
        engine: "duckdb.DuckDBPyConnection",
        snapshot: PostgresSnapshot,
        table: BronzeTable,
        captured: Sequence[str],
        linked: Mapping[str, tuple[str, ...]],
        epoch: int,
    ) -> None:
        import duckdb

        try:
            found = describe_captured(engine, table.source, table.address, table.paths, table.schema)
            rows = {p: f.rows for p, f in found.items()}
            letters = self._letters(table)
            reject_misfits(engine, snapshot.exported, table, letters, rows, captured, epoch)
            outcomes = [
                table.audit(found.get(p) or CapturedPartition(p, (), 0, 0, EMPTY_VERSION), epoch) for p in captured
            ]
            for outcome in outcomes:
                outcome.letters = letters.counts(outcome.partition)
            written = [
                table.written(engine, o, found.get(o.partition), linked.get(o.partition, ()), epoch)
                for o in outcomes
                if o.error is None
            ]
        except duckdb.Error as e:
            raise engine_error(f"{table.node.name}", e) from e
        held = held_back(linked, {o.partition for o in outcomes if o.error is not None} | self._pins.keys())
        for outcome in outcomes:
            if outcome.partition in held:
                outcome.status = "failed"
                pinned = [f"{p}: {self._pins[p]}" for p in linked[outcome.partition] if p in self._pins]
                outcome.error = PermanentError(
                    f"{table.node.name}, partition {outcome.partition} exchanged rows with a partition that "
                    + (f"is pinned ({'; '.join(pinned)})." if pinned else "failed.")
                )
        written = [w for w in written if w.staged.partition not in held]
        table.outcomes += outcomes
        if written:
            failpoint("audit.passed", table.node.name)
            table.batch = self._runtime.store.stage(
                self._ledger,
                table.address,
                table.attempt,
                self._run_id,
                written,
                prove=table.no_key_elsewhere({w.staged.partition for w in written}, linked, epoch),
            )
        else:
            self._ledger.settle(table.attempt, "failed", "no partition passed its audit")
