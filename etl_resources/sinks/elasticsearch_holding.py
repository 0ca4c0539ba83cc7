"""Who may write to an upserted target, and whose requests may still be under way.

One attempt holds the target; one with a higher epoch takes it, one with a lower epoch never gets it again. A request
that had passed the holder's alias when that was taken away still arrives some time. Documents are safe from it where a
later attempt wrote them: their version is higher. To leave a document alone is safe only if no such request can be
under way, which the marks tell. An attempt leaves `begun` when it begins, and `ended` in its place when every request
of it was answered; who dies, fails or is fenced leaves `begun` behind.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from etl_resources.errors import FencedError
from etl_resources.sinks.elasticsearch_aliases import Action, TargetState, change
from etl_resources.sinks.elasticsearch_names import (
    begun_alias,
    begun_epoch,
    documents,
    ended_alias,
    ended_epoch,
    holder_alias,
    holder_of,
    mark_of,
)

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch


@dataclass(frozen=True)
class Holding:
    """The aliases of a target's documents that tell it, of one moment."""

    state: TargetState

    @cached_property
    def aliases(self) -> Collection[str]:
        """Of the documents' index."""
        return self.state.indexes.get(documents(self.state.target), frozenset())

    @property
    def holders(self) -> list[str]:
        """Aliases through which documents are written; more than one only for a moment."""
        return [a for a in self.aliases if holder_of(a)]

    @property
    def begun(self) -> list[int]:
        """Epochs of attempts that may have requests under way."""
        return sorted(e for e in map(begun_epoch, self.aliases) if e is not None)

    @property
    def ended(self) -> list[int]:
        """Epochs of attempts that ended; only the newest is kept."""
        return sorted(e for e in map(ended_epoch, self.aliases) if e is not None)

    @property
    def newest(self) -> int:
        """Epoch of the newest attempt that ever held the target; 0: none."""
        held = [found[0] for a in self.holders if (found := holder_of(a))]
        return max([*held, *self.begun, *self.ended], default=0)

    def under_way(self, besides: int) -> int | None:
        """Newest epoch of which requests may be under way, but for those of the attempt that asks; 0: none. None when
        nobody knows: the marks are younger than the documents, or were lost."""
        return max((e for e in self.begun if e != besides), default=0) if self.ended else None


def take(client: "Elasticsearch", asset: str, target: str, attempt: str, epoch: int) -> None:
    """Take the target from older attempts. Raises FencedError when a newer one holds it, or held it."""
    mine, index = holder_alias(target, epoch, attempt), documents(target)

    def decide(state: TargetState) -> list[Action]:
        holding = Holding(state)
        if holding.newest > epoch:
            raise FencedError(f"{asset}: an attempt that is newer than epoch {epoch} holds it, or wrote since.")
        surplus = [begun_alias(target, e) for e in holding.begun[:-1]]  # what is under way is older than the newest
        return [
            *_removed(index, [*holding.holders, *surplus]),
            _added(index, mine),
            _added(index, begun_alias(target, epoch)),
        ]

    change(client, target, decide, lambda state: mine in Holding(state).aliases)


def end(client: "Elasticsearch", target: str, attempt: str, epoch: int) -> None:
    """Say that every request of the attempt was answered, unless another one has taken the target."""
    mine, index = holder_alias(target, epoch, attempt), documents(target)

    def decide(state: TargetState) -> list[Action]:
        holding = Holding(state)
        if mine not in holding.aliases:
            return []
        before = [ended_alias(target, e) for e in holding.ended]
        return [
            *_removed(index, [begun_alias(target, epoch), *before]),
            _added(index, ended_alias(target, epoch)),
        ]

    change(client, target, decide, lambda state: epoch in Holding(state).ended)


def fence(client: "Elasticsearch", target: str, attempts: Collection[str]) -> None:
    """Take the target from attempts; what they have under way is remembered."""
    marks = set(map(mark_of, attempts))

    def theirs(state: TargetState) -> list[str]:
        return [a for a in Holding(state).holders if (found := holder_of(a)) and found[1] in marks]

    change(client, target, lambda s: _removed(documents(target), theirs(s)), lambda s: not theirs(s))


def _removed(index: str, aliases: Collection[str]) -> list[Action]:
    return [{"remove": {"index": index, "alias": a, "must_exist": True}} for a in aliases]


def _added(index: str, alias: str) -> Action:
    return {"add": {"index": index, "alias": alias, "is_hidden": True}}
