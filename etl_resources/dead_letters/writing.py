"""Letters of one attempt at a table or target: a file per partition while it is computed, then one commit for all.

They are committed before the data is, and visible by the index only once the attempt is current: rows and letters
appear in the same moment. Whoever reads a letters table itself finds letters of attempts that never published, too,
until maintenance takes them out; `epoch` and `attempt` tell them apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from etl_resources.conventions import PARQUET, staged_folder
from etl_resources.dead_letters.address import LettersAddress
from etl_resources.dead_letters.index import LetterFile, WrittenLetters, files, record
from etl_resources.dead_letters.letter import LETTERS, letters_of_judged, letters_of_refused, payload_columns, period_of
from etl_resources.dead_letters.reading import described, reason_counts
from etl_resources.errors import UnknownCommitError
from etl_resources.failpoints import failpoint
from etl_resources.identifiers import literal, quote
from etl_resources.ledger.ledger import Ledger
from etl_resources.tables.catalog import create_table
from etl_resources.tables.commit import build_snapshot, compare_and_swap, ref_is, retry_conflicts
from etl_resources.tables.data_files import data_files
from etl_resources.tables.head import read_head
from etl_resources.tables.schema import field_ids
from etl_resources.tables.stage import ATTEMPT_KEY, RUN_KEY
from etl_resources.tables.table_store import TableStore

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

ROW_GROUP_ROWS = 20_000
"""A payload may have megabytes: fewer rows than usual are held at once."""


@dataclass
class Letters:
    """The letters of one attempt. Without a rejected row it touches nothing.

    source: where rows are from that don't say so themselves. Several threads may write, each its partition.
    """

    store: TableStore
    ledger: Ledger
    address: LettersAddress
    attempt: str
    run_id: str
    source: str
    _written: dict[str, WrittenLetters] = field(default_factory=dict)
    _before: dict[str, LetterFile] | None = None
    _ids: str = ""
    _lock: Lock = field(default_factory=Lock)

    def write(
        self,
        engine: "duckdb.DuckDBPyConnection",
        judged: str,
        key: Sequence[str],
        *,
        partition: str,
        epoch: int,
        token: str | None = None,
    ) -> dict[str, int]:
        """Write the rejected rows of table `judged`. Reason → rows; a row may have several. Raises duckdb.Error.

        Once more for the same partition replaces what was written.
        """
        query = letters_of_judged(judged, key, payload_columns(engine, judged), self.source)
        return self._write(engine, query, partition, epoch, token).counts

    def write_refused(
        self, engine: "duckdb.DuckDBPyConnection", refused: str, *, partition: str, epoch: int, token: str | None
    ) -> dict[str, int]:
        """Write what a store refused, a query of (reason, key, payload); as `write`."""
        return self._write(engine, letters_of_refused(refused, self.source), partition, epoch, token).counts

    def carry(self, engine: "duckdb.DuckDBPyConnection", back: Mapping[str, int], epoch: int) -> None:
        """The letters of publishes (partition → epoch) whose content is published again, as this attempt's."""
        for before in files(self.ledger.connection, "known", [self.address.asset], list(back)) if back else []:
            if back[before.partition] == before.epoch:
                self._carry_over(engine, before, epoch)
        self.commit()

    def _carry_over(self, engine: "duckdb.DuckDBPyConnection", before: LetterFile, epoch: int) -> None:
        path = self._path(before.partition, epoch)
        columns = f"replace ({epoch}::bigint as epoch, {literal(self.attempt)} as attempt)"
        self._copy(engine, f"select * {columns} from read_parquet({literal(before.path)})", path)
        self._keep(engine, before.partition, epoch, path)

    def commit(self) -> None:
        """Commit what was written, all partitions at once, then tell the index. Twice is harmless."""
        if not self._written:
            return
        written = sorted(self._written.values(), key=lambda w: w.file.partition)
        table = self._table()
        pairs = [(w.file.partition, w.file.path) for w in written]
        append(self.store.catalog, self.address.identifier, data_files(table.io, table.metadata, pairs), self._summary)
        failpoint("letters.committed", self.address.asset)
        with self.ledger.alone:
            record(self.ledger.connection, written)
        failpoint("letters.indexed", self.address.asset)

    def counts(self, partition: str) -> WrittenLetters | None:
        """What was written of a partition."""
        return self._written.get(partition)

    @property
    def _summary(self) -> Mapping[str, str]:
        return {ATTEMPT_KEY: self.attempt, RUN_KEY: self.run_id}

    def _write(
        self, engine: "duckdb.DuckDBPyConnection", query: str, partition: str, epoch: int, token: str | None
    ) -> WrittenLetters:
        path, before = self._path(partition, epoch), self._letters_before(partition)
        seen = "select null::varchar as letter, null::timestamptz as first_seen, 0 as seen where false"
        if before is not None:
            seen = (
                "select letter, min(first_seen) as first_seen, max(seen) as seen "
                f"from read_parquet({literal(before.path)}) group by 1"
            )
        own = {
            "period": period_of(partition), "partition": literal(partition), "epoch": f"{epoch}::bigint",
            "attempt": literal(self.attempt), "run_id": literal(self.run_id),
            "token": literal(token) if token else "null::varchar",
            "first_seen": "coalesce(b.first_seen, now())", "last_seen": "now()",
            "seen": "coalesce(b.seen, 0)::bigint + 1",
        }  # fmt: skip
        columns = ", ".join(f"{own.get(n, f'n.{quote(n)}')} as {quote(n)}" for n in LETTERS.names)
        self._copy(engine, f"select {columns} from ({query}) n left join ({seen}) b using (letter)", path)
        written = self._keep(engine, partition, epoch, path)
        failpoint("stage.rejected_kept", f"{self.address.asset}, partition {partition}")
        return written

    def _copy(self, engine: "duckdb.DuckDBPyConnection", query: str, path: str) -> None:
        with self._lock:
            self._ids = self._ids or field_ids(self._table().schema(), LETTERS.names)
        engine.execute(
            f"copy ({query}) to {literal(path)} ({PARQUET}, row_group_size {ROW_GROUP_ROWS}, field_ids {self._ids})"
        )

    def _keep(self, engine: "duckdb.DuckDBPyConnection", partition: str, epoch: int, path: str) -> WrittenLetters:
        """Reread what was written: the index tells what is stored."""
        place = (self.address.asset, partition, epoch, self.attempt, self.run_id, path)
        written = WrittenLetters(LetterFile(*place, *described(engine, path)), reason_counts(engine, path))
        self._written[partition] = written
        return written

    def _letters_before(self, partition: str) -> LetterFile | None:
        """Those of what is published now."""
        with self._lock:
            if self._before is None:
                with self.ledger.alone:
                    found = files(self.ledger.connection, "current", [self.address.asset])
                self._before = {f.partition: f for f in found}
        return self._before.get(partition)

    def _path(self, partition: str, epoch: int) -> str:
        mark = self.attempt.rpartition("-")[2]
        return f"{staged_folder(self.address.location, partition, epoch, mark)}/letters.parquet"

    def _table(self) -> "Table":
        address = self.address
        return create_table(self.store.catalog, address.identifier, address.location, address.contract)


