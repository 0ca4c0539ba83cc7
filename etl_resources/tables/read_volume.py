"""How much of its inputs a partition reads: the files that it opens, of all that the pinned inputs consist of (M4)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from etl_resources.run_token import InputVersion
from etl_resources.tables.head import PartitionHead
from etl_resources.tables.input_tables import PinnedTable


@dataclass(frozen=True)
class ReadVolume:
    """Files and bytes. An engine that needs few columns reads less of a file than its size."""

    files: int = 0
    size_bytes: int = 0
    files_total: int = 0
    bytes_total: int = 0

    def __add__(self, other: "ReadVolume") -> "ReadVolume":
        return ReadVolume(
            self.files + other.files,
            self.size_bytes + other.size_bytes,
            self.files_total + other.files_total,
            self.bytes_total + other.bytes_total,
        )

    def as_json(self) -> dict[str, int]:
        """For the ledger."""
        return vars(self).copy()

    def as_metadata(self) -> dict[str, Any]:
        """For the web UI, which plots numbers."""
        share = self.size_bytes / self.bytes_total if self.bytes_total else 0.0
        return {
            "files_read": self.files,
            "files_total": self.files_total,
            "bytes_read": self.size_bytes,
            "bytes_total": self.bytes_total,
            "bytes_read_share": round(share, 4),
        }


class _Size(NamedTuple):
    files: int
    size_bytes: int


class InputSizes:
    """The sizes of pinned tables, added up once for all partitions of a step."""

    def __init__(self, inputs: Mapping[str, PinnedTable]) -> None:
        self._sizes = {name: {p: _size(h) for p, h in table.heads.items()} for name, table in inputs.items()}
        of_all = [size for sizes in self._sizes.values() for size in sizes.values()]
        self._total = _Size(sum(s.files for s in of_all), sum(s.size_bytes for s in of_all))

    def read_by(self, versions: Iterable[InputVersion]) -> ReadVolume:
        """What a partition reads that is made from these versions; what isn't a pinned table (totals) has no files."""
        places = {(v.asset, v.partition) for v in versions}
        read = [self._sizes[a][p] for a, p in places if p in self._sizes.get(a, {})]
        return ReadVolume(sum(s.files for s in read), sum(s.size_bytes for s in read), *self._total)


def _size(head: PartitionHead) -> _Size:
    read = set(head.data_paths)
    return _Size(len(read), sum(f.file_size_in_bytes for f in head.files if f.file_path in read))
