"""The ledger: intents before anything is written, publishes after, and the versions to plan from.

The tables themselves are the truth about what is published; the ledger knows from what it was made, and is settled
from the tables after a crash (tables/settle).
"""

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from etl_resources.errors import TransientError
from etl_resources.failpoints import failpoint
from etl_resources.ledger.connection import connect_again, migrate, typed_errors
from etl_resources.ledger.records import (
    OPEN_INTENT,
    PUBLISH_COLUMNS,
    RECORD_PUBLISHED,
    RECORD_VERSION,
    IntendedPartition,
    Logic,
    Publish,
    Sized,
    capture_lock,
    intent_values,
    publish_of,
)
from etl_resources.run_token import inputs_as_json
from etl_resources.settings import Settings

if TYPE_CHECKING:
    import psycopg


class Ledger:
    """One session with the ledger. Locks that it takes die with it, which is how recovery knows the dead."""

    def __init__(self, connection: "psycopg.Connection[Any]", lock_timeout_s: int) -> None:
        self._connection = connection
        self._lock_timeout_s = lock_timeout_s
        self._held: set[str] = set()
        self.alone = threading.RLock()
        """For the threads of a step: the session has one transaction at a time."""

    @classmethod
    @contextmanager
    def open(cls, settings: Settings) -> Iterator["Ledger"]:
        """A session on a migrated ledger. Raises SettingsError or TransientError when there is no connection."""
        with _session(settings) as connection:
            migrate(connection)
            yield cls(connection, settings.lock_timeout_s)

    @classmethod
    @contextmanager
    def rehearse(cls, settings: Settings) -> Iterator["Ledger"]:
        """As open, in one transaction that is rolled back at the end: for dry runs. Draw no epoch in it."""
        with _session(settings) as connection, connection.transaction(force_rollback=True):
            migrate(connection)
            yield cls(connection, settings.lock_timeout_s)

    @classmethod
    @contextmanager
    def at_one_instant(cls, settings: Settings) -> Iterator["Ledger"]:
        """As rehearse, with all statements reading one snapshot: for plans and explanations, which change nothing."""
        import psycopg

        with _session(settings) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            with connection.transaction(force_rollback=True):
                migrate(connection)
                yield cls(connection, settings.lock_timeout_s)

    @property
    def connection(self) -> "psycopg.Connection[Any]":
        """For the views of the ledger that other modules read."""
        return self._connection

    @contextmanager
    def planning(self, asset: str) -> Iterator[None]:
        """A transaction in which input versions are read and epochs drawn: one planner per asset at a time.

        Without the lock a planner could read older inputs than another and still draw the higher epoch.
        """
        with self._connection.transaction(), self._waiting(f"another planner of {asset}"):
            self._connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"plan:{asset}",))
            yield
        failpoint("plan.recorded", asset)

    @contextmanager
    def ordering_captures(self, system: str, dataset: str = "") -> Iterator[Callable[[str, int], int]]:
        """Yields record(run_id, above) → epoch; take the snapshot before calling it, inside this lock.

        Then a higher epoch belongs to a later snapshot. dataset: where a system's are captured one by one.
        """
        key = capture_lock(system, dataset)
        with self._waiting(f"another {key.replace(':', ' of ')}"):
            self._connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (key,))
        try:
            yield lambda run_id, above: self._record_capture(system, run_id, above)
        finally:
            if not self._connection.closed:
                self._connection.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", (key,))

    @contextmanager
    def committing(self, asset: str) -> Iterator[None]:
        """Fairness around a commit. Its holder may hang: after the time-out, compare-and-swap alone decides."""
        import psycopg

        key = f"commit:{asset}"
        held = True
        try:
            self._connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (key,))
        except psycopg.errors.LockNotAvailable:
            held = False
        try:
            yield
        finally:
            if held and not self._connection.closed:
                self._connection.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", (key,))

    def draw_epoch(self, above: int = 0) -> int:
        """A number greater than every epoch drawn before and than `above`, the newest epoch in the tables.

        A ledger that was restored from a backup remembers fewer epochs than the tables carry.
        """
        row = self._connection.execute("select nextval('etl.epoch')").fetchone()
        assert row is not None  # noqa: S101  (nextval always returns a row)
        if row[0] > above:
            return int(row[0])
        self._connection.execute(
            "select setval('etl.epoch', greatest(%s, (select last_value from etl.epoch)))", (above,)
        )
        return self.draw_epoch(above)

    def open_attempt(
        self,
        asset: str,
        run_id: str,
        attempt: str | None = None,
        logic: Logic | None = None,
        sized: Sized | None = None,
    ) -> str:
        """Record an intent and hold its lock while this session lives. The attempt's id.

        logic: by which it computes; remembered for `why`, without which less is told. sized: for estimates; None where
        nothing is computed.
        """
        attempt = attempt or new_attempt(run_id)
        self._connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (_attempt_key(attempt),))
        self._held.add(attempt)
        self._connection.execute(OPEN_INTENT, intent_values(attempt, asset, run_id, logic, sized))
        return attempt

    def intend(self, attempt: str, partitions: Iterable[IntendedPartition]) -> None:
        """What the attempt will publish, before it writes anything."""
        from psycopg.types.json import Jsonb

        rows = [
            (attempt, p.partition, p.epoch, p.token, Jsonb(inputs_as_json(p.inputs)))
            for p in sorted(partitions, key=lambda p: p.partition)  # as the ledger's triggers take them
        ]
        with self._connection.cursor() as cursor:
            cursor.executemany(
                "insert into etl.intent_partitions (attempt, partition, epoch, token, inputs) "
                "values (%s, %s, %s, %s, %s)",
                rows,
            )

    def record_staged(self, attempt: str, partitions: Iterable[tuple[str, str, Mapping[str, Any]]]) -> None:
        """What was staged of (partition, token, staged), all at once or nothing. staged: version, rows, size_bytes,
        counts, linked, fingerprint, alias_of, stage_s, and a capture's inputs, whose version is known only now."""
        from psycopg.types.json import Jsonb

        rows = [(token, Jsonb(dict(staged)), attempt, partition) for partition, token, staged in partitions]
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(
                "update etl.intent_partitions set token = %s, staged = %s where attempt = %s and partition = %s", rows
            )

    def record_published(
        self, attempt: str, partitions: Sequence[str], snapshot_id: int | None, number: int | None = None
    ) -> None:
        """Evidence of a publish, from the intent; the same call settles it after a crash. Idempotent.

        number: the table's version that the publish made; None where there are no versions (Postgres), or no winner.
        """
        with self._connection.transaction():
            values = {"attempt": attempt, "partitions": list(partitions), "snapshot_id": snapshot_id}
            self._connection.execute(RECORD_PUBLISHED, values)
            if number is not None:
                self._connection.execute(RECORD_VERSION, {**values, "number": number})
            failpoint("evidence.recording", attempt)
            self._settle(attempt, "published", None)

    def settle(self, attempt: str, state: str, reason: str) -> None:
        """End an attempt as failed or abandoned."""
        self._settle(attempt, state, reason)

    def holds(self, attempt: str) -> bool:
        """Whether this session opened the attempt, or holds it to settle it."""
        return attempt in self._held

    def dead_attempts(self, asset: str) -> list[str]:
        """Open attempts whose session is gone."""
        rows = self._connection.execute(
            "select attempt from etl.intents where asset = %s and state = 'open' order by created_at",
            (asset,),
        ).fetchall()
        return [attempt for (attempt,) in rows if self._is_dead(attempt)]

    def current(self, asset: str, partitions: Iterable[str] | None = None) -> dict[str, Publish]:
        """Partition → its newest publish known to the ledger."""
        rows = self._connection.execute(
            f"select {PUBLISH_COLUMNS} from etl.current_versions "
            "where asset = %(asset)s and (%(some)s::text[] is null or partition = any(%(some)s))",
            {"asset": asset, "some": None if partitions is None else list(partitions)},
        ).fetchall()
        return {p.partition: p for p in map(publish_of, rows)}

    def at_epochs(self, asset: str, epochs: Mapping[str, int]) -> dict[str, Publish]:
        """Partition → the publish with exactly that epoch; partitions unknown at it are absent."""
        rows = self._connection.execute(
            f"select {PUBLISH_COLUMNS} from etl.publishes "
            "join unnest(%s::text[], %s::bigint[]) as wanted(p, e) on p = partition and e = epoch where asset = %s",
            (list(epochs), list(epochs.values()), asset),
        ).fetchall()
        return {p.partition: p for p in map(publish_of, rows)}

    def linked_since(self, asset: str, epochs: Mapping[str, int]) -> dict[str, set[str]]:
        """Partition → those that exchanged rows with it in publishes after its epoch; absent where none did."""
        rows = self._connection.execute(
            "select partition, array_agg(distinct other) from etl.publishes "
            "join unnest(%s::text[], %s::bigint[]) as read(p, e) on p = partition and epoch > e "
            "cross join unnest(linked) as other where asset = %s and other <> partition group by partition",
            (list(epochs), list(epochs.values()), asset),
        ).fetchall()
        return {partition: set(others) for partition, others in rows}

    def _record_capture(self, system: str, run_id: str, above: int) -> int:
        epoch = self.draw_epoch(above)
        self._connection.execute(
            "insert into etl.captures (epoch, system, run_id) values (%s, %s, %s)", (epoch, system, run_id)
        )
        return epoch

    def _settle(self, attempt: str, state: str, reason: str | None) -> None:
        self._connection.execute(
            "update etl.intents set state = %s, reason = %s, settled_at = now() where attempt = %s",
            (state, reason, attempt),
        )
        if attempt in self._held:
            self._held.remove(attempt)
            self._connection.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", (_attempt_key(attempt),))

    def _is_dead(self, attempt: str) -> bool:
        """Whether no session holds the attempt; if so this one holds it until it is settled."""
        if attempt in self._held:
            return False
        row = self._connection.execute(
            "select pg_try_advisory_lock(hashtextextended(%s, 0))", (_attempt_key(attempt),)
        ).fetchone()
        dead = bool(row and row[0])
        if dead:
            self._held.add(attempt)
        return dead

    @contextmanager
    def _waiting(self, for_what: str) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.errors.LockNotAvailable as e:
            raise TransientError(f"Waited {self._lock_timeout_s} s for {for_what}. Try again.") from e


@contextmanager
def _session(settings: Settings) -> "Iterator[psycopg.Connection[Any]]":
    connection = connect_again(
        settings.require_postgres(),
        setting="ETL_POSTGRES_DSN",
        timeout_s=settings.postgres_connect_timeout_s,
    )
    with connection, typed_errors("The ledger"):
        connection.execute(f"set lock_timeout = '{settings.lock_timeout_s}s'")
        yield connection


def _attempt_key(attempt: str) -> str:
    return f"attempt:{attempt}"


def new_attempt(run_id: str) -> str:
    """A new attempt's id: the run and a random part."""
    return f"{run_id[:8]}-{uuid.uuid4().hex[:12]}"
