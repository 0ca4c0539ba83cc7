"""Serving tables in Postgres (C7): COPY into a staging table, then one transaction that checks the epoch and replaces.

The commit table lives in the target's database, so that data, token and epoch change together or not at all.
"""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from etl_resources.contract import Contract
from etl_resources.dead_letters.writing import Letters
from etl_resources.engines.embedded import stream
from etl_resources.errors import FencedError, PermanentError, RestartError, TransientError
from etl_resources.failpoints import failpoint
from etl_resources.identifiers import literal, quote, quote_qualified
from etl_resources.ledger.attempt_records import partition_records
from etl_resources.ledger.connection import typed_errors
from etl_resources.ledger.ledger import Ledger
from etl_resources.partition_sql import PartitionBy
from etl_resources.planning import PlannedPartition
from etl_resources.quality.content_hash import content_hash, version_of
from etl_resources.retries import retry_transient
from etl_resources.settings import Settings
from etl_resources.sinks.postgres_connections import borrowed, closing_all
from etl_resources.sinks.postgres_copy import BATCH_ROWS, copy_rows, naming_nul
from etl_resources.sinks.postgres_recovery import settle_target
from etl_resources.sinks.postgres_tables import (
    COMMITS,
    PARTITION_COLUMN,
    STAGING_SCHEMA,
    create_part,
    create_staging,
    distinct_rows,
    ensure_target,
    forget_former,
    served_rows,
)
from etl_resources.sinks.serving import Former, ServingBatch, StagedRows, recognise_published
from etl_resources.tables.publish import PublishOutcome, prove_aliases
from etl_resources.tables.stage import StagedPartition

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb
    import psycopg

MAX_NAME_PART = 40
"""Characters of the target in a staging table's name: Postgres cuts names at 63, and the attempt must stay whole."""


