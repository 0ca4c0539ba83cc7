"""The store of Iceberg tables: stage a batch of written partitions, publish it, record the evidence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from etl_resources.errors import PermanentError, TransientError
from etl_resources.failpoints import failpoint
from etl_resources.ledger.ledger import Ledger
from etl_resources.settings import Settings
from etl_resources.tables.address import TableAddress
from etl_resources.tables.catalog import create_table, ensure_table, open_catalog
from etl_resources.tables.data_files import data_files
from etl_resources.tables.evidence import write_evidence
from etl_resources.tables.head import read_head
from etl_resources.tables.input_tables import PinnedTable, pin
from etl_resources.tables.publish import PublishOutcome, drop_branch, publish
from etl_resources.tables.settle import settle_table
from etl_resources.tables.stage import StagedPartition, stage

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table


@dataclass(frozen=True)
class WrittenPartition:
    """An audited partition, written where no reader sees it."""

    staged: StagedPartition
    paths: tuple[str, ...]
    evidence: Mapping[str, Any]
    """counts, linked, fingerprint, stage_s: what the ledger keeps beside the summary."""
    kept: "tuple[DataFile, ...]" = ()
    """Files of an earlier version of the partition that are put back as they are."""

    def recorded(self, **found: Any) -> tuple[str, str, dict[str, Any]]:
        """As the ledger records what was staged. found: what is known only of what was written."""
        s = self.staged
        known = {"version": s.version, "rows": s.rows, "alias_of": s.alias_of}
        return s.partition, s.token, {**known, **found, **self.evidence}


@dataclass
class StagedBatch:
    """What a step hands to its IO manager. Publishing twice is harmless."""

    store: "TableStore"
    ledger: Ledger
    address: TableAddress
    attempt: str
    snapshot_id: int
    prove: Callable[["Table"], None] | None = None
    outcome: PublishOutcome | None = field(default=None)

    def publish(self) -> PublishOutcome:
        """Make the batch visible in one commit and record the evidence."""
        if self.outcome is None:
            self.outcome = self.store.publish(self)
        return self.outcome


class TableStore:
    """Tables on S3 with their catalog in Postgres. Connects on first use."""

    def __init__(self, settings: Settings, bucket: str) -> None:
        self._settings, self._bucket = settings, bucket

    @cached_property
    def catalog(self) -> "Catalog":
        return open_catalog(self._settings, f"s3://{self._bucket}")

    def ensure(self, address: TableAddress) -> "Table":
        """The table, created or evolved to its contract."""
        return ensure_table(
            self.catalog,
            address.identifier,
            address.location,
            address.contract,
            with_run_id=address.with_run_id,
        )

    def created(self, address: TableAddress) -> "Table":
        """The table as it is, created if it isn't there."""
        return create_table(
            self.catalog,
            address.identifier,
            address.location,
            address.contract,
            with_run_id=address.with_run_id,
        )

    def settle(self, ledger: Ledger, address: TableAddress) -> dict[str, str]:
        """Settle attempts whose writer died."""
        return settle_table(self.catalog, ledger, address)

    def pin(self, ledger: Ledger, address: TableAddress, *, strict: bool = True) -> PinnedTable:
        """The table as published now. Not strict: partitions unknown to the ledger have no publish."""
        return pin(self.catalog, ledger, address, strict=strict)

    def published_epochs(self, address: TableAddress) -> dict[str, int]:
        """Partition → epoch of what is published."""
        return {p: h.epoch for p, h in read_head(self.catalog.load_table(address.identifier)).items()}

    def stage(
        self,
        ledger: Ledger,
        address: TableAddress,
        attempt: str,
        run_id: str,
        written: Sequence[WrittenPartition],
        prove: Callable[["Table"], None] | None = None,
    ) -> StagedBatch:
        """Put the written partitions on the attempt's branch, and what they are into the ledger."""
        table = self.catalog.load_table(address.identifier)
        pairs = [(w.staged.partition, path) for w in written for path in w.paths]
        files = data_files(table.io, table.metadata, pairs)
        pairs += [(w.staged.partition, file.file_path) for w in written for file in w.kept]
        files += [file for w in written for file in w.kept]
        paths: dict[str, list[str]] = {}
        sizes: dict[str, int] = {}
        for (partition, path), file in zip(pairs, files, strict=True):
            paths.setdefault(partition, []).append(path)
            sizes[partition] = sizes.get(partition, 0) + file.file_size_in_bytes
        ledger.record_staged(
            attempt,
            [w.recorded(files=paths[p], size_bytes=sizes[p]) for w in written for p in [w.staged.partition]],
        )
        write_evidence(table.io, ledger.connection, address.location, attempt)
        failpoint("stage.recorded", address.asset)
        with ledger.committing(address.asset):
            snapshot_id = stage(self.catalog, address.identifier, attempt, run_id, files, [w.staged for w in written])
        failpoint("stage.committed", address.asset)
        return StagedBatch(self, ledger, address, attempt, snapshot_id, prove)

    def publish(self, batch: StagedBatch) -> PublishOutcome:
        """One compare-and-swap, then the evidence. What fails here leaves no branch behind."""
        identifier = batch.address.identifier
        try:
            with batch.ledger.committing(batch.address.asset):
                outcome = publish(self.catalog, identifier, batch.attempt, batch.snapshot_id, prove=batch.prove)
        except (TransientError, PermanentError) as e:  # an unknown outcome is settled later, from the table
            self.abandon(batch, str(e))
            raise
        failpoint("publish.committed", batch.address.asset)
        partitions = [p.partition for p in outcome.published]
        batch.ledger.record_published(batch.attempt, partitions, outcome.snapshot_id, outcome.number)
        failpoint("evidence.recorded", batch.address.asset)
        return outcome

    def abandon(self, batch: StagedBatch, reason: str) -> None:
        """Fence the attempt first, then record that it failed."""
        drop_branch(self.catalog, batch.address.identifier, batch.attempt)
        failpoint("abandon.fenced", batch.address.asset)
        batch.ledger.settle(batch.attempt, "failed", reason)
