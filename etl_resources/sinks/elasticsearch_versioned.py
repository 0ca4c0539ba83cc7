"""Requests whose documents carry an attempt's epoch as their version: the server lets no older one win."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from etl_resources.errors import FencedError
from etl_resources.sinks.elasticsearch_bulk import Chunk, Loader

_CONFLICT = 409


class Upserter(Loader):
    """Writes documents that carry the epoch as their version."""

    def judge(self, item: Mapping[str, Any]) -> Exception | None:
        if int(item["status"]) == _CONFLICT:
            raise FencedError(f"{self.what}: a newer attempt than that of {self.alias} writes to it.")
        return super().judge(item)


class Deleter(Loader):
    """Deletes documents that are older than the epoch."""

    def judge(self, item: Mapping[str, Any]) -> Exception | None:
        written_since = int(item["status"]) == _CONFLICT  # by whoever moved its row here, or by a newer attempt
        return None if written_since else super().judge(item)


def deletions(ids: Sequence[str], epoch: int) -> Chunk:
    """Deletes documents by their ids, for Deleter."""
    import pyarrow as pa

    condition = {"version": epoch, "version_type": "external"}
    lines = [f"{json.dumps({'delete': {'_id': i, **condition}})}\n" for i in ids]
    return Chunk(pa.array(ids, pa.string()), pa.array(lines, pa.string()))
