"""Files in S3 as a source: all objects below a prefix that match a pattern are together the whole table.

What isn't read: hidden names (a folder or file that begins with . or _), names of unfinished files (.tmp, .part …),
empty objects (placeholders of folders). Multipart uploads in progress are invisible in S3.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from etl_resources.errors import PermanentError, TransientError
from etl_resources.extract.batch_stream import DeliveredRows
from etl_resources.extract.delivery import DECLARED, Reading
from etl_resources.extract.file_rows import rows_of
from etl_resources.extract.file_schema import schema_of
from etl_resources.extract.landing import land, marker
from etl_resources.extract.raw_zone import RawObject, RawZone
from etl_resources.extract.source_bucket import ListedObject, SourceBucket
from etl_resources.manifest_sources import S3FilesSource
from etl_resources.retries import retry_transient
from etl_resources.schema_drift import SourceSchema

if TYPE_CHECKING:
    import duckdb

HIDDEN = (".", "_")
UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".swp", "~")


class S3Files:
    """The files of one dataset in a system's bucket."""

    def __init__(self, source: S3FilesSource, bucket: SourceBucket) -> None:
        self._source, self._bucket = source, bucket
        self._pattern = _pattern(source.pattern)

    def observe(self, zone: RawZone) -> "FileDelivery":
        """The objects that count now. Raises as DeliveredSource.observe says."""
        return FileDelivery(self._source, self._bucket, zone, retry_transient(self.list, self._where))

    def list(self) -> list[ListedObject]:
        """The objects that count now, by key; one try."""
        found = sorted(filter(self._counts, self._bucket.list(self._source.prefix)), key=lambda o: o.key)
        if not found:
            raise PermanentError(
                f"No object of {self._where} counts (hidden, unfinished and empty ones don't). What is published "
                "stays. Check prefix and pattern; a table is emptied by a file without rows."
            )
        if self._source.settle_s:
            newest = max(found, key=lambda o: o.modified_at)
            age_s = (self._bucket.now() - newest.modified_at).total_seconds()
            if age_s < self._source.settle_s:
                raise TransientError(
                    f"{self._bucket.path(newest.key)} is {age_s:.0f} s old, and a delivery is complete when it is "
                    f"{self._source.settle_s} s old (settle_s). Run again later."
                )
        return found

    def _counts(self, found: ListedObject) -> bool:
        name = found.key.removeprefix(self._source.prefix)
        return found.size_bytes > 0 and not is_unfinished(name) and bool(self._pattern.fullmatch(name))

    @property
    def _where(self) -> str:
        return f"{self._bucket.path(self._source.prefix)}{self._source.pattern}"


class FileDelivery:
    """The objects as one listing saw them."""

    def __init__(
        self, source: S3FilesSource, bucket: SourceBucket, zone: RawZone, objects: Sequence[ListedObject]
    ) -> None:
        self._source, self._bucket, self._zone, self._objects = source, bucket, zone, objects

    @property
    def fingerprint(self) -> str:
        """Number of objects, and a hash of their markers."""
        markers = "\n".join(marker(o) for o in self._objects)
        return f"files:{len(self._objects)}:{hashlib.sha256(markers.encode()).hexdigest()[:32]}"

    def land(self, zone: RawZone) -> Sequence[RawObject]:
        """Exactly the listed versions."""
        return land(self._bucket, self._objects, zone)

    def schema(self, engine: "duckdb.DuckDBPyConnection", landed: Sequence[RawObject]) -> SourceSchema | None:
        """As Delivery.schema says."""
        return schema_of(self._source, engine, self._zone, landed)

    def rows(
        self, engine: "duckdb.DuckDBPyConnection", landed: Sequence[RawObject], reading: Reading = DECLARED
    ) -> DeliveredRows:
        """As Delivery.rows says."""
        return rows_of(self._source, engine, self._zone, landed, reading)


def is_unfinished(name: str) -> bool:
    """Whether a key, without its prefix, is one that writers give to what isn't to be read (yet)."""
    return any(part.startswith(HIDDEN) for part in name.split("/") if part) or name.lower().endswith((*UNFINISHED, "/"))


def _pattern(glob: str) -> re.Pattern[str]:
    words = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(words.get(w) or re.escape(w) for w in re.findall(r"\*\*|[*?]|[^*?]+", glob)))
