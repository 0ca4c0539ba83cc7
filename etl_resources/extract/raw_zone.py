"""The raw zone: original bytes of deliveries, raw/{dataset}/run_id=…/ in the platform's bucket (G2).

An object is named by its content's marker, so that a later run finds what an earlier one landed and lands nothing
twice. S3 shows an object only when it is complete: what is there is whole.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from etl_resources.conventions import parse_raw_path, raw_location, raw_name, raw_note
from etl_resources.errors import PermanentError
from etl_resources.extract.object_stream import ObjectStream
from etl_resources.object_store import ObjectStore, bucket_and_key
from etl_resources.retries import retry_transient


@dataclass(frozen=True)
class RawObject:
    """An original object or page, and where its copy lies."""

    name: str
    """At the source: the object's key, the page's address without secrets."""
    marker: str
    """What tells this content of `name` from any other: 16 hex digits of `marker_of`."""
    size_bytes: int
    path: str
    """s3://…/raw/{dataset}/run_id=…/{marker}/{name}"""
    run_id: str
    """The run that landed it."""


@dataclass(frozen=True)
class RecordedDelivery:
    """What RawZone.record wrote down of a delivery."""

    path: str
    attempt: str
    objects: tuple[str, ...]
    """Paths, of any run's folder."""

    @classmethod
    def parse(cls, path: str, content: bytes) -> "RecordedDelivery":
        """Raises PermanentError when it isn't one."""
        try:
            told = json.loads(content)
            return cls(path, told["attempt"], tuple(o["path"] for o in told["objects"]))
        except (ValueError, TypeError, KeyError) as e:
            raise PermanentError(f"{path} is no record of a delivery ({e!r}). Look who changed it.") from e


def marker_of(*identity: object) -> str:
    """16 hex digits of what identifies a content: an object's key, ETag, size and version; a page's bytes."""
    return hashlib.sha256(json.dumps([str(i) for i in identity]).encode()).hexdigest()[:16]


class RawZone:
    """The raw zone of one dataset, as one run writes it."""

    def __init__(self, store: ObjectStore, dataset: str, run_id: str) -> None:
        """store: that of the raw location."""
        self.store, self.dataset, self.run_id = store, dataset, run_id
        self.newest_capture = 0
        """Epoch of the newest capture that another run has made of the system, when an observation begins."""
        self.location = raw_location(store.bucket)

    @cached_property
    def landed(self) -> dict[tuple[str, str], RawObject]:
        """(name, marker) → what was landed by any run so far; `remember` adds to it."""
        found: dict[tuple[str, str], RawObject] = {}
        listing = retry_transient(lambda: list(self.store.list(self.dataset)), self._what)
        for stored in listing:
            parsed = parse_raw_path(stored.path)
            if parsed is not None:
                run_id, marker, name = parsed
                found[name, marker] = RawObject(name, marker, stored.size_bytes, stored.path, run_id)
        return found

    def place(self, name: str, marker: str) -> str:
        """Path at which this run lands a content."""
        return f"{self.location}/{raw_name(self.dataset, self.run_id, marker, name)}"

    def remember(self, name: str, marker: str, size_bytes: int) -> RawObject:
        """A content that this run has landed at its `place`."""
        self.landed[name, marker] = RawObject(name, marker, size_bytes, self.place(name, marker), self.run_id)
        return self.landed[name, marker]

    def open(self, raw: RawObject) -> ObjectStream:
        """The landed bytes, streamed."""
        bucket, key = bucket_and_key(raw.path)
        return ObjectStream(self.store.client, {"Bucket": bucket, "Key": key}, raw.size_bytes, raw.path)

    def put(self, name: str, content: bytes) -> RawObject:
        """Land a small content, such as a page; its marker is that of its bytes. What is there already stays."""
        marker = marker_of(name, hashlib.sha256(content).hexdigest())
        if (name, marker) not in self.landed:
            retry_transient(lambda: self.store.write(self.place(name, marker), content), self._what)
            self.remember(name, marker, len(content))
        return self.landed[name, marker]

    def record(self, fingerprint: str, objects: Sequence[RawObject], attempt: str) -> str:
        """Write down which objects an attempt's delivery consists of, after all are landed. Path of the record."""
        path = f"{self.location}/{raw_note(self.dataset, self.run_id, 'delivery', marker_of(fingerprint))}"
        entries = [{k: v for k, v in asdict(o).items() if k != "run_id"} for o in objects]
        about = {"fingerprint": fingerprint, "run_id": self.run_id, "attempt": attempt}
        content = json.dumps({**about, "objects": entries}, indent=1).encode()
        retry_transient(lambda: self.store.write(path, content), self._what)
        return path

    @property
    def _what(self) -> str:
        return f"raw zone of {self.dataset}"
