"""Whether anybody but an attempt itself changed an index: by the numbers that the server gives to its operations.

The primary shard numbers every document that is written and every deletion, whoever asks for it, without a gap. A mark
is the number that came last, in the one history of this index: restored, or made anew, it has another one. If the mark
is still what it was, so is each document. While an attempt writes, the number may have grown by the operations that
were answered to it, and by no other: what it sent twice, or somebody else sent, makes the sum differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etl_resources.retries import retry_transient

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

_NEEDED = ("uuid", "shards.*.routing.primary", "shards.*.seq_no.max_seq_no", "shards.*.commit.user_data.history_uuid")


@dataclass(frozen=True)
class Mark:
    """All that ever happened to an index."""

    history: str
    """Identity of the index and of its primary's history."""
    last: int
    """Number of the last operation; -1: none."""

    def __str__(self) -> str:
        """As a commit record keeps it."""
        return f"{self.history} {self.last}"


@dataclass
class Watch:
    """An attempt's look at an index from before its first request on."""

    client: "Elasticsearch"
    index: str
    performed: list[int] = field(default_factory=list)
    """Operations that were answered to the attempt; requests in flight append what they did."""
    before: Mark | None = field(init=False)
    """None: nothing is known, and so nothing untouched."""

    def __post_init__(self) -> None:
        self.before = read_mark(self.client, self.index)

    def was_untouched_since(self, mark: str | None) -> bool:
        """Whether nobody did anything to the index between a commit record's mark and this attempt."""
        return self.before is not None and str(self.before) == mark

    def mark(self) -> str | None:
        """For a commit record: the index now; None where somebody else may have changed it since the attempt began."""
        now, before = read_mark(self.client, self.index), self.before
        if now is None or before is None or now != Mark(before.history, before.last + sum(self.performed)):
            return None
        return str(now)


def read_mark(client: "Elasticsearch", index: str) -> Mark | None:
    """The index now; None where it has no or several primary shards: one has more documents than it was made for."""
    path = [f"indices.*.{name}" for name in _NEEDED]

    def look() -> Any:
        return client.indices.stats(index=index, level="shards", metric="docs", filter_path=path).body

    found = retry_transient(look, index).get("indices", {}).get(index, {})
    copies: Sequence[Any] = [copy for copies in found.get("shards", {}).values() for copy in copies]
    primaries = [copy for copy in copies if copy["routing"]["primary"]]
    if len(primaries) != 1:
        return None
    (primary,) = primaries
    history = f"{found['uuid']}/{primary['commit']['user_data']['history_uuid']}"
    return Mark(history, int(primary["seq_no"]["max_seq_no"]))
