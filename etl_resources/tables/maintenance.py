"""Maintenance of one table: settle, compact, expire, delete. Any step may fail or be killed; the next run goes on.

Readers and writers need not stop. Two maintenances of a table take turns: the second one leaves it alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import LiveAttempt, alone, live_attempts
from etl_resources.progress import report
from etl_resources.settings import Settings
from etl_resources.tables.address import TableAddress
from etl_resources.tables.closing_tags import tag_closings
from etl_resources.tables.commit import retry_conflicts
from etl_resources.tables.compaction import batches, compact, plan_rewrites, same_columns
from etl_resources.tables.expiry import Retention, expirable, expire
from etl_resources.tables.head import read_head
from etl_resources.tables.metadata_files import delete_unreferenced_metadata
from etl_resources.tables.orphans import delete_orphans
from etl_resources.tables.settle import recognise_published, settle_table
from etl_resources.tables.stage import partitions_of, properties_of

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

CLOCK_SKEW = timedelta(minutes=1)
"""Snapshots are stamped by their writer's clock, attempts by the ledger's."""


@dataclass(frozen=True)
class MaintenancePolicy:
    """What is kept, and what counts as a small file."""

    retention: Retention
    file_bytes: int
    """Wanted size of a compacted file; smaller files of a partition are put together."""

    @classmethod
    def of(cls, settings: Settings) -> "MaintenancePolicy":
        """As the settings say."""
        return cls(
            Retention(
                keep_versions=settings.maintain_keep_versions,
                keep_s=settings.maintain_keep_days * 86_400.0,
                max_versions=settings.maintain_max_versions,
                guard_s=settings.maintain_guard_s,
            ),
            settings.maintain_file_mb << 20,
        )


@dataclass
class TableMaintenance:
    """What was done to a table, or would be."""

    asset: str
    compacted: dict[str, int] = field(default_factory=dict)
    """Partition → files that became one, or one per bucket."""
    snapshots_expired: int = 0
    snapshots_kept: int = 0
    metadata_files: int = 0
    """Deleted metadata.json, manifest lists and manifests."""
    metadata_bytes: int = 0
    data_files: int = 0
    """Deleted data files."""
    data_bytes: int = 0
    raw_objects: int = 0
    """Deleted objects of the raw zone, and aborted uploads."""
    raw_bytes: int = 0
    letters_removed: int = 0
    """Partitions' dead letters that nobody needs any more: superseded, refused before, of dead attempts."""
    notes: list[str] = field(default_factory=list)
    """What was left undone, and why."""

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return dict(vars(self))


def maintain_table(
    catalog: "Catalog",
    ledger: Ledger,
    engine: "duckdb.DuckDBPyConnection",
    address: TableAddress,
    policy: MaintenancePolicy,
    *,
    dry_run: bool = False,
) -> TableMaintenance:
    """Do what is due. A table that doesn't exist needs nothing."""
    from pyiceberg.exceptions import NoSuchTableError

    done = TableMaintenance(address.asset)
    try:
        catalog.load_table(address.identifier)
    except NoSuchTableError:
        done.notes.append("not published yet")
        return done
    with alone(ledger, f"maintain:{address.asset}") as is_alone:
        if not is_alone:
            done.notes.append("left alone: another maintenance of it is at work")
            return done
        if not dry_run:
            settle_table(catalog, ledger, address)
            tag_closings(catalog, ledger, address)
        _compact(catalog, ledger, engine, address, policy, done, dry_run)
        _expire(catalog, ledger, address, policy.retention, done, dry_run)
        _delete(catalog, ledger, address, timedelta(seconds=policy.retention.guard_s), done, dry_run)
    report(
        address.asset,
        "maintained",
        compacted=len(done.compacted),
        expired=done.snapshots_expired,
        deleted=done.metadata_files + done.data_files,
    )
    return done


def _compact(
    catalog: "Catalog",
    ledger: Ledger,
    engine: "duckdb.DuckDBPyConnection",
    address: TableAddress,
    policy: MaintenancePolicy,
    done: TableMaintenance,
    dry_run: bool,
) -> None:
    table = catalog.load_table(address.identifier)
    rewrites = plan_rewrites(read_head(table), policy.file_bytes, table.spec().spec_id)
    if rewrites and not same_columns(address, table):
        done.notes.append("not compacted: its columns aren't the manifest's yet; materialize it first")
        return
    for batch in batches(rewrites):
        wanted = {r.partition for r in batch}
        rewritten = wanted if dry_run else compact(catalog, ledger, engine, address, batch)
        for r in batch:
            if r.partition in rewritten:
                done.compacted[r.partition] = done.compacted.get(r.partition, 0) + len(r.files) + len(r.markers)
        if wanted - rewritten:
            done.notes.append(f"published meanwhile, compacted next time: {', '.join(sorted(wanted - rewritten))}")


def _expire(
    catalog: "Catalog",
    ledger: Ledger,
    address: TableAddress,
    retention: Retention,
    done: TableMaintenance,
    dry_run: bool,
) -> None:
    def once(_: int) -> list[LiveAttempt]:
        live = live_attempts(ledger.connection)
        table = catalog.load_table(address.identifier)
        gone = expirable(
            table,
            retention,
            now=datetime.now(UTC),
            pinned_since=live[0].opened_at - CLOCK_SKEW if live else None,
            needed=_unrecorded(ledger, address.asset, table, dry_run),
        )
        if not dry_run:
            expire(catalog, table, gone)
        done.snapshots_expired, done.snapshots_kept = len(gone), len(table.snapshots()) - len(gone)
        return live

    for oldest in retry_conflicts(once)[:1]:
        done.notes.append(
            f"kept what was current since {oldest.opened_at:%Y-%m-%d %H:%M}: {oldest.attempt} is under way"
        )


def _unrecorded(ledger: Ledger, asset: str, table: "Table", dry_run: bool) -> set[int]:
    """Snapshots whose publish is current and unknown to the ledger: recovery will read it from their summaries."""
    from pyiceberg.table.snapshots import ancestors_of

    epochs = {p: h.epoch for p, h in read_head(table).items()}
    unknown = set(epochs) - set(ledger.at_epochs(asset, epochs))
    if unknown and not dry_run:
        recognise_published(table, ledger, epochs)
        unknown = set(epochs) - set(ledger.at_epochs(asset, epochs))
    if not unknown:
        return set()
    return {
        s.snapshot_id
        for s in ancestors_of(table.current_snapshot(), table.metadata)
        for p in partitions_of(properties_of(table, s.snapshot_id)).values()
        if p.partition in unknown and p.epoch == epochs[p.partition]
    }


def _delete(
    catalog: "Catalog", ledger: Ledger, address: TableAddress, guard: timedelta, done: TableMaintenance, dry_run: bool
) -> None:
    """Data files before the manifests that name them: what a crash leaves is found by listing, not by references."""
    orphans = delete_orphans(catalog, address, ledger, older_than=guard, dry_run=dry_run)
    done.data_files, done.data_bytes = _sums([o.size_bytes for o in orphans])
    files = delete_unreferenced_metadata(catalog, address, ledger, older_than=guard, dry_run=dry_run)
    done.metadata_files, done.metadata_bytes = _sums([f.size_bytes for f in files])


def _sums(sizes: Sequence[int]) -> tuple[int, int]:
    return len(sizes), sum(sizes)