@dataclass(frozen=True)
class PostgresSink:
    """One target table."""

    settings: Settings
    target: str
    load: Literal["replace", "upsert"]
    key: tuple[str, ...]
    contract: Contract
    asset: str
    idle: "list[psycopg.Connection[Any]] | None" = None
    """Connections of the session that nobody uses; None outside of a session."""

    @contextmanager
    def session(self) -> "Iterator[Self]":
        """This sink, keeping its connections until the end: making one takes longer than writing a small month."""
        with closing_all() as idle:
            yield replace(self, idle=idle)

    @contextmanager
    def connection(self) -> "Iterator[psycopg.Connection[Any]]":
        """A connection to the target's database."""
        with typed_errors(f"Serving table {self.target}"), borrowed(self.settings, self.idle) as connection:
            yield connection

    @property
    def writers(self) -> int:
        """Two: the server reads one part back while the other is sent."""
        return 2

    def ensure(self) -> None:
        """Target, commit table and staging schema exist and fit the contract."""
        with self.connection() as connection:
            ensure_target(connection, self.target, self.contract, self.key)

    def published_epochs(self) -> dict[str, int]:
        """Partition → epoch of what is served."""
        with self.connection() as connection:
            rows = connection.execute(
                f"select partition, epoch from {COMMITS} where target = %s", (self.target,)
            ).fetchall()
        return dict(rows)

    def settle(self, ledger: Ledger) -> dict[str, str]:
        """Settle attempts whose writer died: drop the staging table (the fence), then look at the commit table."""
        return settle_target(self, ledger)

    def begin(self, attempt: str, epoch: int) -> None:  # noqa: ARG002  (signature of ServingSink)
        """A staging table of this attempt; each partition gets a part of its own, which is counted and read alone."""
        with self.connection() as connection, connection.transaction():
            connection.execute(create_staging(self.staging_table(attempt), self.contract))
        failpoint("postgres.staging_created", self.asset)

    def write(
        self,
        engine: "duckdb.DuckDBPyConnection",
        letters: Letters,  # noqa: ARG002  (signature of ServingSink: COPY refuses no single row)
        attempt: str,
        planned: PlannedPartition,
        scan: str,
        former: Former | None = None,  # noqa: ARG002  (signature of ServingSink: everything is written)
    ) -> StagedRows:
        """A partition as it stands in the staging table after COPY. Written again, it replaces what was there."""
        names = ", ".join(map(quote, self.contract.names))
        staging, part = self.staging_table(attempt), self._staging_part(attempt, planned.partition)
        value = literal(planned.partition)
        with self.connection() as connection, connection.transaction():
            connection.execute(create_part(part, planned.partition, self.contract))
            batches = stream(engine, f"select {names} from {scan}", BATCH_ROWS)
            with naming_nul(engine, self.contract, self.key, scan, f"{self.asset}, partition {planned.partition}"):
                size_bytes = copy_rows(connection, part, names, batches)
            counted = connection.execute(
                f"select count(*), {distinct_rows(part, self.key)}, {content_hash(self.contract, 'postgres')} "
                f"from {part}".encode()
            ).fetchone()
            # last, because it locks the staging table; when an heir has dropped that, the part goes with this error
            connection.execute(f"alter table {staging} attach partition {part} for values in ({value})".encode())
        assert counted is not None  # noqa: S101  (an aggregate always returns a row)
        rows, distinct, digest = counted
        failpoint("postgres.copied", f"{self.asset}, partition {planned.partition}")
        return StagedRows(int(rows), int(distinct), version_of(int(rows), digest), size_bytes)

    def publish(self, batch: ServingBatch) -> PublishOutcome:
        """One transaction: lock the partitions' commit rows, check epochs, replace or upsert, write token and epoch."""
        failpoint("postgres.before_transaction", self.asset)
        try:
            winners = retry_transient(lambda: self._replace(batch), self.asset)
        except (TransientError, PermanentError) as e:
            outcome = self._read_back(batch)
            if outcome is None:
                self.abandon(batch, str(e))
                raise
            winners = list(outcome.published)
        failpoint("postgres.after_commit", self.asset)
        names = [p.partition for p in winners]
        batch.ledger.record_published(batch.attempt, names, None)
        failpoint("postgres.recorded", self.asset)
        fenced = tuple(p.partition for p in batch.partitions if p.partition not in names)
        return PublishOutcome(0, tuple(winners), fenced, "transaction")

    def _replace(self, batch: ServingBatch) -> list[StagedPartition]:
        """The transaction. After a TransientError the server has rolled it back; after a RestartError nobody knows."""
        with self.connection() as connection, connection.transaction():
            winners = self._winners(connection, batch)
            failpoint("postgres.locked", self.asset)
            written = [p for p in winners if p.alias_of is None]
            changed = [p.partition for p in written]
            self._prove_staged(connection, batch.attempt, written)
            if self.load == "replace":  # all before the first insert: a row that moved has one key in both
                self._clear(connection, changed)
            self._fill(connection, batch.attempt, changed)
            self._prove_rows(connection, batch.attempt, written)
            failpoint("postgres.replaced", self.asset)
            records = partition_records(batch.ledger.connection, batch.attempt)
            self._record_commits(connection, batch, winners, records)
            connection.execute(f"drop table {self.staging_table(batch.attempt)}")
            failpoint("postgres.before_commit", self.asset)
        return winners

    def abandon(self, batch: ServingBatch, reason: str) -> None:
        """Fence the attempt first, then record that it failed."""
        with self.connection() as connection:
            connection.execute(f"drop table if exists {self.staging_table(batch.attempt)}")
        failpoint("postgres.abandon_fenced", self.asset)
        batch.ledger.settle(batch.attempt, "failed", reason)

    def _winners(self, connection: "psycopg.Connection[Any]", batch: ServingBatch) -> list[StagedPartition]:
        self._lock(connection)
        exists = connection.execute("select to_regclass(%s)", (self.staging_table(batch.attempt),)).fetchone()
        if exists is None or exists[0] is None:
            raise FencedError(f"{self.target}: the staging table of {batch.attempt} is gone; it may not publish.")
        rows = [(self.target, p.partition) for p in sorted(batch.partitions, key=lambda p: p.partition)]
        with connection.cursor() as cursor:
            cursor.executemany(
                f"insert into {COMMITS} (target, partition) values (%s, %s) on conflict do nothing", rows
            )
        current = dict(
            connection.execute(
                f"select partition, epoch from {COMMITS} where target = %s and partition = any(%s) "
                "order by partition for update",
                (self.target, [p for _, p in rows]),
            ).fetchall()
        )
        served = connection.execute(
            f"select partition, epoch, attempt from {COMMITS} where target = %s and epoch > 0", (self.target,)
        ).fetchall()
        batch.prove({p for p, _, _ in served})
        recognise_published(batch.ledger, self.asset, {p: (epoch, attempt) for p, epoch, attempt in served})
        winners = [p for p in batch.partitions if current[p.partition] < p.epoch]
        prove_aliases(self.asset, winners, current)
        return winners

    def _lock(self, connection: "psycopg.Connection[Any]") -> None:
        """One writer of the target at a time; whoever has it knows that no transaction is still about to commit."""
        connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"serve:{self.target}",))

    def _clear(self, connection: "psycopg.Connection[Any]", partitions: Sequence[str]) -> None:
        rows = PartitionBy.of(self.contract).keep(partitions)
        connection.execute(f"delete from {quote_qualified(self.target)} where {rows}".encode())

    def _fill(self, connection: "psycopg.Connection[Any]", attempt: str, partitions: Sequence[str]) -> None:
        """In the order of the key, which its index likes."""
        names, keys = (", ".join(map(quote, c)) for c in (self.contract.names, self.key))
        staged = f"select {names} from {self.staging_table(attempt)} where {PARTITION_COLUMN} = any(%s) order by {keys}"
        conflict = ""
        if self.load == "upsert":
            others = [quote(c) for c in self.contract.names if c not in self.key]
            change = ", ".join(f"{c} = excluded.{c}" for c in others)
            old, new = (", ".join(f"{row}.{c}" for c in others) for row in ("served", "excluded"))
            action = f"do update set {change} where ({old}) is distinct from ({new})" if others else "do nothing"
            conflict = f"on conflict ({keys}) {action}"
        insert = f"insert into {quote_qualified(self.target)} as served ({names}) {staged} {conflict}"
        connection.execute(insert.encode(), (list(partitions),))

    def _prove_staged(
        self, connection: "psycopg.Connection[Any]", attempt: str, written: Sequence[StagedPartition]
    ) -> None:
        """What was audited is still there: a server that crashed since has emptied its unlogged tables, each wholly."""
        found = connection.execute(
            f"select wanted from unnest(%s::text[]) as wanted where (select 1 "  # of one row: each part is pruned to
            f"from {self.staging_table(attempt)} where {PARTITION_COLUMN} = wanted limit 1) is null".encode(),
            ([p.partition for p in written if p.rows],),
        ).fetchall()
        for (partition,) in found:
            raise RestartError(
                f"{self.asset}, partition {partition}: none of the rows that were written are left: the database was "
                "restarted since. They are written again."
            )

    def _prove_rows(
        self, connection: "psycopg.Connection[Any]", attempt: str, filled: Sequence[StagedPartition]
    ) -> None:
        """The target holds as many rows as were audited; what an upsert left over is deleted before.

        Raises PermanentError, which rolls the transaction back.
        """
        partitions = [p.partition for p in filled]
        found = served_rows(connection, self.target, self.contract, partitions)
        if self.load == "upsert" and any(found.get(p.partition, 0) > p.rows for p in filled):
            self._delete_vanished(connection, attempt, partitions)
            found = served_rows(connection, self.target, self.contract, partitions)
        for p in filled:
            if found.get(p.partition, 0) != p.rows:
                raise PermanentError(
                    f"{self.asset}, partition {p.partition}: {p.rows} rows were audited and the target would hold "
                    f"{found.get(p.partition, 0)}. What it had stays: does a trigger or a rule of the database "
                    "change what is inserted?"
                )

    def _delete_vanished(self, connection: "psycopg.Connection[Any]", attempt: str, partitions: Sequence[str]) -> None:
        """Served rows of the partitions that aren't among their staged ones, which are all served by now."""
        rows = PartitionBy.of(self.contract).keep(partitions)
        same = " and ".join(f"staged.{c} = served.{c}" for c in map(quote, self.key))
        staged = f"select from {self.staging_table(attempt)} as staged where {PARTITION_COLUMN} = any(%s) and {same}"
        delete = f"delete from {quote_qualified(self.target)} as served where {rows} and not exists ({staged})"
        connection.execute(delete.encode(), (list(partitions),))

    def _record_commits(
        self,
        connection: "psycopg.Connection[Any]",
        batch: ServingBatch,
        winners: Sequence[StagedPartition],
        records: Mapping[str, str],
    ) -> None:
        rows = [
            (p.epoch, p.token, p.version, p.rows, batch.attempt, batch.run_id, records[p.partition], self.target,
             p.partition)
            for p in winners
        ]  # fmt: skip
        with connection.cursor() as cursor:
            cursor.executemany(
                f"update {COMMITS} set epoch = %s, token = %s, version = %s, rows = %s, attempt = %s, run_id = %s, "
                "published_at = now(), evidence = %s where target = %s and partition = %s",
                rows,
            )
        forget_former(connection, self.target, self.contract)

    def _read_back(self, batch: ServingBatch) -> PublishOutcome | None:
        """What a transaction with an unknown end did; None when it didn't commit, and no longer can."""
        with self.connection() as connection, connection.transaction():
            self._lock(connection)
            rows = connection.execute(
                f"select partition from {COMMITS} where target = %s and attempt = %s",
                (self.target, batch.attempt),
            ).fetchall()
        done = {p for (p,) in rows}
        published = tuple(p for p in batch.partitions if p.partition in done)
        return PublishOutcome(0, published, (), "read_back") if published else None

    def staging_table(self, attempt: str) -> str:
        """Qualified name of an attempt's staging table."""
        schema, _, table = self.target.partition(".")
        return f"{quote(STAGING_SCHEMA)}.{quote(f'{schema}_{table}'[:MAX_NAME_PART] + f'_{attempt}')}"

    def _staging_part(self, attempt: str, partition: str) -> str:
        """Qualified name of one partition of it."""
        return f"{quote(STAGING_SCHEMA)}.{quote(f'{partition}_{attempt}')}"

    def counts(self) -> Mapping[str, tuple[int, str]]:
        """Partition → (rows, version) reread from the served rows."""
        partition = PartitionBy.of(self.contract).key("postgres")
        with self.connection() as connection:
            rows = connection.execute(
                f"select {partition}, count(*), {content_hash(self.contract, 'postgres')} "
                f"from {quote_qualified(self.target)} group by 1"
            ).fetchall()
        return {p: (n, version_of(n, digest)) for p, n, digest in rows}
