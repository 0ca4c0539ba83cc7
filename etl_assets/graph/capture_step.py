"""The step of a system of record: one snapshot, all its tables, into bronze.

The tables of a system are captured together even when only one of them was selected: orders of one moment and lines
of another make no consistent day.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from etl_assets.graph.outcome import PartitionOutcome
from etl_assets.graph.runtime import Runtime
from etl_assets.project import TableNode
from etl_resources.conventions import parse_staged_path
from etl_resources.engines.embedded import connect
from etl_resources.engines.transform import engine_error
from etl_resources.errors import PermanentError, TransientError
from etl_resources.extract.capture import CapturedPartition, capture_table, describe_captured, write_empty
from etl_resources.extract.moved_rows import Moves, find_moves, links
from etl_resources.extract.postgres import PostgresSnapshot, SourceTable, open_source, snapshot_of
from etl_resources.identifiers import quote
from etl_resources.ledger.ledger import IntendedPartition, Ledger, Publish, new_attempt
from etl_resources.ledger.lineage import source_asset
from etl_resources.planning import held_back
from etl_resources.progress import report
from etl_resources.quality.audit import ROWS_ACCOUNTED, UNIQUE_KEY, CheckResult
from etl_resources.quality.content_hash import version_of
from etl_resources.run_token import InputVersion, run_token
from etl_resources.tables.head import read_head
from etl_resources.tables.input_tables import PinnedTable, parquet_scan
from etl_resources.tables.schema import field_ids, read_schema
from etl_resources.tables.stage import StagedPartition
from etl_resources.tables.table_store import StagedBatch, WrittenPartition

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.table import Table

EMPTY_VERSION = version_of(0, "0" * 16)


@dataclass
class BronzeTable:
    """One bronze table during a capture."""

    node: TableNode
    source: SourceTable
    field_ids: str
    schema: str
    published: PinnedTable
    attempt: str
    fingerprints: dict[str, str] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    outcomes: list[PartitionOutcome] = field(default_factory=list)
    batch: StagedBatch | None = None


class CaptureStep:
    """One capture of one system."""

    def __init__(self, runtime: Runtime, system: str, nodes: Sequence[TableNode], ledger: Ledger, run_id: str) -> None:
        self._runtime, self._system, self._nodes = runtime, system, nodes
        self._ledger, self._run_id = ledger, run_id
        self.tables: dict[str, BronzeTable] = {}

    def run(self, requested: Sequence[str]) -> None:
        """Observe, capture what changed, stage it. Publishing is the caller's."""
        dsn, setting = self._runtime.source_dsn(self._system)
        timeout_s = self._runtime.settings.postgres_connect_timeout_s
        with open_source(dsn, setting=setting, timeout_s=timeout_s) as connection, ExitStack() as until_done:
            with self._ledger.ordering_captures(self._system) as record_capture:
                snapshot = until_done.enter_context(snapshot_of(connection, dsn, setting))
                epoch = record_capture(self._run_id)
            self.tables = {n.name: self._open(n) for n in self._nodes}  # pinned after the snapshot, never before
            changed = self._observe(snapshot, requested)
            report(self._system, "observed", changed=len(changed), unchanged=len(requested) - len(changed))
            if changed:
                self._capture(snapshot, changed, epoch)

    def _open(self, node: TableNode) -> BronzeTable:
        store, address = self._runtime.store, self._runtime.addresses[node.name]
        table = store.ensure(address)
        store.settle(self._ledger, address)
        assert node.dataset.source is not None  # noqa: S101  (bronze has a source)
        return BronzeTable(
            node=node,
            source=SourceTable(node.dataset.source, node.dataset.partitions.by),
            field_ids=field_ids(table.schema()),
            schema=read_schema(table.schema()),
            published=store.pin(self._ledger, address, strict=False),
            attempt=new_attempt(self._run_id),
        )

    def _observe(self, snapshot: PostgresSnapshot, requested: Sequence[str]) -> list[str]:
        """Partitions that differ from what is published in any table of the system; prunes the others."""
        changed: set[str] = set()
        for table in self.tables.values():
            snapshot.prove_types(table.source)
            table.fingerprints = snapshot.fingerprints(table.source, requested)
            for partition in requested:
                publish = table.published.publishes.get(partition)
                if publish is None or not self._is_current(table, partition, publish):
                    changed.add(partition)
        changed |= {p for p in requested if p not in changed and not self._of_one_capture(p)}
        for table in self.tables.values():
            table.outcomes += [
                _pruned(table.published.publishes[p], table.fingerprints[p]) for p in requested if p not in changed
            ]
        return sorted(changed)

    def _of_one_capture(self, partition: str) -> bool:
        """A run that ended between the publishes of two tables left them with different captures, equal or not."""
        return len({t.published.publishes[partition].epoch for t in self.tables.values()}) == 1

    def _is_current(self, table: BronzeTable, partition: str, publish: Publish) -> bool:
        return publish.fingerprint == table.fingerprints[partition] and publish.token == self._token(
            table, partition, publish.version
        )

    def _token(self, table: BronzeTable, partition: str, version: str) -> str:
        return run_token(
            tenant=table.node.dataset.tenant,
            asset=table.node.name,
            partition=partition,
            logic_version=table.node.logic_version,
            inputs=[self._input(table, partition, version)],
        )

    def _input(self, table: BronzeTable, partition: str, version: str) -> InputVersion:
        return InputVersion(source_asset(self._system, table.source.name), partition, version)

    def _capture(self, snapshot: PostgresSnapshot, changed: Sequence[str], epoch: int) -> None:
        for table in self.tables.values():
            self._ledger.open_attempt(table.node.name, self._run_id, table.attempt)
        size = self._runtime.size(self._nodes[0])
        engine = connect(
            self._runtime.settings,
            threads=size.threads,
            memory_mb=size.memory_mb,
            extensions=("postgres_scanner",),
        )
        snapshot.attach(engine)
        captured, moves, more = set[str](), Moves(), list(changed)
        while more:
            self._write(engine, snapshot, more, epoch)
            captured |= set(more)
            for table in self.tables.values():
                paths = [p for p in table.paths if any(f"/partition={m}/" in p for m in more)]
                moves |= find_moves(engine, snapshot, table.source, table.published, more, paths)
            more = sorted({p for pair in moves for p in pair} - captured)
        self._record_totals(snapshot, epoch, sorted(captured))
        engine.execute("commit")
        for table in self.tables.values():
            self._stage(engine, table, sorted(captured), links(moves), epoch)
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
            address = self._runtime.addresses[table.node.name]
            table.paths += capture_table(
                engine,
                snapshot,
                table.source,
                address,
                partitions,
                epoch=epoch,
                mark=table.attempt.rpartition("-")[2],
                run_id=self._run_id,
                field_ids=table.field_ids,
            )
            report(table.node.name, "captured", partitions=len(partitions))

    def _record_totals(self, snapshot: PostgresSnapshot, epoch: int, captured: Sequence[str]) -> None:
        for control, sql in self._runtime.project.controls(self._system).items():
            self._ledger.record_totals(epoch, control, snapshot.control_totals(control, sql, captured))

    def _stage(
        self,
        engine: "duckdb.DuckDBPyConnection",
        table: BronzeTable,
        captured: Sequence[str],
        linked: Mapping[str, tuple[str, ...]],
        epoch: int,
    ) -> None:
        import duckdb

        address = self._runtime.addresses[table.node.name]
        try:
            found = describe_captured(engine, table.source, address, table.paths, table.schema)
            outcomes = [
                self._audit(table, found.get(p) or CapturedPartition(p, (), 0, 0, EMPTY_VERSION), epoch)
                for p in captured
            ]
            written = [
                self._written(engine, table, o, found.get(o.partition), linked.get(o.partition, ()), epoch)
                for o in outcomes
                if o.error is None
            ]
        except duckdb.Error as e:
            raise engine_error(f"{table.node.name}", e) from e
        held = held_back(linked, {o.partition for o in outcomes if o.error is not None})
        for outcome in outcomes:
            if outcome.partition in held:
                outcome.status = "failed"
                outcome.error = PermanentError(
                    f"{table.node.name}, partition {outcome.partition} exchanged rows with a partition that failed."
                )
        written = [w for w in written if w.staged.partition not in held]
        table.outcomes += outcomes
        if written:
            table.batch = self._runtime.store.stage(
                self._ledger,
                address,
                table.attempt,
                self._run_id,
                written,
                prove=self._no_key_elsewhere(table, {w.staged.partition for w in written}, linked, epoch),
            )
        else:
            self._ledger.settle(table.attempt, "failed", "no partition passed its audit")

    def _no_key_elsewhere(
        self, table: BronzeTable, good: set[str], linked: Mapping[str, tuple[str, ...]], epoch: int
    ) -> Callable[["Table"], None]:
        """A capture that was published since this one looked may hold a row that is here now: look again."""

        def prove(head: "Table") -> None:
            pinned = table.published
            snapshot = head.current_snapshot()
            if snapshot is None or snapshot.snapshot_id == pinned.snapshot_id:
                return
            heads = read_head(head)
            fenced = {p for p in good if p in heads and heads[p].epoch > epoch}
            torn = held_back(linked, fenced)
            if torn:
                raise TransientError(
                    f"{table.node.name}: a newer capture published {', '.join(sorted(fenced))} meanwhile, which "
                    f"exchanged rows with {', '.join(sorted(torn))}. Capture again."
                )
            winners = good - fenced
            ours = [path for path in table.paths if parse_staged_path(path)[0] in winners]
            theirs = [
                path
                for partition, h in heads.items()
                if partition not in winners
                and h.epoch != (pinned.heads[partition].epoch if partition in pinned.heads else 0)
                for path in h.data_paths
            ]
            if ours and theirs:
                self._prove_disjoint(table, ours, theirs)

        return prove

    def _prove_disjoint(self, table: BronzeTable, ours: list[str], theirs: list[str]) -> None:
        key = ", ".join(map(quote, table.source.source.key))
        with connect(self._runtime.settings) as engine:
            found = engine.execute(
                f"select count(*) from {parquet_scan(ours, table.schema)} "
                f"semi join {parquet_scan(theirs, table.schema)} using ({key})"
            ).fetchone()
        if found and found[0]:
            raise TransientError(
                f"{table.node.name}: {found[0]} captured rows are in another partition that was published "
                "meanwhile. Capture again."
            )

    def _audit(self, table: BronzeTable, found: CapturedPartition, epoch: int) -> PartitionOutcome:
        """Rows against the server's own count in the same snapshot, and the key."""
        server_rows = int(table.fingerprints[found.partition].split(":")[1])
        checks = [
            CheckResult(
                ROWS_ACCOUNTED,
                server_rows == found.rows,
                metadata={"read": server_rows, "written": found.rows, "rejected": 0, "deduplicated": 0, "filtered": 0},
            ),
            CheckResult(UNIQUE_KEY, found.keys == found.rows, metadata={"rows": found.rows, "keys": found.keys}),
        ]
        outcome = PartitionOutcome(
            found.partition,
            "published",
            found.version,
            self._token(table, found.partition, found.version),
            [self._input(table, found.partition, found.version)],
            checks,
            metadata={
                "dagster/partition_row_count": found.rows,
                "epoch": epoch,
                "source_fingerprint": table.fingerprints[found.partition],
            },
        )
        blocked = [c for c in checks if c.blocks]
        if blocked:
            outcome.status, outcome.error = (
                "failed",
                PermanentError(
                    f"{table.node.name}, partition {found.partition} failed its audit: {'; '.join(map(str, blocked))}."
                ),
            )
        return outcome

    def _written(
        self,
        engine: "duckdb.DuckDBPyConnection",
        table: BronzeTable,
        outcome: PartitionOutcome,
        found: CapturedPartition | None,
        linked: tuple[str, ...],
        epoch: int,
    ) -> WrittenPartition:
        current = table.published.publishes.get(outcome.partition)
        alias = current.epoch if current and current.version == outcome.version else None
        if alias is not None:
            outcome.status = "unchanged"
        paths = found.paths if found else ()
        if alias is not None or not paths:
            address = self._runtime.addresses[table.node.name]
            paths = (
                write_empty(
                    engine,
                    address,
                    outcome.partition,
                    epoch=epoch,
                    token=outcome.token,
                    field_ids=table.field_ids,
                ),
            )
        rows = found.rows if found else 0
        staged = StagedPartition(outcome.partition, outcome.token, epoch, outcome.version, rows, alias)
        counts = {"read": rows, "written": rows, "rejected": 0, "deduplicated": 0, "filtered": 0}
        evidence = {
            "counts": counts,
            "linked": list(linked),
            "fingerprint": table.fingerprints[outcome.partition],
            "inputs": [vars(i) for i in outcome.inputs],
        }
        return WrittenPartition(staged, paths, evidence)


def _pruned(publish: Publish, fingerprint: str) -> PartitionOutcome:
    return PartitionOutcome(
        publish.partition,
        "pruned",
        publish.version,
        publish.token,
        publish.inputs,
        metadata={
            "dagster/partition_row_count": publish.rows,
            "epoch": publish.epoch,
            "proof": f"source fingerprint is still {fingerprint}",
        },
    )
