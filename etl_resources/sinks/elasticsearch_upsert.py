"""`load: upsert`: documents with deterministic ids are created or replaced in place; a commit record comes last.

Readers see documents change one by one, each whole. Who may write is decided by the target's holder alias: an attempt
with a higher epoch takes it from an older one, whose later requests find no alias. The epoch is also each document's
version, an external one that the server compares: a delayed request of an old attempt changes nothing that a newer one
wrote or deleted. (`update` with `doc_as_upsert` takes no condition, and costs a get and a merge: docs/decisions/0008.)
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from etl_resources.calendar import WHOLE
from etl_resources.dead_letters.writing import Letters
from etl_resources.errors import FencedError, PermanentError, TransientError
from etl_resources.failpoints import failpoint
from etl_resources.http_errors import status_of
from etl_resources.identifiers import literal
from etl_resources.ledger.attempt_records import partition_records, raise_epoch
from etl_resources.ledger.ledger import Ledger
from etl_resources.planning import PlannedPartition
from etl_resources.quality.stored_content import StoredContent
from etl_resources.retries import retry_transient
from etl_resources.sinks.elasticsearch_aliases import (
    Action,
    TargetState,
    change,
    create_index,
    ensure_anchor,
    others_in_alias,
    read_state,
)
from etl_resources.sinks.elasticsearch_bulk import CHUNK_ROWS, REFUSED_SHARE_MAX, Loader
from etl_resources.sinks.elasticsearch_changes import Proved, find_changes, form_of, indexed_among
from etl_resources.sinks.elasticsearch_documents import EPOCH_FIELD, PARTITION_FIELD, mapping
from etl_resources.sinks.elasticsearch_holding import Holding, end, fence, take
from etl_resources.sinks.elasticsearch_names import documents, holder_alias, holder_of, version_alias
from etl_resources.sinks.elasticsearch_pages import Page, pages
from etl_resources.sinks.elasticsearch_reread import reread
from etl_resources.sinks.elasticsearch_sink import (
    REFUSED,
    ElasticsearchSink,
    ServedPartition,
    attempts_of,
    count,
)
from etl_resources.sinks.elasticsearch_untouched import Watch
from etl_resources.sinks.elasticsearch_versioned import Deleter, Upserter, deletions
from etl_resources.sinks.elasticsearch_written import (
    epochs_of,
    foreign_documents,
    forget,
    read_record,
    read_records,
    read_written,
)
from etl_resources.sinks.serving import Former, ServingBatch, StagedRows, recognise_published
from etl_resources.tables.publish import prove_aliases
from etl_resources.tables.stage import StagedPartition

if TYPE_CHECKING:
    import duckdb

_CONFLICT, _NOT_FOUND = 409, 404


@dataclass(frozen=True)
class Write:
    """What an attempt did with a partition's documents."""

    epoch: int
    """At which all of them were last written."""
    vanished: Sequence[str] | None
    """Ids that have no row any more, where documents were left alone; None: whatever the attempt didn't write."""


@dataclass
class Writes:
    """What a sink's attempts wrote, until it is committed, by partition and epoch."""

    done: dict[tuple[str, int], Write] = field(default_factory=dict)
    unanswered: set[tuple[str, int]] = field(default_factory=set)
    """Begun and not done: requests may be under way."""
    watch: Watch | None = None
    """Since the attempt began."""


