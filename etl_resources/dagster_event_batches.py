"""Many events of Dagster in a few statements.

Dagster stores an event with about five statements: the event, a notification that nobody hears any more, its tags, its
asset's newest event, its check. A step of 36 partitions tells some 200 events one after the other; here they are
one transaction. What is stored is what Dagster itself would store, event by event.
"""

from collections import Counter
from collections.abc import Sequence

import sqlalchemy as db
from dagster import DagsterEventType
from dagster._core.events import ASSET_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster_postgres import PostgresEventLogStorage
from sqlalchemy.engine import Connection

Told = tuple[EventLogEntry, int]
"""An event and its storage id."""
_TOGETHER = {
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_CHECK_EVALUATION,
    DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
}
_PLANNED = db.text("""
insert into asset_check_executions
    (asset_key, check_name, partition, run_id, execution_status, evaluation_event, evaluation_event_timestamp,
     evaluation_event_storage_id)
select told.asset, told.name, told.partition, e.run_id, :status, e.event, e.timestamp, e.id
from unnest(cast(:ids as bigint[]), cast(:assets as text[]), cast(:checks as text[]), cast(:partitions as text[]))
     as told(id, asset, name, partition)
join event_logs e on e.id = told.id
""")
_EVALUATED = db.text("""
update asset_check_executions c
set execution_status = told.status, evaluation_event = e.event, evaluation_event_timestamp = e.timestamp,
    evaluation_event_storage_id = e.id, materialization_event_storage_id = told.target
from unnest(cast(:ids as bigint[]), cast(:assets as text[]), cast(:checks as text[]), cast(:partitions as text[]),
            cast(:statuses as text[]), cast(:targets as bigint[]))
     as told(id, asset, name, partition, status, target)
join event_logs e on e.id = told.id
where c.asset_key = told.asset and c.check_name = told.name and c.run_id = e.run_id
  and c.partition is not distinct from told.partition
returning e.id
""")


class EventBatches(PostgresEventLogStorage):
    """Dagster's event log, whose `store_event_batch` takes a few statements for all kinds of which there are many."""

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store the events in their order: all of them, or none."""
        if not events or not all(e.is_dagster_event and e.dagster_event_type in _TOGETHER for e in events):
            super().store_event_batch(events)
            return
        with self.index_transaction() as connection:
            insert = SqlEventLogStorageTable.insert().returning(
                SqlEventLogStorageTable.c.id, sort_by_parameter_order=True
            )
            ids = list(connection.scalars(insert, [self._event_to_row(e) for e in events]))
            told = list(zip(events, ids, strict=True))
            self._store_asset_events(connection, [(e, i) for e, i in told if e.dagster_event_type in ASSET_EVENTS])
            self._store_planned(connection, _of_kind(told, DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED))
            left = self._store_evaluations(connection, _of_kind(told, DagsterEventType.ASSET_CHECK_EVALUATION))
        for event, event_id in left:
            self.store_asset_check_event(event, event_id)

    def _store_asset_events(self, connection: Connection, told: Sequence[Told]) -> None:
        """Tags of all events; of each asset and kind the newest event. In the order of the assets: no deadlock."""
        self._store_asset_event_tags(connection, [e for e, _ in told], [i for _, i in told])
        newest = {(str(e.get_dagster_event().asset_key), e.dagster_event_type): (e, i) for e, i in told}
        for key in sorted(newest, key=str):
            self._store_asset_event(connection, *newest[key])

    def _store_planned(self, connection: Connection, told: Sequence[Told]) -> None:
        """A row per check and partition."""
        rows: list[tuple[int, str, str, str | None]] = []
        for event, event_id in told:
            planned = event.get_dagster_event().asset_check_planned_data
            subset = planned.partitions_subset
            asset = planned.asset_key.to_string()
            partitions = subset.get_partition_keys() if subset else [None]
            rows += [(event_id, asset, planned.check_name, partition) for partition in partitions]
        if rows:
            ids, assets, checks, partitions = map(list, zip(*rows, strict=True))
            values = {"ids": ids, "assets": assets, "checks": checks, "partitions": partitions}
            connection.execute(_PLANNED, {**values, "status": AssetCheckExecutionRecordStatus.PLANNED.value})

    def _store_evaluations(self, connection: Connection, told: Sequence[Told]) -> list[Told]:
        """Fill in the rows of planned checks. Those that have no row, or two, are left for Dagster."""
        if not told:
            return []
        status = AssetCheckExecutionRecordStatus
        found = [e.get_dagster_event().asset_check_evaluation_data for e, _ in told]
        targets = [c.target_materialization_data for c in found]
        values = {
            "ids": [i for _, i in told],
            "assets": [c.asset_key.to_string() for c in found],
            "checks": [c.check_name for c in found],
            "partitions": [c.partition for c in found],
            "statuses": [(status.SUCCEEDED if c.passed else status.FAILED).value for c in found],
            "targets": [t.storage_id if t else None for t in targets],
        }
        updated = Counter(connection.scalars(_EVALUATED, values))
        return [(e, i) for e, i in told if updated[i] != 1]


def _of_kind(told: Sequence[Told], kind: DagsterEventType) -> list[Told]:
    return [(e, i) for e, i in told if e.dagster_event_type == kind]
