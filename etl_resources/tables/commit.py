"""One catalog compare-and-swap, and the retry around it. Every change of a table goes through here.

The stock transaction of PyIceberg deduplicates requirements by type, which can drop the guard of main; so updates and
requirements are built by its snapshot producer and committed by `catalog.commit_table` with our own requirements.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from etl_resources.errors import TransientError, UnknownCommitError
from etl_resources.retries import backoff_s, retry_transient
from etl_resources.tables.version_numbers import numbered

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

T = TypeVar("T")

MAX_TRIES = 50
FIRST_WAIT_S, MAX_WAIT_S = 0.04, 0.5
MERGED_MANIFESTS = 10
"""A snapshot with as many manifests has them merged into one: every publish and every reader reads them all."""


class ConflictError(TransientError):
    """The table moved since it was read: read it again and decide again."""


def build_snapshot(
    table: "Table", *, add: Iterable["DataFile"], delete: Iterable["DataFile"], summary: dict[str, str]
) -> tuple[Any, tuple[Any, ...]]:
    """(producer, updates) of a snapshot on main that swaps files; nothing is committed yet.

    Its manifests are written anew when the storage fails meanwhile.
    """
    added, deleted = list(add), list(delete)
    return retry_transient(lambda: _build(table, added, deleted, summary), ".".join(table.name()))


def _build(
    table: "Table", add: "list[DataFile]", delete: "list[DataFile]", summary: dict[str, str]
) -> tuple[Any, tuple[Any, ...]]:
    producer: Any
    update = _unchanging(table).update_snapshot(branch="main", snapshot_properties=numbered(table, summary))
    producer = update.overwrite() if delete else update.fast_append()
    _look_into_every_manifest(producer)
    _drop_dead_manifests(producer)
    _merge_manifests(producer)
    if any(f.spec_id != table.metadata.default_spec_id for f in add):
        _write_each_spec(producer, table)
        _tell_each_spec(producer, table)
    for old in delete:
        producer.delete_data_file(old)
    for new in add:
        producer.append_data_file(new)
    updates, _requirements = producer._commit()
    return producer, tuple(updates)


def _unchanging(table: "Table") -> Any:
    """A transaction to which no update is added: the stock one copies the whole metadata at each look at them."""
    from pyiceberg.table import Transaction

    class Unchanging(Transaction):
        @property
        def table_metadata(self) -> Any:
            return self._table.metadata

    return Unchanging(table)


def compare_and_swap(
    catalog: "Catalog",
    table: "Table",
    requirements: Iterable[Any],
    updates: Iterable[Any],
    producer: Any = None,
) -> None:
    """Commit, or raise ConflictError when a requirement no longer holds, or UnknownCommitError when no answer came."""
    from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
    from pyiceberg.table.update import AssertTableUUID
    from sqlalchemy.exc import DBAPIError

    try:
        done = catalog.commit_table(
            table, (AssertTableUUID(uuid=table.metadata.table_uuid), *requirements), tuple(updates)
        )
    except (CommitFailedException, ValueError) as e:
        if isinstance(e, ValueError) and "sequence number" not in str(e):
            raise
        if producer is not None:
            producer._clean_all_uncommitted()
        raise ConflictError(f"{'.'.join(table.name())}: the table changed during the commit ({e}).") from e
    except (CommitStateUnknownException, DBAPIError) as e:
        raise UnknownCommitError(f"{'.'.join(table.name())}: no answer to a commit ({type(e).__name__}).") from e
    with suppress(OSError):  # left to maintenance
        catalog._delete_old_metadata(table.io, table.metadata, done.metadata)  # commit_table leaves it to its caller


def ref_is(name: str, snapshot_id: int | None) -> Any:
    """Requirement: a branch points at this snapshot; None: there is no such branch."""
    from pyiceberg.table.update import AssertRefSnapshotId

    return AssertRefSnapshotId.model_validate({"ref": name, "snapshot-id": snapshot_id})


def point_branch(name: str, snapshot_id: int) -> Any:
    """Update: the branch points at this snapshot."""
    from pyiceberg.table.update import SetSnapshotRefUpdate

    return SetSnapshotRefUpdate.model_validate({"ref-name": name, "type": "branch", "snapshot-id": snapshot_id})


def remove_branch(name: str) -> Any:
    """Update: the branch is gone."""
    from pyiceberg.table.update import RemoveSnapshotRefUpdate

    return RemoveSnapshotRefUpdate.model_validate({"ref-name": name})


def retry_conflicts(attempt: Callable[[int], T], max_tries: int = MAX_TRIES) -> T:
    """Call attempt(n) until it no longer conflicts; waits at most 0.5 s between tries, with full jitter."""
    for n in range(1, max_tries + 1):
        try:
            return attempt(n)
        except ConflictError:
            if n == max_tries:
                raise
            time.sleep(backoff_s(n, MAX_WAIT_S, first_s=FIRST_WAIT_S))
    raise AssertionError("unreachable")


def _look_into_every_manifest(producer: Any) -> None:
    """PyIceberg skips manifests by an evaluator that its threads share and overwrite: it misses files to delete."""
    producer._build_manifest_evaluator = lambda _spec_id: lambda _manifest: True


def _drop_dead_manifests(producer: Any) -> None:
    """PyIceberg carries manifests without live files along for ever, and commits slow down with them."""
    existing = producer._existing_manifests
    producer._existing_manifests = lambda: [m for m in existing() if m.has_added_files() or m.has_existing_files()]


def _merge_manifests(producer: Any) -> None:
    """Only the stock append merges; ours do it too, but sooner than its 100 manifests."""
    from pyiceberg.table import TableProperties
    from pyiceberg.table.update.snapshot import _ManifestMergeManager

    manager = _ManifestMergeManager(
        target_size_bytes=TableProperties.MANIFEST_TARGET_SIZE_BYTES_DEFAULT,
        min_count_to_merge=MERGED_MANIFESTS,
        merge_enabled=True,
        snapshot_producer=producer,
    )
    producer._process_manifests = manager.merge_manifests


def _write_each_spec(producer: Any, table: "Table") -> None:
    """PyIceberg writes all new files by the table's spec of today; some may have been written before it changed."""
    from pyiceberg.manifest import ManifestEntry, ManifestEntryStatus

    stock, today = producer._manifests, table.metadata.default_spec_id

    def manifests() -> list[Any]:
        added: list[DataFile] = producer._added_data_files
        others = sorted({f.spec_id for f in added} - {today})
        producer._added_data_files = [f for f in added if f.spec_id == today]
        found = list(stock())
        producer._added_data_files = added
        for spec_id in others:
            with producer.new_manifest_writer(producer.spec(spec_id)) as writer:
                for file in (f for f in added if f.spec_id == spec_id):
                    entry: dict[str, Any] = {"snapshot_id": producer._snapshot_id, "data_file": file}
                    unknown: dict[str, Any] = {"sequence_number": None, "file_sequence_number": None}
                    writer.add(ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, **entry, **unknown))
            found.append(writer.to_manifest_file())
        return found

    producer._manifests = manifests


def _tell_each_spec(producer: Any, table: "Table") -> None:
    """As above, of what the summary counts."""
    from pyiceberg.table.snapshots import SnapshotSummaryCollector, Summary, update_snapshot_summaries

    def summary(properties: dict[str, str]) -> Summary:
        metadata, counted = table.metadata, SnapshotSummaryCollector()
        for file in producer._added_data_files:
            counted.add_file(file, metadata.schema(), metadata.specs()[file.spec_id])
        for file in producer._deleted_data_files:
            counted.remove_file(file, metadata.schema(), metadata.specs()[file.spec_id])
        parent = metadata.snapshot_by_id(producer._parent_snapshot_id) if producer._parent_snapshot_id else None
        told = Summary(operation=producer._operation, **counted.build(), **properties)
        return update_snapshot_summaries(told, parent.summary if parent else None)

    producer._summary = summary
