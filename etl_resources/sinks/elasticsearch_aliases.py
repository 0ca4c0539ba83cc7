"""What a target consists of on the server, and the one call that changes it: a compare-and-swap of `_aliases`.

Elasticsearch has no transactions, but a call of `_aliases` is one change of the cluster's state, all of it or nothing.
The anchor index carries the alias `{target}--v{N}`; each change removes it, which must exist, and adds
`{target}--v{N+1}`. So of two writers that read the same state one wins, and the other looks again:
docs/decisions/0008.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_resources.elasticsearch_errors import no_space
from etl_resources.errors import PermanentError, TransientError
from etl_resources.http_errors import status_of
from etl_resources.retries import retry_transient
from etl_resources.sinks.elasticsearch_names import (
    PartitionIndex,
    anchor,
    every_index,
    version_alias,
    version_number,
)

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

_MISSING, _EXISTS = 404, 400
Action = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class TargetState:
    """Indexes and aliases of a target, of one moment."""

    target: str
    number: int
    """Changes so far."""
    indexes: Mapping[str, frozenset[str]]
    """Index → its aliases."""

    def partitions(self) -> dict[str, PartitionIndex]:
        """Partition → its published index. Raises PermanentError when a partition is published twice."""
        found: dict[str, PartitionIndex] = {}
        for name, aliases in self.indexes.items():
            index = PartitionIndex.parse(name)
            if self.target in aliases and index is not None:
                if index.partition in found:
                    both = f"{index} and {found[index.partition]}"
                    raise PermanentError(f"{self.target}: somebody else added an index to the alias: {both}.")
                found[index.partition] = index
        return found

    def filled(self) -> list[PartitionIndex]:
        """Indexes of attempts, published or not."""
        return [i for i in map(PartitionIndex.parse, self.indexes) if i is not None]


def ensure_anchor(client: "Elasticsearch", target: str) -> None:
    """The anchor index exists; whoever comes second finds it."""
    body = {
        "settings": {"number_of_shards": 1, "auto_expand_replicas": "0-1", "hidden": True},
        "mappings": {"dynamic": "strict", "properties": {"record": {"type": "object", "enabled": False}}},
        "aliases": {version_alias(target, 0): {"is_hidden": True}},
    }
    create_index(client, anchor(target), body)


def create_index(client: "Elasticsearch", name: str, body: Mapping[str, Any]) -> None:
    """Create an index unless it exists, which also a lost answer leaves behind.

    Raises PermanentError when no node has space for it: what is sent to it would wait for a minute, then for nothing.
    """

    def create() -> None:
        try:
            answer = client.indices.create(index=name, **body)
        except Exception as e:
            if status_of(e) != _EXISTS or "resource_already_exists" not in str(e):
                raise
        else:
            if not answer["shards_acknowledged"]:
                _prove_space(client, name)

    retry_transient(create, name)


def _prove_space(client: "Elasticsearch", index: str) -> None:
    """No node refuses the index for its disk."""
    found = client.cluster.allocation_explain(index=index, shard=0, primary=True).body
    for node in found.get("node_allocation_decisions", ()):
        for decider in node.get("deciders", ()):
            if decider["decider"] == "disk_threshold":
                raise no_space(f"{index} gets no place: {decider['explanation']}")


def read_state(client: "Elasticsearch", target: str) -> TargetState:
    """The target now, one try. Raises PermanentError when its anchor is gone."""
    found = client.indices.get_alias(index=every_index(target), expand_wildcards="all").body
    indexes = {name: frozenset(about["aliases"]) for name, about in found.items()}
    numbers = [n for n in map(version_number, indexes.get(anchor(target), ())) if n is not None]
    if len(numbers) != 1:
        raise PermanentError(
            f"Elasticsearch target {target}: index {anchor(target)} with its one alias {target}--v… is gone. "
            f"Somebody deleted it: delete all indexes {target}-… and materialize again."
        )
    return TargetState(target, numbers[0], indexes)


def others_in_alias(client: "Elasticsearch", target: str, own: Collection[str]) -> list[str]:
    """Indexes that readers of the target search beside its own, in words."""

    def look() -> Collection[str]:
        try:
            return list(client.indices.get_alias(name=target).body)
        except Exception as e:
            if status_of(e) == _MISSING:
                return ()
            raise

    return [f"index {i} in alias {target}" for i in sorted(retry_transient(look, target)) if i not in own]


def change(
    client: "Elasticsearch",
    target: str,
    decide: Callable[[TargetState], Sequence[Action]],
    done: Callable[[TargetState], bool],
) -> TargetState:
    """Apply what `decide` makes of the state, in one call that fails when the state changed meanwhile.

    decide: called again after each lost race; no actions: nothing is sent. done: whether a state shows the change; it
    is asked first, because a call whose answer was lost may have been carried out. The state that was changed.
    Raises what `decide` raises, and TransientError when too many races were lost or nobody answers.
    """

    def once() -> TargetState:
        state = read_state(client, target)
        actions = [] if done(state) else decide(state)
        if not actions:
            return state
        try:
            answer = client.indices.update_aliases(actions=[*_count(state), *actions])
        except Exception as e:
            if status_of(e) == _MISSING:
                raise TransientError(f"Elasticsearch target {target} changed meanwhile.") from e
            raise
        if not answer["acknowledged"]:
            raise TransientError(f"Elasticsearch target {target}: not every node has seen the change yet.")
        return state

    return retry_transient(once, target)


def _count(state: TargetState) -> list[Action]:
    index, target = anchor(state.target), state.target
    return [
        {"remove": {"index": index, "alias": version_alias(target, state.number), "must_exist": True}},
        {"add": {"index": index, "alias": version_alias(target, state.number + 1), "is_hidden": True}},
    ]
