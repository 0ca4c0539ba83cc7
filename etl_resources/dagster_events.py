"""Dagster's storage in Postgres that outlives a restart of the server: runs, events and schedules.

A connection is tried again while the server is away. An event whose insert got no answer is looked up first, so that
it is never there twice; what Dagster derives from an event (tags, newest materialization, check state) is repeated,
which changes nothing when it was done before.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as db
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
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)
from sqlalchemy.engine import Connection

from etl_resources.classify import answer_lost
from etl_resources.retries import retry_transient

SERVER = "Dagster's storage"


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


class PatientEventLogStorage(PostgresEventLogStorage):
    """Events, each stored once."""

    def _connect(self) -> Any:
        return patient_connection(self._engine)

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event; on a lost answer look it up, and go on from there."""
        try:
            super().store_event(event)
        except Exception as e:
            if not answer_lost(e):
                raise
            _again_when_lost(lambda: self._finish([event]))

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """The same for events that are stored in one statement: all are there, or none."""
        try:
            super().store_event_batch(events)
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


def _again_when_lost(call: Callable[[], None]) -> None:
    """Repeat a call that may be repeated, also when its own answer is lost."""
    retry_transient(call, SERVER)
