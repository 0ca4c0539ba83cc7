"""What both ways of serving from Elasticsearch share: the client, how rows are sent, what becomes of refused ones."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

from etl_resources.classify import classify
from etl_resources.contract import Contract
from etl_resources.dead_letters.writing import Letters
from etl_resources.engines.embedded import stream
from etl_resources.errors import TransientError
from etl_resources.failpoints import failpoint
from etl_resources.identifiers import literal
from etl_resources.ledger.ledger import Ledger
from etl_resources.planning import PlannedPartition
from etl_resources.quality.content_hash import content_hash, version_of
from etl_resources.quality.stored_content import StoredContent
from etl_resources.retries import retry_transient
from etl_resources.settings import Settings
from etl_resources.sinks.elasticsearch_bulk import CHUNK_ROWS, Chunk, Loader, prove_accepted
from etl_resources.sinks.elasticsearch_documents import ID_BYTES_MAX, document, document_id
from etl_resources.sinks.elasticsearch_names import anchor, checked_target
from etl_resources.sinks.elasticsearch_pages import Page
from etl_resources.sinks.serving import Former, ServingBatch, StagedRows
from etl_resources.tables.publish import PublishOutcome
from etl_resources.tables.stage import StagedPartition

if TYPE_CHECKING:
    import duckdb
    from elasticsearch import Elasticsearch

REFUSED = "etl_refused"
"""Table of the engine: ids of the documents that were refused (etl_id), and why (etl_reason)."""


@dataclass(frozen=True)
class ServedPartition:
    """A partition as its store says that it was published."""

    epoch: int
    attempt: str
    version: str
    evidence: str | None
    rows: int | None = None
    """Documents that it had then."""
    written: int | None = None
    """Epoch at which all of them were last written; upserted targets, unless an earlier build published it."""
    form: str | None = None
    """How rows are written as documents (elasticsearch_changes.form_of); likewise."""
    mark: str | None = None
    """All that had happened to the documents' index then (elasticsearch_untouched); None: not known."""


def attempts_of(served: Mapping[str, ServedPartition]) -> dict[str, tuple[int, str]]:
    """Partition → epoch and attempt of what is served."""
    return {p: (s.epoch, s.attempt) for p, s in served.items()}


