"""Maintenance of the project: every table, and Dagster's event log. What the CLI and the scheduled job run."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from etl_assets.graph.runtime import Runtime
from etl_assets.raw_cleanup import clean_raw
from etl_resources.classify import classify
from etl_resources.errors import PermanentError
from etl_resources.looked_up import forget_lookups
from etl_resources.suggest import hint
from etl_resources.tables.maintenance import TableMaintenance

if TYPE_CHECKING:
    import dagster as dg

    from etl_assets.event_log_purge import PurgedEvents
    from etl_resources.ledger.ledger import Ledger
    from etl_resources.tables.maintenance import MaintenancePolicy

Progress = Callable[[str], None]


@dataclass(frozen=True)
class MaintenanceReport:
    """What was done, or would be; `failed` names tables that could not be maintained now, and why."""

    tables: Sequence[TableMaintenance]
    events: "PurgedEvents | None"
    failed: dict[str, str]
    lookups_forgotten: int = 0
    """Remembered lookups of contents that are no longer current."""

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "tables": [t.as_json() for t in self.tables],
            "events": vars(self.events) if self.events else None,
            "failed": self.failed,
            "lookups_forgotten": self.lookups_forgotten,
        }

    def lines(self) -> list[str]:
        """For people: one line per table, its notes below."""
        found: list[str] = []
        for t in self.tables:
            found.append(f"{t.asset}: {_what(t)}")
            found += [f"  {note}" for note in t.notes]
        found += [f"{asset}: failed: {why}" for asset, why in self.failed.items()]
        if self.lookups_forgotten:
            found.append(f"Ledger: {self.lookups_forgotten} lookups of earlier contents forgotten")
        if self.events is not None:
            found.append(
                f"Dagster: {self.events.runs_deleted} old runs deleted, {self.events.runs_kept} kept "
                "(they hold the latest event of a partition or check)"
            )
        return found


def maintain(
    runtime: Runtime,
    tables: Sequence[str],
    progress: Progress,
    *,
    instance: "dg.DagsterInstance | None" = None,
    checks: "Sequence[dg.AssetCheckKey]" = (),
    dry_run: bool = False,
) -> MaintenanceReport:
    """Maintain the tables (default: all) and, given an instance, Dagster's event log.

    A table whose maintenance fails is reported and the others go on. Raises PermanentError for an unknown table,
    TransientError when the ledger can't be reached.
    """
    from etl_resources.engines.embedded import connect
    from etl_resources.ledger.ledger import Ledger
    from etl_resources.tables.maintenance import MaintenancePolicy, maintain_table

    for name in tables:
        if name not in runtime.addresses:
            raise PermanentError(f"Unknown table {name!r}; {hint(name, list(runtime.addresses))}.")
    policy = MaintenancePolicy.of(runtime.settings)
    done: list[TableMaintenance] = []
    failed: dict[str, str] = {}
    with ExitStack() as until_done:
        ledger = until_done.enter_context(Ledger.open(runtime.settings))
        engine = until_done.enter_context(connect(runtime.settings))
        for name, address in runtime.addresses.items():
            if tables and name not in tables:
                continue
            progress(f"{name}: looking" if dry_run else f"{name}: maintaining")
            try:
                done.append(maintain_table(runtime.store.catalog, ledger, engine, address, policy, dry_run=dry_run))
                _clean_raw(runtime, ledger, name, done[-1], dry_run)
                _clean_letters(runtime, ledger, name, done[-1], policy, dry_run)
            except Exception as e:
                known = classify(e)
                if known is None:
                    raise
                failed[name] = str(known)
        with ledger.connection.transaction(force_rollback=dry_run):
            forgotten = forget_lookups(ledger.connection)
    events = None
    if instance is not None:
        progress("Dagster: old runs")
        events = _purge(runtime, instance, checks, dry_run)
    return MaintenanceReport(done, events, failed, forgotten)


def _clean_raw(runtime: Runtime, ledger: "Ledger", name: str, done: TableMaintenance, dry_run: bool) -> None:
    cleaned = clean_raw(runtime, ledger, runtime.project.tables[name], dry_run=dry_run)
    done.raw_objects = len(cleaned.objects) + len(cleaned.uploads)
    done.raw_bytes = sum(o.size_bytes for o in cleaned.objects)
    done.notes += cleaned.notes


def _clean_letters(
    runtime: Runtime, ledger: "Ledger", name: str, done: TableMaintenance, policy: "MaintenancePolicy", dry_run: bool
) -> None:
    """Those of a table, and of the targets that it is served to."""
    from etl_resources.dead_letters.upkeep import clean_letters

    targets = [n.name for n in runtime.project.serving if n.table.name == name]
    guard, data = timedelta(seconds=policy.retention.guard_s), runtime.addresses[name].identifier
    for asset, table in [(name, data), *((target, None) for target in targets)]:
        letters = runtime.letters_addresses[asset]
        cleaned = clean_letters(runtime.store.catalog, ledger, letters, table, guard, dry_run=dry_run)
        done.letters_removed += len(cleaned.removed)
        done.data_files += len(cleaned.orphans)
        done.data_bytes += sum(o.size_bytes for o in cleaned.orphans)
        done.metadata_files += cleaned.metadata_files
        done.metadata_bytes += cleaned.metadata_bytes


def _purge(
    runtime: Runtime, instance: "dg.DagsterInstance", checks: "Sequence[dg.AssetCheckKey]", dry_run: bool
) -> "PurgedEvents":
    from etl_assets.event_log_purge import purge_events

    before = datetime.now(UTC) - timedelta(days=runtime.settings.maintain_event_days)
    return purge_events(instance, checks, before=before, dry_run=dry_run)


def _what(done: TableMaintenance) -> str:
    files = sum(done.compacted.values())
    found = [
        f"{files} files of {len(done.compacted)} partitions into {len(done.compacted)}" if files else "",
        f"{done.snapshots_expired} snapshots expired, {done.snapshots_kept} kept" if done.snapshots_expired else "",
        f"dead letters of {done.letters_removed} partitions removed" if done.letters_removed else "",
        _deleted(done.data_files, "data files", done.data_bytes),
        _deleted(done.metadata_files, "metadata files", done.metadata_bytes),
        _deleted(done.raw_objects, "raw objects", done.raw_bytes),
    ]
    return "; ".join(f for f in found if f) or "nothing to do"


def _deleted(files: int, what: str, size_bytes: int) -> str:
    return f"{files} {what} ({size_bytes / 1e6:,.1f} MB) deleted" if files else ""
