"""One bronze table during a capture: its identity, its audit, and what it hands to the store."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from etl_assets.graph import keys
from etl_assets.graph.computed import told_measures
from etl_assets.graph.outcome import PartitionOutcome, pruned_outcome
from etl_assets.graph.rejected_limits import too_many_rejected
from etl_assets.graph.source_schema import Followed
from etl_assets.project import TableNode
from etl_resources.conventions import parse_staged_path
from etl_resources.engines.embedded import connect
from etl_resources.engines.spark_metrics import SparkMeasures
from etl_resources.errors import PermanentError, RestartError
from etl_resources.exchanged import held_back
from etl_resources.extract.capture import CapturedPartition, write_empty
from etl_resources.extract.postgres import SourceTable
from etl_resources.identifiers import quote
from etl_resources.ledger.lineage import source_asset
from etl_resources.ledger.records import Publish
from etl_resources.quality.audit import UNIQUE_KEY, CheckResult, accounted
from etl_resources.quality.conservation import Account
from etl_resources.retries import retry_transient
from etl_resources.run_token import InputVersion, run_token
from etl_resources.sensitive import HashKey
from etl_resources.settings import Settings
from etl_resources.tables.address import TableAddress
from etl_resources.tables.head import read_head
from etl_resources.tables.input_tables import PinnedTable, parquet_scan
from etl_resources.tables.stage import StagedPartition
from etl_resources.tables.table_store import StagedBatch, WrittenPartition

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.table import Table


READ_AS = "~"
"""In a fingerprint, before how its partition was read."""


def captured_token(node: TableNode, partition: str, version: str) -> str:
    """Run token of what was captured of a bronze table's source, by today's logic."""
    return run_token(
        tenant=node.dataset.tenant,
        asset=node.name,
        partition=partition,
        logic_version=node.logic_version,
        inputs=[InputVersion(keys.source_input(node.dataset), partition, version)],
    )


def still_seen(kept: str | None, now: str, read_as: str) -> bool:
    """Whether a kept fingerprint is the one of now, of rows that were read as they would be now."""
    seen, _, was_read_as = (kept or "").partition(READ_AS)
    return seen == now and was_read_as in ("", read_as)


@dataclass
class BronzeTable:
    """What a capture knows of one of its tables."""

    node: TableNode
    system: str
    settings: Settings
    address: TableAddress
    source: SourceTable
    followed: Followed
    field_ids: str
    schema: str
    published: PinnedTable
    attempt: str
    key: HashKey | None = None
    """Of hashed columns."""
    started: float = field(default_factory=time.monotonic)
    fingerprints: dict[str, str] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    engine: str = ""
    """By which its rows were read, with its version."""
    measures: SparkMeasures = field(default_factory=SparkMeasures)
    """What Spark did to read them, of all partitions together."""
    measured_with: str = ""
    """Partition with which that is kept: the first that was read."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Rows of a partition whose values no longer fit their column."""
    outcomes: list[PartitionOutcome] = field(default_factory=list)
    batch: StagedBatch | None = None

    def is_current(self, partition: str, publish: Publish) -> bool:
        """Whether observation sees what was captured for the published version, by today's logic."""
        unchanged = still_seen(publish.fingerprint, self.fingerprints[partition], self.followed.read_as)
        return unchanged and publish.token == self.token(partition, publish.version)

    def _fingerprint(self, partition: str) -> str:
        """As it is kept: what was read otherwise than declared is read again when the source's columns are others."""
        read_as = self.followed.read_as
        return self.fingerprints[partition] + (f"{READ_AS}{read_as}" if read_as else "")

    def token(self, partition: str, version: str) -> str:
        """Run token of a captured content."""
        return captured_token(self.node, partition, version)

    def input(self, partition: str, version: str) -> InputVersion:
        """The source's partition as an input."""
        return InputVersion(source_asset(self.system, self.source.name), partition, version)

    def audit(self, found: CapturedPartition, epoch: int) -> PartitionOutcome:
        """Rows against the server's own count in the same snapshot, and the key."""
        counts = self._counts(found.partition, found.rows)
        checks = [
            accounted(Account(counts)),
            CheckResult(UNIQUE_KEY, found.keys == found.rows, metadata={"rows": found.rows, "keys": found.keys}),
        ]
        outcome = PartitionOutcome(
            found.partition,
            "published",
            found.version,
            self.token(found.partition, found.version),
            [self.input(found.partition, found.version)],
            checks,
            metadata={
                "dagster/partition_row_count": found.rows,
                "epoch": epoch,
                "engine": self.engine,
                "source_fingerprint": self._fingerprint(found.partition),
                **counts,
                "rejected_share": counts["rejected"] / counts["read"] if counts["read"] else 0.0,
                **self.followed.metadata(),
                **(told_measures(self.measures) if found.partition == self.measured_with else {}),
            },
        )
        problem = ""
        if blocked := [c for c in checks if c.blocks]:
            problem = f"failed its audit: {'; '.join(map(str, blocked))}."
        elif counts["rejected"] and not found.rows:
            problem = f"has no row that fits: {'; '.join(map(str, self.followed.changes))}."
        elif too_many := too_many_rejected(self.node, counts):
            problem = f"isn't published: {too_many}"
        if problem:
            outcome.status = "failed"
            outcome.error = PermanentError(f"{self.node.name}, partition {found.partition} {problem}")
        return outcome

    def source_rows(self, partition: str) -> int:
        """Rows of a partition, as the server counted them in the snapshot."""
        return int(self.fingerprints[partition].split(":")[1])

    def _counts(self, partition: str, written: int) -> dict[str, int]:
        read, rejected = self.source_rows(partition), self.rejected.get(partition, 0)
        return {"read": read, "written": written, "rejected": rejected, "deduplicated": 0, "filtered": 0}

    def written(
        self,
        engine: "duckdb.DuckDBPyConnection",
        outcome: PartitionOutcome,
        found: CapturedPartition | None,
        linked: tuple[str, ...],
        epoch: int,
    ) -> WrittenPartition:
        """An audited partition for the store: its files, or a marker when the content is the published one."""
        current = self.published.publishes.get(outcome.partition)
        alias = current.epoch if current and current.version == outcome.version else None
        if alias is not None:
            outcome.status = "unchanged"
        paths = found.paths if found else ()
        if alias is not None or not paths:
            paths = (
                write_empty(
                    engine,
                    self.address,
                    outcome.partition,
                    epoch=epoch,
                    token=outcome.token,
                    field_ids=self.field_ids,
                ),
            )
        rows = found.rows if found else 0
        staged = StagedPartition(outcome.partition, outcome.token, epoch, outcome.version, rows, alias)
        counts = self._counts(outcome.partition, rows)
        (source,) = outcome.inputs
        evidence = {
            "counts": counts,
            "account": Account(counts, source.asset).as_json(),
            "linked": list(linked),
            "fingerprint": self._fingerprint(outcome.partition),
            "inputs": [vars(i) for i in outcome.inputs],
            "engine": self.engine,
            "stage_s": round(time.monotonic() - self.started, 3),
        }
        return WrittenPartition(staged, paths, evidence)

    def no_key_elsewhere(
        self, good: set[str], linked: Mapping[str, tuple[str, ...]], epoch: int
    ) -> Callable[["Table"], None]:
        """A capture that was published since this one looked may hold a row that is here now: look again."""

        def prove(head: "Table") -> None:
            pinned = self.published
            snapshot = head.current_snapshot()
            if snapshot is None or snapshot.snapshot_id == pinned.snapshot_id:
                return
            heads = read_head(head)
            fenced = {p for p in good if p in heads and heads[p].epoch > epoch}
            torn = held_back(linked, fenced)
            if torn:
                raise RestartError(
                    f"{self.node.name}: a newer capture published {', '.join(sorted(fenced))} meanwhile, which "
                    f"exchanged rows with {', '.join(sorted(torn))}. Capture again."
                )
            winners = good - fenced
            ours = [path for path in self.paths if parse_staged_path(path)[0] in winners]
            theirs = [
                path
                for partition, h in heads.items()
                if partition not in winners
                and h.epoch != (pinned.heads[partition].epoch if partition in pinned.heads else 0)
                for path in h.data_paths
            ]
            if ours and theirs:
                self.prove_disjoint(ours, theirs)

        return prove

    def prove_disjoint(self, ours: list[str], theirs: list[str]) -> None:
        key = ", ".join(map(quote, self.source.source.key))
        with connect(self.settings) as engine:
            query = (
                f"select count(*) from {parquet_scan(ours, self.schema)} "
                f"semi join {parquet_scan(theirs, self.schema)} using ({key})"
            )
            found = retry_transient(lambda: engine.execute(query).fetchone(), self.node.name)
        if found and found[0]:
            raise RestartError(
                f"{self.node.name}: {found[0]} captured rows are in another partition that was published "
                "meanwhile. Capture again."
            )

    def kept(self, partition: str, why: str) -> PartitionOutcome:
        """The outcome of a partition that is pinned, here or in another table of the system."""
        publish = self.published.publishes.get(partition)
        if publish is not None:
            return pruned_outcome(publish, why)
        error = PermanentError(f"{self.node.name}, partition {partition} isn't published and can't be captured: {why}.")
        return PartitionOutcome(partition, "failed", error=error)

    def pruned(self, partition: str) -> PartitionOutcome:
        """The outcome of a partition that did not change."""
        proof = f"source fingerprint is still {self.fingerprints[partition]}"
        outcome = pruned_outcome(self.published.publishes[partition], proof)
        outcome.metadata = {**outcome.metadata, **self.followed.metadata()}
        return outcome