def append(catalog: "Catalog", identifier: str, added: "Sequence[DataFile]", summary: Mapping[str, str]) -> None:
    """Add files to a letters table, but for those that it has."""
    swap(catalog, identifier, added, (), summary)


def swap(
    catalog: "Catalog",
    identifier: str,
    add: "Sequence[DataFile]",
    delete: "Sequence[str]",
    summary: Mapping[str, str],
) -> None:
    """One commit that adds files and takes others out, by path; what is so already is left alone."""

    def once(_: int) -> None:
        table = catalog.load_table(identifier)
        head = table.current_snapshot()
        there = {f.file_path: f for h in read_head(table).values() for f in h.files}
        new = [f for f in add if f.file_path not in there]
        gone = [there[path] for path in delete if path in there]
        if head is None or not (new or gone):
            return
        producer, updates = build_snapshot(table, add=new, delete=gone, summary=dict(summary))
        failpoint("letters.before_swap", identifier)
        try:
            compare_and_swap(catalog, table, (ref_is("main", head.snapshot_id),), updates, producer)
        except UnknownCommitError:
            main = {f.file_path for h in read_head(catalog.load_table(identifier)).values() for f in h.files}
            if any(f.file_path not in main for f in new) or any(f.file_path in main for f in gone):
                raise

    retry_conflicts(once)
