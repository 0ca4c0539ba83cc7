"""What is published: per partition its epoch and files, read from the table's manifests.

Epochs are read from manifest entries, not by a scan: a scan prunes files without rows, and with them the epoch of an
emptied partition.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from etl_resources.conventions import parse_staged_path
from etl_resources.errors import PermanentError
from etl_resources.retries import retry_transient

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table


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
    for manifest in snapshot.manifests(table.io) if snapshot else []:
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
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
        for manifest in (snapshot.manifests(table.io) if snapshot else [])
        if manifest.added_snapshot_id == snapshot_id
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
        if entry.status == ManifestEntryStatus.ADDED and entry.snapshot_id == snapshot_id
    ]
