"""`load: replace`: an index per partition and attempt, filled where nobody searches, published by one alias swap."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_resources.dead_letters.writing import Letters
from etl_resources.errors import FencedError
from etl_resources.failpoints import failpoint
from etl_resources.ledger.attempt_records import partition_records
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import live_attempts
from etl_resources.planning import PlannedPartition
from etl_resources.quality.stored_content import StoredContent
from etl_resources.retries import retry_transient, with_retries_of_here
from etl_resources.sinks.elasticsearch_aliases import (
    Action,
    TargetState,
    change,
    create_index,
    ensure_anchor,
    others_in_alias,
    read_state,
)
from etl_resources.sinks.elasticsearch_bulk import Loader
from etl_resources.sinks.elasticsearch_documents import mapping
from etl_resources.sinks.elasticsearch_names import PartitionIndex, documents, every_index, mark_of
from etl_resources.sinks.elasticsearch_pages import Page, pages
from etl_resources.sinks.elasticsearch_reread import reread
from etl_resources.sinks.elasticsearch_sink import ElasticsearchSink, ServedPartition, attempts_of
from etl_resources.sinks.serving import Former, ServingBatch, StagedRows, recognise_published
from etl_resources.tables.publish import prove_aliases
from etl_resources.tables.stage import StagedPartition

if TYPE_CHECKING:
    import duckdb

_SETTINGS = {"number_of_shards": 1, "auto_expand_replicas": "0-1", "refresh_interval": "-1"}
"""It is refreshed once, when it is full; nothing is written afterwards."""
WRITERS = 4
"""Partitions at once. Most of a partition's time is waiting: for its index, which the server makes in steps, and its
disk. Each holds the chunks in flight and a page of documents."""


@dataclass(frozen=True)
class ReplacingSink(ElasticsearchSink):
    """Readers see a partition's whole old index, then its whole new one."""

    @property
    def writers(self) -> int:
        return WRITERS

    def ensure(self) -> None:
        """The anchor of the target exists."""
        ensure_anchor(self.client, self.target)

    def begin(self, attempt: str, epoch: int) -> None:
        """Nothing: each partition has an index of its own."""

    def write(
        self,
        engine: "duckdb.DuckDBPyConnection",
        letters: Letters,
        attempt: str,
        planned: PlannedPartition,
        scan: str,
        former: Former | None = None,  # noqa: ARG002  (signature of ServingSink: everything is written)
    ) -> StagedRows:
        """Fill this attempt's index of the partition and read it back."""
        index, what = self._index(planned.partition, planned.epoch, attempt), f"{self.asset}, {planned.partition}"
        body = {
            "settings": _SETTINGS,
            "mappings": mapping(self.contract, upserted=False),
            "aliases": {index.fill: {"is_hidden": True}},
        }
        create_index(self.client, str(index), body)
        failpoint("elasticsearch.index_created", what)
        refused = self.send(engine, planned, scan, Loader(self.client, index.fill, self.asset))
        expected = self.set_aside(engine, letters, planned, scan)
        retry_transient(lambda: self.client.indices.refresh(index=str(index)), what)
        return self.staged(str(index), reread(self.client, engine, self.contract, str(index)), refused, expected)

    def served(self) -> Mapping[str, ServedPartition]:
        found = self.state().partitions()
        if not found:
            return {}
        described = retry_transient(
            lambda: (
                self.client.indices.get_mapping(
                    index=every_index(self.target), expand_wildcards="all", filter_path="*.mappings._meta"
                ).body
            ),
            self.asset,
        )
        return {p: _served(i, described.get(str(i), {})) for p, i in found.items()}

    def published_epochs(self) -> dict[str, int]:
        return {p: i.epoch for p, i in self.state().partitions().items()}

    def searched(self) -> Collection[str]:
        return self.state().partitions().keys()

    def foreign(self) -> list[str]:
        return others_in_alias(self.client, self.target, set(map(str, self.state().filled())))

    def content(self, engine: "duckdb.DuckDBPyConnection", partition: str) -> StoredContent:
        return reread(self.client, engine, self.contract, str(self.state().partitions()[partition]))

    def documents(self, partitions: Sequence[str]) -> Iterator[Page]:
        published = self.state().partitions()
        for partition in partitions:
            if partition in published:
                yield from pages(self.client, str(published[partition]), self.contract)

    def commit(self, batch: ServingBatch) -> list[StagedPartition]:
        """One `_aliases` call for all partitions."""
        self._describe(batch)
        failpoint("elasticsearch.before_swap", self.asset)
        won: list[StagedPartition] = []

        def decide(state: TargetState) -> list[Action]:
            won[:] = self._winners(batch, state)
            return self._swap(won, batch.attempt, state)

        with batch.ledger.committing(self.asset):
            state = change(self.client, self.target, decide, lambda s: bool(self._mine(batch, s)))
        return self._mine(batch, state) or won

    def fence(self, attempts: Sequence[str]) -> None:
        """Delete their indexes that aren't published; a swap of theirs that comes later names a missing index."""
        marks = set(map(mark_of, attempts))
        self.remove([i for i in self.state().filled() if i.mark in marks])

    def remove(self, indexes: Sequence[PartitionIndex]) -> None:
        """Delete those of the indexes that aren't published at that moment."""

        def unpublished(state: TargetState) -> list[PartitionIndex]:
            return [i for i in indexes if self.target not in state.indexes.get(str(i), {self.target})]

        change(
            self.client,
            self.target,
            lambda state: [{"remove_index": {"index": str(i)}} for i in unpublished(state)],
            lambda state: not unpublished(state),
        )

    def tidy(self, ledger: Ledger, *, keep: int = 1) -> None:
        """Delete superseded indexes but the newest `keep` of each partition: a search that began before the swap still
        reads it. The next attempt deletes that too. Those of a live attempt are its own."""
        if superseded := self.superseded(ledger, keep=keep):
            self.remove(superseded)

    def superseded(self, ledger: Ledger, *, keep: int) -> list[PartitionIndex]:
        """Indexes that lost to a higher epoch and that no live attempt fills, but the newest `keep` per partition."""
        live, published = {mark_of(a.attempt) for a in live_attempts(ledger.connection)}, self.state().partitions()
        return [
            i for i in self.unpublished(keep=keep)
            if i.mark not in live and i.partition in published and i.epoch < published[i.partition].epoch
        ]  # fmt: skip

    def unpublished(self, *, keep: int) -> list[PartitionIndex]:
        """Indexes that nobody searches, but the newest `keep` superseded ones of each partition."""
        state = self.state()
        published, kept = state.partitions(), Counter[str]()
        found: list[PartitionIndex] = []
        for index in sorted(state.filled(), key=lambda i: -i.epoch):
            current = published.get(index.partition)
            if index == current:
                continue
            if current is not None and index.epoch < current.epoch and kept[index.partition] < keep:
                kept[index.partition] += 1
            else:
                found.append(index)
        return found

    def state(self) -> TargetState:
        """The target now."""
        return retry_transient(lambda: read_state(self.client, self.target), self.asset)

    def _index(self, partition: str, epoch: int, attempt: str) -> PartitionIndex:
        return PartitionIndex(self.target, partition, epoch, mark_of(attempt))

    def _describe(self, batch: ServingBatch) -> None:
        """What the attempt is, into the indexes themselves: a lost ledger is rebuilt from it."""
        records = partition_records(batch.ledger.connection, batch.attempt)

        def describe(p: StagedPartition) -> None:
            meta = {
                "asset": self.asset, "partition": p.partition, "epoch": p.epoch, "token": p.token,
                "version": p.version, "rows": p.rows, "attempt": batch.attempt, "evidence": records[p.partition],
            }  # fmt: skip
            name = str(self._index(p.partition, p.epoch, batch.attempt))
            retry_transient(lambda: self.client.indices.put_mapping(index=name, meta=meta), self.asset)

        with ThreadPoolExecutor(self.writers) as pool:
            list(pool.map(with_retries_of_here(describe), batch.partitions))

    def _mine(self, batch: ServingBatch, state: TargetState) -> list[StagedPartition]:
        published = state.partitions()
        return [
            p for p in batch.partitions
            if published.get(p.partition) == self._index(p.partition, p.epoch, batch.attempt)
        ]  # fmt: skip

    def _winners(self, batch: ServingBatch, state: TargetState) -> list[StagedPartition]:
        gone = [
            p.partition for p in batch.partitions
            if str(self._index(p.partition, p.epoch, batch.attempt)) not in state.indexes
        ]  # fmt: skip
        if gone:
            raise FencedError(f"{self.asset}: the index of {', '.join(gone)} is gone; {batch.attempt} may not publish.")
        current = {p: i.epoch for p, i in state.partitions().items()}
        batch.prove(set(current))
        if len(batch.ledger.at_epochs(self.asset, current)) < len(current):
            recognise_published(batch.ledger, self.asset, attempts_of(self.served()))
        winners = [p for p in batch.partitions if current.get(p.partition, 0) < p.epoch]
        prove_aliases(self.asset, winners, current)
        return winners

    def _swap(self, winners: Sequence[StagedPartition], attempt: str, state: TargetState) -> list[Action]:
        published, actions = state.partitions(), list[Action]()
        for name in self._taken_over(winners, state):
            actions.append({"remove_index": {"index": name}})
        for p in winners:
            index, old = self._index(p.partition, p.epoch, attempt), published.get(p.partition)
            actions.append({"add": {"index": str(index), "alias": self.target}})
            actions.append({"remove": {"index": str(index), "alias": index.fill, "must_exist": True}})
            if old is not None:
                actions.append({"remove": {"index": str(old), "alias": self.target, "must_exist": True}})
        return actions

    def _taken_over(self, winners: Sequence[StagedPartition], state: TargetState) -> list[str]:
        """Indexes of the target as it was before: upserted, or with partitions of another kind."""
        before = [str(i) for p, i in state.partitions().items() if not self.contract.has_partition(p)]
        return [*before, *({documents(self.target)} & state.indexes.keys())] if winners else []


def _served(index: PartitionIndex, described: Mapping[str, Any]) -> ServedPartition:
    meta = described.get("mappings", {}).get("_meta", {})
    return ServedPartition(index.epoch, str(meta.get("attempt")), str(meta.get("version")), meta.get("evidence"))
