"""Dagster's storage in Postgres that outlives a restart of the server: runs, events and schedules.

A connection is tried again while the server is away. An event whose insert got no answer is looked up first, so that
it is never there twice; what Dagster derives from an event (tags, newest materialization, check state) is repeated,
which changes nothing when it was done before.

What a step tells of its partitions waits for the step's next event of another kind, at the latest its end, and is
stored with it: docs/decisions/0005.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as db
from dagster import DagsterEventType
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._serdes import serialize_value
from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)
from sqlalchemy.engine import Connection

from etl_resources.classify import answer_lost
from etl_resources.dagster_event_batches import EventBatches
from etl_resources.retries import retry_transient

SERVER = "Dagster's storage"
WAITING_EVENTS_MAX = 500
_OF_PARTITIONS = {DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_CHECK_EVALUATION}


@contextmanager
def patient_connection(engine: db.Engine) -> Iterator[Connection]:
    """A connection of the pool that answers, tried again while the server is away."""
    connection = retry_transient(engine.connect, SERVER)
    try:
        yield connection
    finally:
        connection.close()


class PatientRunStorage(PostgresRunStorage):
    """Runs."""

    def connect(self) -> Any:
        return patient_connection(self._engine)

    def handle_run_event(self, *args: Any, **kwargs: Any) -> None:
        """Sets a run's state: the same twice is the same."""
        _again_when_lost(lambda: super(PatientRunStorage, self).handle_run_event(*args, **kwargs))


class PatientScheduleStorage(PostgresScheduleStorage):
    """Ticks."""

    def connect(self, run_id: str | None = None) -> Any:  # noqa: ARG002  (signature of Dagster)
        return patient_connection(self._engine)


class PatientEventLogStorage(EventBatches):
    """Events, each stored once, in the order in which they came. Whoever reads through this object sees all of them."""

    def __init__(self, url: str) -> None:
        self._waiting: list[EventLogEntry] = []
        self._one_at_a_time = threading.RLock()
        super().__init__(url)

    def _connect(self) -> Any:
        self.store_waiting()
        return patient_connection(self._engine)

    def dispose(self) -> None:
        """Called when the instance ends."""
        self.store_waiting()
        super().dispose()

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event, after those that wait; one of a step's partition waits itself."""
        with self._one_at_a_time:
            if _may_wait(event):
                self._waiting.append(event)
                if len(self._waiting) >= WAITING_EVENTS_MAX:
                    self.store_waiting()
                return
            self.store_waiting()
            with self._once([event]):
                super().store_event(event)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """The same for events that are stored together: all are there, or none."""
        with self._once(events):
            super().store_event_batch(events)

    def store_waiting(self) -> None:
        """Store the events that wait. When it fails they aren't tried again: who caused it hears of it."""
        with self._one_at_a_time:
            waiting, self._waiting = self._waiting, []
            if waiting:
                self.store_event_batch(waiting)

    @contextmanager
    def _once(self, events: Sequence[EventLogEntry]) -> Iterator[None]:
        """On a lost answer look the events up, and go on from there."""
        try:
            yield
        except Exception as e:
            if not answer_lost(e):
                raise
            _again_when_lost(lambda: self._finish(events))

    def _finish(self, events: Sequence[EventLogEntry]) -> None:
        for event in events:
            event_id = self._find(event)
            if event_id is None:
                super().store_event(event)
            else:
                self._derive(event, event_id)

    def _find(self, event: EventLogEntry) -> int | None:
        """Storage id of an event that is there already; None when it isn't."""
        table = SqlEventLogStorageTable.c
        query = db.select(table.id).where(table.run_id == event.run_id, table.event == serialize_value(event))
        with self._connect() as connection:
            found = connection.execute(query.order_by(table.id.desc()).limit(1)).first()
            return int(found[0]) if found else None

    def _derive(self, event: EventLogEntry, event_id: int) -> None:
        kind = event.dagster_event_type if event.is_dagster_event else None
        if kind in ASSET_EVENTS and event.get_dagster_event().asset_key:
            with self.index_transaction() as connection:
                connection.execute(db.delete(AssetEventTagsTable).where(AssetEventTagsTable.c.event_id == event_id))
                self._store_asset_event_tags(connection, [event], [event_id])
                self._store_asset_event(connection, event, event_id)
        if kind in ASSET_CHECK_EVENTS and not self._has_check(event_id):
            self.store_asset_check_event(event, event_id)

    def _has_check(self, event_id: int) -> bool:
        column = AssetCheckExecutionsTable.c.evaluation_event_storage_id
        with self._connect() as connection:
            return connection.execute(db.select(column).where(column == event_id).limit(1)).first() is not None


class PatientPostgresStorage(DagsterPostgresStorage):
    """Dagster's three storages in one database."""

    def __init__(self, url: str) -> None:  # not its parent's, which would open its own three
        self.postgres_url, self.should_autocreate_tables, self._inst_data = url, True, None
        self._run_storage = PatientRunStorage(url)
        self._event_log_storage = PatientEventLogStorage(url)
        self._schedule_storage = PatientScheduleStorage(url)
        super(DagsterPostgresStorage, self).__init__()  # type: ignore[no-untyped-call]  # Dagster leaves it untyped


def _may_wait(event: EventLogEntry) -> bool:
    """Whether it is of a running step, which ends with an event that may not wait."""
    return bool(
        event.run_id
        and event.is_dagster_event
        and event.get_dagster_event().step_key
        and event.dagster_event_type in _OF_PARTITIONS
    )


def _again_when_lost(call: Callable[[], None]) -> None:
    """Repeat a call that may be repeated, also when its own answer is lost."""
    retry_transient(call, SERVER)
