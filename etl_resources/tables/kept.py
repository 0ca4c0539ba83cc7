"""Files that never change once they are written, kept in memory by path: a table's metadata and its manifests.

One commit looks at the same few files a dozen times; reading each once is most of what makes it fast. What is
*current* is always asked of the catalog, so nothing here can be out of date.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

V = TypeVar("V")

METADATA_FILES_MAX = 32
"""Some 100 KB each."""


class Kept(Generic[V]):
    """The last used values by path, at most `weight_max` together; safe to use from several threads."""

    def __init__(self, weight_max: int, weight: Callable[[V], int] = lambda _: 1) -> None:
        self._weight_max, self._weight = weight_max, weight
        self._values: OrderedDict[str, V] = OrderedDict()
        self._total = 0
        self._lock = threading.Lock()

    def get(self, path: str, read: Callable[[], V]) -> V:
        """The value, read unless it is kept."""
        with self._lock:
            if path in self._values:
                self._values.move_to_end(path)
                return self._values[path]
        value = read()
        self.put(path, value)
        return value

    def put(self, path: str, value: V) -> None:
        """Keep a value that was just read or written."""
        with self._lock:
            if path not in self._values:
                self._values[path] = value
                self._total += self._weight(value)
            while self._total > self._weight_max:
                self._total -= self._weight(self._values.popitem(last=False)[1])


def keep_metadata(catalog: "Catalog") -> None:
    """Let an SQL catalog read each metadata file once, and none that it wrote itself; connections to S3 stay open.

    Uses private methods of pyiceberg 0.12.0 (tests/integration/test_pyiceberg_contract.py).
    """
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.serializers import FromInputFile
    from pyiceberg.table import Table

    if not isinstance(catalog, SqlCatalog):
        return
    kept: Kept[Any] = Kept(METADATA_FILES_MAX)
    files: Kept[Any] = Kept(METADATA_FILES_MAX)
    write, load_io = catalog._write_metadata, catalog._load_file_io

    def load_file_io(properties: Any = None, location: str | None = None) -> Any:
        return files.get(repr(sorted((properties or {}).items())), lambda: load_io(properties or {}, location))

    def table_of(row: Any) -> "Table":
        path: str = row.metadata_location
        metadata = kept.get(path, lambda: FromInputFile.table_metadata(load_file_io().new_input(path)))
        identifier = (*catalog.identifier_to_tuple(row.table_namespace), row.table_name)
        return Table(identifier, metadata, path, load_file_io(metadata.properties, path), catalog)

    def write_metadata(metadata: Any, io: Any, metadata_path: str) -> None:
        write(metadata, io, metadata_path)
        kept.put(metadata_path, metadata)

    replaced = {
        "_convert_orm_to_iceberg": table_of, "_write_metadata": write_metadata, "_load_file_io": load_file_io,
    }  # fmt: skip
    for name, function in replaced.items():
        setattr(catalog, name, function)