@dataclass(frozen=True)
class ElasticsearchSink(ABC):
    """One target. Its subclasses say where documents go and how they become visible."""

    settings: Settings
    target: str
    key: tuple[str, ...]
    contract: Contract
    asset: str

    def __post_init__(self) -> None:
        checked_target(self.target)

    @cached_property
    def client(self) -> "Elasticsearch":
        """One client of this sink; it connects when it is used."""
        from etl_resources.sinks.elasticsearch_client import connect

        return connect(self.settings, exact=True)

    @contextmanager
    def session(self) -> "Iterator[Self]":
        """As ServingSink: the client keeps its connections anyway."""
        yield self

    @property
    @abstractmethod
    def writers(self) -> int:
        """As ServingSink."""

    @abstractmethod
    def ensure(self) -> None:
        """As ServingSink."""

    @abstractmethod
    def begin(self, attempt: str, epoch: int) -> None:
        """As ServingSink."""

    @abstractmethod
    def write(
        self,
        engine: "duckdb.DuckDBPyConnection",
        letters: Letters,
        attempt: str,
        planned: PlannedPartition,
        scan: str,
        former: Former | None = None,
    ) -> StagedRows:
        """As ServingSink."""

    def exists(self) -> bool:
        """Whether an Elasticsearch is known and has the target: what was never served needs neither."""
        if self.settings.elasticsearch_url is None:
            return False
        return bool(retry_transient(lambda: self.client.indices.exists(index=anchor(self.target)), self.asset))

    @abstractmethod
    def served(self) -> Mapping[str, ServedPartition]:
        """Partition → what is served."""

    @abstractmethod
    def searched(self) -> Collection[str]:
        """Partitions of which readers find documents, published or not."""

    @abstractmethod
    def foreign(self) -> list[str]:
        """What else readers find, in words."""

    @abstractmethod
    def content(self, engine: "duckdb.DuckDBPyConnection", partition: str) -> StoredContent:
        """A served partition, reread document by document."""

    @abstractmethod
    def documents(self, partitions: Sequence[str]) -> Iterator[Page]:
        """Documents of served partitions, page by page."""

    @abstractmethod
    def fence(self, attempts: Sequence[str]) -> None:
        """From here on these attempts can't publish."""

    def settle(self, ledger: Ledger) -> dict[str, str]:
        """Settle attempts whose writer died, and remove what was superseded."""
        from etl_resources.sinks.elasticsearch_recovery import settle_target

        return settle_target(self, ledger)

    def published_epochs(self) -> dict[str, int]:
        """Partition → epoch of what is served."""
        return {p: s.epoch for p, s in self.served().items()}

    def publish(self, batch: ServingBatch) -> PublishOutcome:
        """Make the batch visible; then, and after a lost answer by what the server says, record it.

        Raises what ended the commit unless each partition is served, from this attempt or from a newer one.
        """
        try:
            published = self.commit(batch)
        except Exception as e:
            known = classify(e)  # the client's errors are raised as they are
            if known is None:
                raise
            published = self._settle(batch, known)
        failpoint("elasticsearch.published", self.asset)
        names = self._record_published(batch, published)
        failpoint("elasticsearch.recorded", self.asset)
        with suppress(TransientError):  # published and recorded: the next attempt tidies up
            self.tidy(batch.ledger)
        fenced = tuple(p.partition for p in batch.partitions if p.partition not in names)
        return PublishOutcome(0, tuple(published), fenced, "swap")

    @abstractmethod
    def commit(self, batch: ServingBatch) -> list[StagedPartition]:
        """The partitions that won."""

    @abstractmethod
    def tidy(self, ledger: Ledger) -> None:
        """Remove what nobody reads any more."""

    def abandon(self, batch: ServingBatch, reason: str) -> None:
        """Fence the attempt first, then record that it failed."""
        self.fence([batch.attempt])
        failpoint("elasticsearch.abandon_fenced", self.asset)
        batch.ledger.settle(batch.attempt, "failed", reason)

    def _settle(self, batch: ServingBatch, error: Exception) -> list[StagedPartition]:
        """What a commit that ended with an error published, when nothing is left to publish. Else raises the error."""
        served = self.served()
        mine = [p for p in batch.partitions if p.partition in served and served[p.partition].attempt == batch.attempt]
        if not mine:
            self.abandon(batch, str(error))
            raise error
        others = [p for p in batch.partitions if p not in mine]
        if any(p.partition not in served or served[p.partition].epoch < p.epoch for p in others):
            self.fence([batch.attempt])
            self._record_published(batch, mine)
            raise error
        return mine

    @staticmethod
    def _record_published(batch: ServingBatch, published: Sequence[StagedPartition]) -> set[str]:
        names = {p.partition for p in published}
        batch.ledger.record_published(batch.attempt, sorted(names), None)
        return names

    def send(
        self,
        engine: "duckdb.DuckDBPyConnection",
        planned: PlannedPartition,
        scan: str,
        loader: Loader,
        extra: str = "",
        condition: str = "",
    ) -> int:
        """Send every row of a table expression. How many the server refused: they are kept in the engine.

        extra: fields in front of each document's own, as SQL. condition: JSON after `_id` in the line before it.
        """
        identity, text = document_id(self.key), document(self.contract, extra)
        engine.execute(f"create or replace temp table {REFUSED} (etl_id varchar, etl_reason varchar)")
        reason = literal(f"its key has more than {ID_BYTES_MAX} bytes: no document can be named so")
        engine.execute(
            f"insert into {REFUSED} select {identity}, {reason} from {scan} where strlen({identity}) > {ID_BYTES_MAX}"
        )
        failpoint("elasticsearch.sending", f"{self.asset}, partition {planned.partition}")
        for rejected in loader.load(_chunks(engine, identity, text, scan, condition)):
            engine.execute(f"insert into {REFUSED} values (?, ?)", [rejected.id, rejected.reason])
        failpoint("elasticsearch.filled", f"{self.asset}, partition {planned.partition}")
        return count(engine, REFUSED)

    def set_aside(
        self, engine: "duckdb.DuckDBPyConnection", letters: Letters, planned: PlannedPartition, scan: str
    ) -> str | None:
        """Keep each row of a partition that was refused as a dead letter. Version of the others; None: none was.

        Raises PermanentError when that is no fault of single rows.
        """
        refused = count(engine, REFUSED)
        if not refused:
            return None
        identity = document_id(self.key)
        keys = Contract(
            tuple(c for c in self.contract.columns if c.name in self.key), self.key, self.contract.partition_column
        )
        letters.write_refused(
            engine,
            f"select etl_reason, {document(keys)}, {document(self.contract)} "
            f"from {scan} join {REFUSED} on etl_id = {identity}",
            partition=planned.partition,
            epoch=planned.epoch,
            token=planned.token,
        )
        accepted = engine.execute(
            f"select count(*), {content_hash(self.contract, 'duckdb')} from {scan} "
            f"where {identity} not in (select etl_id from {REFUSED})"
        ).fetchone()
        assert accepted is not None  # noqa: S101  (an aggregate always returns a row)
        common = engine.execute(f"select mode(etl_reason) from {REFUSED}").fetchone()
        assert common is not None  # noqa: S101  (an aggregate always returns a row)
        prove_accepted(f"{self.asset}, partition {planned.partition}", int(accepted[0]), refused, common[0])
        return version_of(int(accepted[0]), accepted[1])

    def staged(self, index: str, found: StoredContent, refused: int, expected: str | None) -> StagedRows:
        """What was written, as the step audits it. A key can't be twice in an index: it is the document's name."""
        stats = retry_transient(lambda: self.client.indices.stats(index=index, metric="store"), index)
        size = int(stats["_all"]["total"]["store"]["size_in_bytes"])
        return StagedRows(found.rows, found.rows, found.version, size, refused, expected)


def count(engine: "duckdb.DuckDBPyConnection", rows: str) -> int:
    """Rows of a table expression."""
    found = engine.execute(f"select count(*) from {rows}").fetchone()
    assert found is not None  # noqa: S101  (an aggregate always returns a row)
    return int(found[0])


def _chunks(
    engine: "duckdb.DuckDBPyConnection", identity: str, text: str, scan: str, condition: str
) -> Iterator[Chunk]:
    action = f"""'{{"index":{{"_id":' || to_json(etl_id)::varchar || {literal(condition + "}}")}"""
    statement = (
        f"select etl_id, {action} || chr(10) || etl_doc || chr(10) as line "
        f"from (select {identity} as etl_id, {text} as etl_doc from {scan}) where strlen(etl_id) <= {ID_BYTES_MAX}"
    )
    for batch in stream(engine.cursor(), statement, CHUNK_ROWS):
        yield Chunk(batch.column("etl_id"), batch.column("line"))
