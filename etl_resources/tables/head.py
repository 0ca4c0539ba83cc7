"""What is published: per partition its epoch and files, read from the table's manifests.

Epochs are read from manifest entries, not by a scan: a scan prunes files without rows, and with them the epoch of an
emptied partition.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from etl_resources.conventions import parse_staged_path
from etl_resources.errors import PermanentError
from etl_resources.retries import retry_transient
from etl_resources.tables.kept import Kept

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import DataFile, ManifestEntry, ManifestFile
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

ENTRIES_MAX = 20_000
"""Data files of manifests that are kept in memory, some 3 KB each."""
LISTS_MAX = 100
_manifests: "Kept[list[ManifestEntry]]" = Kept(ENTRIES_MAX, len)
_lists: "Kept[list[ManifestFile]]" = Kept(LISTS_MAX)


@dataclass
class PartitionHead:
    """A partition's published files. `files` may hold a rowless marker that only raises the epoch."""

    epoch: int = 0
    token_prefix: str = ""
    files: list["DataFile"] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(f.record_count for f in self.files)

    @property
    def size_bytes(self) -> int:
        return sum(f.file_size_in_bytes for f in self.files)

    @property
    def data_paths(self) -> list[str]:
        """Files to read: those with rows, or one without when the partition is empty."""
        full = [f.file_path for f in self.files if f.record_count]
        return sorted(full) or [f.file_path for f in self.files][:1]


def read_head(table: "Table", snapshot_id: int | None = None) -> dict[str, PartitionHead]:
    """Partition → its head at a snapshot (default: current). Partitions never published are absent."""
    return retry_transient(lambda: _read_head(table, snapshot_id), ".".join(table.name()))


def _read_head(table: "Table", snapshot_id: int | None) -> dict[str, PartitionHead]:
    snapshot = table.snapshot_by_id(snapshot_id) if snapshot_id else table.current_snapshot()
    heads: dict[str, PartitionHead] = {}
    for manifest in _manifests_of(snapshot, table.io) if snapshot else []:
        for entry in _entries(manifest, table.io):
            try:
                partition, epoch, token_prefix = parse_staged_path(entry.data_file.file_path)
            except ValueError as e:
                raise PermanentError(f"{'.'.join(table.name())}: {e} Remove it with the tool that added it.") from e
            head = heads.setdefault(partition, PartitionHead())
            head.files.append(entry.data_file)
            if epoch > head.epoch:
                head.epoch, head.token_prefix = epoch, token_prefix
    return heads


def added_files(table: "Table", snapshot_id: int) -> list["DataFile"]:
    """Data files that one snapshot added."""
    return retry_transient(lambda: _added_files(table, snapshot_id), ".".join(table.name()))


def _added_files(table: "Table", snapshot_id: int) -> list["DataFile"]:
    from pyiceberg.manifest import ManifestEntryStatus

    snapshot = table.snapshot_by_id(snapshot_id)
    return [
        entry.data_file
        for manifest in (_manifests_of(snapshot, table.io) if snapshot else [])
        if manifest.added_snapshot_id == snapshot_id
        for entry in _entries(manifest, table.io)
        if entry.status == ManifestEntryStatus.ADDED and entry.snapshot_id == snapshot_id
    ]


def _manifests_of(snapshot: "Snapshot", io: "FileIO") -> "list[ManifestFile]":
    return _lists.get(snapshot.manifest_list, lambda: snapshot.manifests(io))


def _entries(manifest: "ManifestFile", io: "FileIO") -> "list[ManifestEntry]":
    """Entries that were not deleted."""
    return _manifests.get(manifest.manifest_path, lambda: manifest.fetch_manifest_entry(io, discard_deleted=True))