@dataclass(frozen=True)
class UpsertingSink(ElasticsearchSink):
    """One index for all partitions; each document says which attempt wrote it last, and for which partition."""

    writes: Writes = field(default_factory=Writes, compare=False, repr=False)

    @property
    def writers(self) -> int:
        return 1

    def ensure(self) -> None:
        """Anchor and documents' index exist, with new fields. Raises PermanentError when a field's type differs."""
        ensure_anchor(self.client, self.target)
        fields = mapping(self.contract, upserted=True)
        body = {
            "settings": {"number_of_shards": 1, "auto_expand_replicas": "0-1"},
            "mappings": fields,
        }
        create_index(self.client, documents(self.target), body)
        retry_transient(
            lambda: self.client.indices.put_mapping(index=documents(self.target), properties=fields["properties"]),
            self.asset,
        )

    def begin(self, attempt: str, epoch: int) -> None:
        """Take the target from older attempts. Raises FencedError when a newer one holds it, or held it."""
        take(self.client, self.asset, self.target, attempt, epoch)
        self.writes.watch = Watch(self.client, documents(self.target))
        failpoint("elasticsearch.held", self.asset)

    def write(
        self,
        engine: "duckdb.DuckDBPyConnection",
        letters: Letters,
        attempt: str,
        planned: PlannedPartition,
        scan: str,
        former: Former | None = None,
    ) -> StagedRows:
        """Upsert the rows of a partition whose documents differ, and read back what this attempt wrote of it."""
        epoch, partition = planned.epoch, planned.partition
        place = (partition, epoch)
        self.writes.unanswered.add(place)
        mine = [{"term": {PARTITION_FIELD: partition}}]
        loader = Upserter(self.client, holder_alias(self.target, epoch, attempt), self.asset, self._watch.performed)
        changes, before = None, read_record(self.client, self.target, partition)
        if before is not None and self._may_leave(before, epoch):
            older = {"bool": {"filter": [*mine, {"range": {EPOCH_FIELD: {"lt": epoch}}}]}}
            proved = self._proved(before, former)
            changes = find_changes(
                self.client, engine, self.contract, self.key, scan, documents(self.target), older, proved
            )
        if changes is not None:
            refused = self._send(engine, planned, changes.changed, loader)
            if refused and refused > REFUSED_SHARE_MAX * count(engine, changes.changed):
                changes = None  # a fault of single rows? The whole partition tells
        if changes is None:
            refused = self._send(engine, planned, scan, loader)
        expected = self.set_aside(engine, letters, planned, scan)
        index = documents(self.target)
        retry_transient(lambda: self.client.indices.refresh(index=index), self.asset)
        written = {"bool": {"filter": [*mine, {"term": {EPOCH_FIELD: epoch}}]}}
        found = reread(self.client, engine, self.contract, index, written)
        if changes is None or before is None:
            self.writes.done[place] = Write(epoch, None)
        else:
            found = changes.with_written(found)
            gone = [*changes.vanished, *(indexed_among(engine, f"select etl_id from {REFUSED}") if refused else ())]
            self.writes.done[place] = Write(before.written or 0, gone)
        self.writes.unanswered.discard(place)
        return self.staged(index, found, refused, expected)

    def _may_leave(self, before: ServedPartition, epoch: int) -> bool:
        """Whether documents of a partition that are as their rows may be left alone: no request that would change them
        can be under way, and they are written as they would be now."""
        under_way = Holding(retry_transient(lambda: read_state(self.client, self.target), self.asset)).under_way(epoch)
        written = before.written or 0
        return under_way is not None and under_way < written and before.form == form_of(self.contract, self.key)

    @property
    def _watch(self) -> Watch:
        assert self.writes.watch is not None  # noqa: S101  (an attempt begins before it writes)
        return self.writes.watch

    def _proved(self, before: ServedPartition, former: Former | None) -> Proved | None:
        """The rows that the documents were proved to be, if nothing happened to the index since."""
        rows = former() if former is not None and self._watch.was_untouched_since(before.mark) else None
        return None if rows is None else Proved(rows, before.version)

    def _send(self, engine: "duckdb.DuckDBPyConnection", planned: PlannedPartition, rows: str, loader: Loader) -> int:
        epoch, partition = planned.epoch, planned.partition
        extra = literal(f'"{EPOCH_FIELD}":{epoch},"{PARTITION_FIELD}":{json.dumps(partition)},') + " || "
        return self.send(engine, planned, rows, loader, extra, f',"version":{epoch},"version_type":"external_gte"')

    def served(self) -> Mapping[str, ServedPartition]:
        return read_records(self.client, self.target)

    def published_epochs(self) -> dict[str, int]:
        """Partition → epoch; another one where an attempt that died changed the documents since."""
        return epochs_of(self.served(), read_written(self.client, self.target))

    def searched(self) -> Collection[str]:
        return read_written(self.client, self.target).keys()

    def foreign(self) -> list[str]:
        others = others_in_alias(self.client, self.target, {documents(self.target)})
        return [*others, *foreign_documents(self.client, self.target)]

    def content(self, engine: "duckdb.DuckDBPyConnection", partition: str) -> StoredContent:
        query = {"term": {PARTITION_FIELD: partition}}
        return reread(self.client, engine, self.contract, documents(self.target), query)

    def documents(self, partitions: Sequence[str]) -> Iterator[Page]:
        query = {"terms": {PARTITION_FIELD: list(partitions)}}
        yield from pages(self.client, documents(self.target), self.contract, query)

    def commit(self, batch: ServingBatch) -> list[StagedPartition]:
        """Show the documents, delete what vanished, then write the commit records, as long as the target is held."""
        served = self.served()
        batch.prove(set(served))
        current = {p: s.epoch for p, s in served.items()}
        recognise_published(batch.ledger, self.asset, attempts_of(served))
        winners = [p for p in batch.partitions if current.get(p.partition, 0) <= p.epoch]
        prove_aliases(self.asset, winners, current)
        records = partition_records(batch.ledger.connection, batch.attempt)
        if winners:
            self._show(holder_alias(self.target, winners[0].epoch, batch.attempt))
        committed = []
        before = [p for p in served if not self.contract.has_partition(p)]
        for p in winners:
            self._delete_vanished(batch.attempt, p, before)
            failpoint("elasticsearch.before_commit", f"{self.asset}, partition {p.partition}")
            if self._record(batch.attempt, p, records[p.partition]):
                committed.append(p)
        if committed:
            forget(self.client, self.target, before, committed[0].epoch)
            if not self.writes.unanswered:
                end(self.client, self.target, batch.attempt, committed[0].epoch)
        return committed

    def fence(self, attempts: Sequence[str]) -> None:
        """Take the target from them."""
        fence(self.client, self.target, attempts)

    def tidy(self, ledger: Ledger) -> None:
        """Let go of the target."""
        holding = Holding(retry_transient(lambda: read_state(self.client, self.target), self.asset))
        raise_epoch(ledger.connection, holding.newest)  # a ledger that was lost would draw some that get it no more
        over = ledger.connection.execute(
            "select attempt from etl.intents where asset = %s and state <> 'open' and right(attempt, 12) = any(%s)",
            (self.asset, [found[1] for a in holding.holders if (found := holder_of(a))]),
        ).fetchall()
        if over:
            self.fence([attempt for (attempt,) in over])

    def _show(self, holder: str) -> None:
        """Let readers search the documents, from the first commit on; no longer what `load: replace` left."""
        index = documents(self.target)

        def decide(state: TargetState) -> list[Action]:
            if holder not in state.indexes.get(index, ()):
                raise FencedError(f"{self.asset}: another attempt or recovery took the target.")
            left: list[Action] = [{"remove_index": {"index": str(i)}} for i in state.filled()]
            return [*left, {"add": {"index": index, "alias": self.target}}]

        change(
            self.client,
            self.target,
            decide,
            lambda state: self.target in state.indexes.get(index, ()) and not state.filled(),
        )

    def _delete_vanished(self, attempt: str, p: StagedPartition, before: Sequence[str]) -> None:
        """Documents of the partition that this attempt didn't write: their rows are gone. So are documents of the
        partitions of another kind that the target had before."""
        places = [] if p.partition == WHOLE else [{"terms": {PARTITION_FIELD: [p.partition, WHOLE, *before]}}]
        write = self.writes.done[p.partition, p.epoch]
        left = [] if write.vanished is None else [{"term": {PARTITION_FIELD: p.partition}}]
        older = {"bool": {"filter": [*places, {"range": {EPOCH_FIELD: {"lt": p.epoch}}}], "must_not": left}}
        found = (page.ids.to_pylist() for page in pages(self.client, documents(self.target), None, older))
        gone = chain(found, _parts(write.vanished or ()))
        loader = Deleter(self.client, holder_alias(self.target, p.epoch, attempt), self.asset, self._watch.performed)
        for kept in loader.load(deletions(ids, p.epoch) for ids in gone):
            raise PermanentError(f"{self.asset}: document {kept.id} can't be deleted: {kept.reason}.")
        retry_transient(lambda: self.client.indices.refresh(index=documents(self.target)), self.asset)

    def _record(self, attempt: str, p: StagedPartition, evidence: str) -> bool:
        """Write the commit record, if its epoch is the highest. Raises FencedError when the target isn't held any more.

        It goes through the anchor's version alias: a target that changed hands since has another version.
        """
        record = {
            "epoch": p.epoch, "token": p.token, "version": p.version, "rows": p.rows, "attempt": attempt,
            "evidence": evidence, "written": self.writes.done[p.partition, p.epoch].epoch,
            "form": form_of(self.contract, self.key), "mark": self._watch.mark(),
        }  # fmt: skip

        def once() -> bool:
            state = read_state(self.client, self.target)
            if holder_alias(self.target, p.epoch, attempt) not in state.indexes.get(documents(self.target), ()):
                raise FencedError(f"{self.asset}: another attempt or recovery took the target from {attempt}.")
            try:
                self.client.index(
                    index=version_alias(self.target, state.number), id=p.partition, document={"record": record},
                    version=p.epoch, version_type="external", require_alias=True, refresh=True,
                )  # fmt: skip
            except Exception as e:
                if status_of(e) == _CONFLICT:  # a newer one, or this one, whose answer was lost
                    return self.served()[p.partition].attempt == attempt
                if status_of(e) == _NOT_FOUND:
                    raise TransientError(f"{self.asset} changed meanwhile.") from e
                raise
            return True

        return retry_transient(once, self.asset)


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[n : n + CHUNK_ROWS] for n in range(0, len(ids), CHUNK_ROWS))
