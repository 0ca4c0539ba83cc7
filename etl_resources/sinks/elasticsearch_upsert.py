"""`load: upsert`: documents with deterministic ids are created or replaced in place; a commit record comes last.

Readers see documents change one by one, each whole. Who may write is decided by the target's holder alias: an attempt
with a higher epoch takes it from an older one, whose later requests find no alias. The epoch is also each document's
version, an external one that the server compares: a delayed request of an old attempt changes nothing that a newer one
wrote or deleted. (`update` with `doc_as_upsert` takes no condition, and costs a get and a merge: docs/decisions/0008.)
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_resources.calendar import WHOLE
from etl_resources.dead_letters.writing import Letters
from etl_resources.errors import FencedError, PermanentError, TransientError
from etl_resources.failpoints import failpoint
from etl_resources.http_errors import status_of
from etl_resources.identifiers import literal
from etl_resources.ledger.attempt_records import partition_records
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
from etl_resources.sinks.elasticsearch_bulk import Chunk, Loader
from etl_resources.sinks.elasticsearch_documents import EPOCH_FIELD, PARTITION_FIELD, mapping
from etl_resources.sinks.elasticsearch_names import (
    documents,
    holder_alias,
    holder_of,
    mark_of,
    version_alias,
)
from etl_resources.sinks.elasticsearch_pages import Page, pages
from etl_resources.sinks.elasticsearch_reread import reread
from etl_resources.sinks.elasticsearch_sink import ElasticsearchSink, ServedPartition, attempts_of
from etl_resources.sinks.elasticsearch_written import (
    epochs_of,
    foreign_documents,
    forget,
    read_records,
    read_written,
)
from etl_resources.sinks.serving import ServingBatch, StagedRows, recognise_published
from etl_resources.tables.publish import prove_aliases
from etl_resources.tables.stage import StagedPartition

if TYPE_CHECKING:
    import duckdb

_CONFLICT, _NOT_FOUND = 409, 404


@dataclass(frozen=True)
class UpsertingSink(ElasticsearchSink):
    """One index for all partitions; each document says which attempt wrote it last, and for which partition."""

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
        """Take the target from older attempts. Raises FencedError when a newer one holds it."""
        mine, index = holder_alias(self.target, epoch, attempt), documents(self.target)

        def decide(state: TargetState) -> list[Action]:
            others = [a for a in state.indexes.get(index, ()) if holder_of(a)]
            if any((holder_of(a) or (0, ""))[0] > epoch for a in others):
                raise FencedError(f"{self.asset}: a newer attempt than epoch {epoch} holds it.")
            taken: list[Action] = [{"remove": {"index": index, "alias": a, "must_exist": True}} for a in others]
            return [*taken, {"add": {"index": index, "alias": mine, "is_hidden": True}}]

        change(self.client, self.target, decide, lambda state: mine in state.indexes.get(index, ()))
        failpoint("elasticsearch.held", self.asset)

    def write(
        self,
        engine: "duckdb.DuckDBPyConnection",
        letters: Letters,
        attempt: str,
        planned: PlannedPartition,
        scan: str,
    ) -> StagedRows:
        """Upsert the rows of a partition and read back what this attempt wrote of it."""
        epoch, partition = planned.epoch, planned.partition
        extra = literal(f'"{EPOCH_FIELD}":{epoch},"{PARTITION_FIELD}":{json.dumps(partition)},') + " || "
        condition = f',"version":{epoch},"version_type":"external_gte"'
        loader = _Upserter(self.client, holder_alias(self.target, epoch, attempt), self.asset)
        refused, expected = self.send(engine, letters, planned, scan, loader, extra, condition)
        index = documents(self.target)
        retry_transient(lambda: self.client.indices.refresh(index=index), self.asset)
        written = {"bool": {"filter": [{"term": {PARTITION_FIELD: partition}}, {"term": {EPOCH_FIELD: epoch}}]}}
        return self.staged(index, reread(self.client, engine, self.contract, index, written), refused, expected)

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
        return committed

    def fence(self, attempts: Sequence[str]) -> None:
        """Take the target from them."""
        marks, index = set(map(mark_of, attempts)), documents(self.target)

        def theirs(state: TargetState) -> list[str]:
            return [a for a in state.indexes.get(index, ()) if (found := holder_of(a)) and found[1] in marks]

        change(
            self.client,
            self.target,
            lambda s: [{"remove": {"index": index, "alias": a, "must_exist": True}} for a in theirs(s)],
            lambda s: not theirs(s),
        )

    def tidy(self, ledger: Ledger) -> None:
        """Let go of the target."""
        state = retry_transient(lambda: read_state(self.client, self.target), self.asset)
        holders = [found[1] for a in state.indexes.get(documents(self.target), ()) if (found := holder_of(a))]
        over = ledger.connection.execute(
            "select attempt from etl.intents where asset = %s and state <> 'open' and right(attempt, 12) = any(%s)",
            (self.asset, holders),
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
        mine = [] if p.partition == WHOLE else [{"terms": {PARTITION_FIELD: [p.partition, WHOLE, *before]}}]
        older = {"bool": {"filter": [*mine, {"range": {EPOCH_FIELD: {"lt": p.epoch}}}]}}
        found = pages(self.client, documents(self.target), None, older)
        loader = _Deleter(self.client, holder_alias(self.target, p.epoch, attempt), self.asset)
        for kept in loader.load(_deletions(page.ids.to_pylist(), p.epoch) for page in found):
            raise PermanentError(f"{self.asset}: document {kept.id} can't be deleted: {kept.reason}.")
        retry_transient(lambda: self.client.indices.refresh(index=documents(self.target)), self.asset)

    def _record(self, attempt: str, p: StagedPartition, evidence: str) -> bool:
        """Write the commit record, if its epoch is the highest. Raises FencedError when the target isn't held any more.

        It goes through the anchor's version alias: a target that changed hands since has another version.
        """
        record = {
            "epoch": p.epoch, "token": p.token, "version": p.version, "rows": p.rows, "attempt": attempt,
            "evidence": evidence,
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


class _Upserter(Loader):
    """Writes documents that carry the epoch as their version."""

    def judge(self, item: Mapping[str, Any]) -> Exception | None:
        if int(item["status"]) == _CONFLICT:
            raise FencedError(f"{self.what}: a newer attempt than that of {self.alias} writes to it.")
        return super().judge(item)


class _Deleter(Loader):
    """Deletes documents that are older than the epoch."""

    def judge(self, item: Mapping[str, Any]) -> Exception | None:
        written_since = int(item["status"]) == _CONFLICT  # by whoever moved its row here, or by a newer attempt
        return None if written_since else super().judge(item)


def _deletions(ids: Sequence[str], epoch: int) -> Chunk:
    import pyarrow as pa

    condition = {"version": epoch, "version_type": "external"}
    lines = [f"{json.dumps({'delete': {'_id': i, **condition}})}\n" for i in ids]
    return Chunk(pa.array(ids, pa.string()), pa.array(lines, pa.string()))
