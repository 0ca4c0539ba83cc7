"""The step of a source that is delivered whole, files or API pages: observe, land the original bytes, type them.

Bronze is read from the raw copies alone, so it is exactly what was observed, and can be made again from them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from etl_assets.graph import keys
from etl_assets.graph.bronze_table import captured_token
from etl_assets.graph.computed import rejected_share, told_measures
from etl_assets.graph.outcome import PartitionOutcome, pruned_outcome
from etl_assets.graph.rejected_limits import too_many_rejected
from etl_assets.graph.runtime import Runtime
from etl_assets.graph.source_readers import writer_of_delivery
from etl_assets.graph.source_schema import Followed, follow, follow_source, mode_of, reading_of
from etl_assets.project import TableNode
from etl_resources.calendar import WHOLE
from etl_resources.conventions import raw_location, staged_folder
from etl_resources.dead_letters.writing import Letters
from etl_resources.engines.embedded import connect
from etl_resources.engines.spark_metrics import SparkMeasures
from etl_resources.engines.transform import JUDGED, engine_error
from etl_resources.errors import PermanentError
from etl_resources.extract.capture import write_empty
from etl_resources.extract.delivered_rows import WrittenRows
from etl_resources.extract.delivery import Delivery
from etl_resources.extract.raw_zone import RawZone
from etl_resources.failpoints import failpoint
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.lineage import newest_capture
from etl_resources.ledger.marks import looked_at, record_compared
from etl_resources.ledger.measures import record_measures
from etl_resources.ledger.pins import current_pins
from etl_resources.ledger.prunes import record_pruned
from etl_resources.ledger.records import IntendedPartition, Logic, Publish
from etl_resources.object_store import ObjectStore
from etl_resources.progress import report
from etl_resources.quality.audit import UNIQUE_KEY, CheckResult, StoredPartition, accounted, read_back
from etl_resources.quality.conservation import Account
from etl_resources.quality.text_drift import find_text_changes
from etl_resources.retries import retry_transient
from etl_resources.run_token import InputVersion
from etl_resources.schema_drift import SourceSchema
from etl_resources.tables.input_tables import parquet_scan
from etl_resources.tables.schema import field_ids, read_schema
from etl_resources.tables.source_schema import SchemaRecord
from etl_resources.tables.stage import StagedPartition
from etl_resources.tables.table_store import StagedBatch, WrittenPartition

if TYPE_CHECKING:
    from collections.abc import Mapping

    import duckdb


class _WidenedError(Exception):
    """What was written is to be written again, with wider columns."""


class DeliveredStep:
    """One capture of one delivered dataset."""

    def __init__(self, runtime: Runtime, node: TableNode, ledger: Ledger, run_id: str) -> None:
        self._runtime, self._node, self._ledger, self._run_id = runtime, node, ledger, run_id
        self._address = runtime.addresses[node.name]
        self._followed = Followed(self._address, runtime.store.created(self._address).schema())
        self._field_ids = self._schema = ""
        self._key = runtime.hash_key(node)
        self._measures = SparkMeasures()
        self.batch: StagedBatch | None = None

    def run(self) -> PartitionOutcome:
        """Observe, and if it changed land, write, audit and stage it. Publishing is the caller's."""
        store = self._runtime.store
        store.settle(self._ledger, self._address)
        raw = ObjectStore.of(store.catalog, raw_location(self._runtime.bucket))
        zone = RawZone(raw, self._node.dataset.dataset, self._run_id)
        source = self._runtime.delivered_source(self._node, raw)
        above = max(store.published_epochs(self._address).values(), default=0)
        with self._ledger.ordering_captures(*self._node.captured_in) as record_capture:
            zone.newest_capture = newest_capture(
                self._ledger.connection, self._node.captured_in[0], besides=self._run_id
            )
            delivery = source.observe(zone)
            epoch = record_capture(self._run_id, above)
            published = store.pin(self._ledger, self._address, strict=False)  # after observing, never before
            current = published.publishes.get(WHOLE)
            kept = self._kept(delivery, current)
            if kept:
                looked_at(self._ledger.connection, [self._node.name], [WHOLE], epoch)
                record_compared(self._ledger.connection, self._node.name)
            attempt = "" if kept else self._intend(epoch)  # in the lock: the raw zone's cleaning waits for either
        failpoint("deliver.observed", self._node.name)
        report(self._node.name, "observed", changed=int(kept is None), unchanged=int(kept is not None))
        return kept or self._capture(delivery, zone, epoch, attempt, current)

    def _kept(self, delivery: Delivery, current: Publish | None) -> PartitionOutcome | None:
        """What is published is pinned or still as delivered."""
        pin = current_pins(self._ledger.connection, [self._node.name]).get((self._node.name, WHOLE))
        if pin is not None and current is None:
            message = f"{self._node.name} isn't published and can't be captured: {pin}."
            return PartitionOutcome(WHOLE, "failed", error=PermanentError(message))
        if current is None:
            return None
        if pin is not None:
            return pruned_outcome(current, str(pin))
        if current.fingerprint == delivery.fingerprint and current.token == self._token(current.version):
            record_pruned(
                self._ledger.connection,
                self._node.name,
                self._run_id,
                [current],
                files=1,
                size_bytes=current.size_bytes,
            )
            return pruned_outcome(current, f"source fingerprint is still {delivery.fingerprint}")
        return None

    def _intend(self, epoch: int) -> str:
        logic = Logic(self._node.logic_version, self._node.logic_parts)
        attempt = self._ledger.open_attempt(
            self._node.name, self._run_id, logic=logic, sized=self._runtime.sized(self._node)
        )
        self._ledger.intend(attempt, [IntendedPartition(WHOLE, epoch, None)])
        return attempt

    def _capture(
        self, delivery: Delivery, zone: RawZone, epoch: int, attempt: str, current: Publish | None
    ) -> PartitionOutcome:
        started = time.monotonic()
        landed = delivery.land(zone)
        record = zone.record(delivery.fingerprint, landed, attempt)
        failpoint("deliver.landed", self._node.name)
        report(self._node.name, "landed", objects=len(landed))
        size = self._runtime.size(self._node)
        with connect(self._runtime.settings, threads=size.threads, memory_mb=size.memory_mb) as engine:
            now = delivery.schema(engine, landed)
            self._use(follow_source(self._runtime, self._ledger, self._node, now, self._run_id))
            reading = reading_of(self._followed, now)
            source = keys.source_input(self._node.dataset)
            letters = self._runtime.letters(self._ledger, self._node.name, attempt, self._run_id, source)
            keep = partial(self._keep_rejected, letters, epoch)
            write = writer_of_delivery(self._runtime, self._node, engine, delivery, landed, reading, self._measures)
            try:
                written = self._write(write, now, attempt, epoch, keep)
            finally:  # also of what failed
                record_measures(self._ledger, attempt, WHOLE, self._measures)
            failpoint("deliver.files_written", self._node.name)
            stored = retry_transient(lambda: self._read_back(engine, written), self._node.name)
            outcome = self._audit(written, stored, epoch, delivery.fingerprint)
            letters.commit()
            outcome.letters = letters.counts(WHOLE)
            if outcome.error is not None:
                self._ledger.settle(attempt, "failed", "no partition passed its audit")
                return outcome
            alias = current.epoch if current and current.version == stored.version else None
            outcome.status = "published" if alias is None else "unchanged"
            paths = written.paths
            if alias is not None or not written.written:
                paths = (self._write_empty(engine, epoch, outcome.token),)
        failpoint("audit.passed", self._node.name)
        account = self._account(written, stored)
        staged = StagedPartition(WHOLE, outcome.token, epoch, stored.version, stored.rows, alias)
        evidence = {
            "counts": account.counts,
            "account": account.as_json(),
            "linked": [],
            "fingerprint": delivery.fingerprint,
            "inputs": [vars(i) for i in outcome.inputs],
            "raw": record,
            "engine": written.engine,
            "stage_s": round(time.monotonic() - started, 3),
        }
        self.batch = self._runtime.store.stage(
            self._ledger, self._address, attempt, self._run_id, [WrittenPartition(staged, paths, evidence)]
        )
        return outcome

    def _use(self, followed: Followed) -> None:
        """The table's columns from here on."""
        self._followed, self._address = followed, followed.address
        self._field_ids = field_ids(followed.schema, self._address.columns)
        self._schema = read_schema(followed.schema)

    def _write(
        self,
        write: Callable[..., WrittenRows],
        now: SourceSchema | None,
        attempt: str,
        epoch: int,
        keep: "Callable[[duckdb.DuckDBPyConnection], Mapping[str, int]]",
    ) -> WrittenRows:
        """Write the rows; once more where their values made the table wider."""
        once = partial(
            write,
            asset=self._node.name,
            contract=self._address.contract,
            folder=staged_folder(self._address.location, WHOLE, epoch, attempt.rpartition("-")[2]),
            run_id=self._run_id,
            field_ids=self._field_ids,
            keep_rejected=keep,
            look=partial(self._look, now),
            key=self._key,
        )
        try:
            return retry_transient(once, self._node.name)
        except _WidenedError:
            return self._write(write, now, attempt, epoch, keep)

    def _look(self, now: SourceSchema | None, engine: "duckdb.DuckDBPyConnection", paths: Sequence[str]) -> None:
        """Whether rejected text tells of another type. Raises _WidenedError when the table is wider now."""
        if now is None or now.typed:
            return
        contract, mode = self._address.contract, mode_of(self._node)
        if changes := find_text_changes(engine, contract, paths, self._schema, mode):
            record = SchemaRecord.of(self._runtime.store.created(self._address))
            followed = follow(self._runtime, self._ledger, self._node, record, now, changes, self._run_id)
            self._use(replace(followed, changes=[*self._followed.changes, *changes]))
            if any(c.action == "adopted" for c in changes):
                raise _WidenedError

    def _read_back(self, engine: "duckdb.DuckDBPyConnection", written: WrittenRows) -> StoredPartition:
        import duckdb

        paths = list(written.paths) or [self._write_empty(engine, 0, "0")]
        try:
            return read_back(engine, self._address.contract, parquet_scan(paths, self._schema))
        except duckdb.Error as e:
            raise engine_error(self._node.name, e) from e

    def _write_empty(self, engine: "duckdb.DuckDBPyConnection", epoch: int, token: str) -> str:
        return write_empty(engine, self._address, WHOLE, epoch=epoch, token=token, field_ids=self._field_ids)

    def _keep_rejected(self, letters: Letters, epoch: int, engine: "duckdb.DuckDBPyConnection") -> "Mapping[str, int]":
        return letters.write(engine, JUDGED, self._node.contract.key, partition=WHOLE, epoch=epoch)

    def _audit(self, written: WrittenRows, stored: StoredPartition, epoch: int, fingerprint: str) -> PartitionOutcome:
        """Rows against what the source's files were counted to hold, and the key."""
        account = self._account(written, stored)
        reasons, counts = "; ".join(f"{r} ({n})" for r, n in written.reasons.items()), account.counts
        checks = [
            accounted(account),
            CheckResult(UNIQUE_KEY, stored.keys == stored.rows, metadata={"rows": stored.rows, "keys": stored.keys}),
        ]
        outcome = PartitionOutcome(
            WHOLE,
            "published",
            stored.version,
            self._token(stored.version),
            [self._input(stored.version)],
            checks,
            metadata={
                "dagster/partition_row_count": stored.rows,
                "epoch": epoch,
                "engine": written.engine,
                "source_fingerprint": fingerprint,
                **self._followed.metadata(),
                **counts,
                "rejected_share": rejected_share(counts),
                **told_measures(self._measures),
            },
        )
        problem = None
        if written.rejected and not written.written:
            problem = (
                f": none of the {written.rejected} rows of this delivery fits the contract, so it isn't published: "
                f"{reasons}. Deliver it again, or correct the manifest."
            )
        elif too_many := too_many_rejected(self._node, counts):
            problem = f" isn't published: {too_many}"
        elif blocked := [c for c in checks if c.blocks]:
            problem = f" failed its audit: {'; '.join(map(str, blocked))}."
        if problem is not None:
            outcome.status, outcome.error = "failed", PermanentError(f"{self._node.name}{problem}")
        return outcome

    def _account(self, written: WrittenRows, stored: StoredPartition) -> Account:
        """Written is what storage gives back."""
        counts = {
            "read": written.read,
            "written": stored.rows,
            "rejected": written.rejected,
            "deduplicated": 0,
            "filtered": 0,
        }
        return Account(counts, keys.source_input(self._node.dataset), reasons=written.reasons)

    def _input(self, version: str) -> InputVersion:
        return InputVersion(keys.source_input(self._node.dataset), WHOLE, version)

    def _token(self, version: str) -> str:
        return captured_token(self._node, WHOLE, version)
