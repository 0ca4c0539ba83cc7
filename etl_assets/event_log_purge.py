"""Deletes Dagster's old runs with their events, and never what the UI, data versions and staleness read.

Dagster keeps the state of a partition in the event log: its latest materialization with the data version, its latest
observation, the latest evaluation of each check. A run that holds one of these is kept whole; `delete_run` can't leave
single events. All others that ended before the limit go, with their logs and superseded check evaluations.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES

from etl_assets.automation.schedules import SCHEDULE_TAG, last_run

PAGE = 500
"""Runs, and events, fetched or deleted at once."""


@dataclass(frozen=True)
class PurgedEvents:
    """Runs older than the limit: deleted, or kept because they hold a latest event."""

    runs_deleted: int
    runs_kept: int


def purge_events(
    instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], *, before: datetime, dry_run: bool = False
) -> PurgedEvents:
    """Delete finished runs last changed before a moment; `checks` are those of the project."""
    old = list(_finished_before(instance, before))
    if not old:
        return PurgedEvents(0, 0)
    kept = runs_with_latest_events(instance, checks) | _newest_of_schedules(instance)
    gone = [run_id for run_id in old if run_id not in kept]
    if not dry_run:
        for run_id in gone:
            instance.delete_run(run_id)
            instance.compute_log_manager.delete_logs(prefix=[run_id])
        _delete_superseded_evaluations(instance, gone)
    return PurgedEvents(len(gone), len(old) - len(gone))


def runs_with_latest_events(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> set[str]:
    """Runs that hold what is latest of a partition, an asset or a check."""
    found: set[str] = set()
    keys = list(instance.get_asset_keys())
    for record in instance.get_asset_records(keys) if keys else ():
        entry = record.asset_entry
        found |= {run for run in (entry.last_run_id, entry.last_planned_materialization_run_id) if run}
    for key in keys:
        found |= set(_latest_runs_of(instance, key))
    storage = instance.event_log_storage
    for info in storage.get_asset_check_partition_info(checks) if checks else ():
        found.add(info.latest_planned_run_id)
    for execution in storage.get_latest_asset_check_execution_by_key(checks).values() if checks else ():
        found.add(execution.run_id)
    return found


def _newest_of_schedules(instance: dg.DagsterInstance) -> set[str]:
    """The run of each schedule's newest occurrence: it tells until when the schedule's work is done."""
    names = dict(instance.get_run_tags(tag_keys=[SCHEDULE_TAG])).get(SCHEDULE_TAG, ())
    return {run.run_id for name in names if (run := last_run(instance, name)) is not None}


def _latest_runs_of(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[str]:
    """Runs of the latest materialization, observation and planned materialization of each partition."""
    storage = instance.event_log_storage
    fetchers: dict[dg.DagsterEventType, Any] = {
        dg.DagsterEventType.ASSET_MATERIALIZATION: instance.fetch_materializations,
        dg.DagsterEventType.ASSET_OBSERVATION: instance.fetch_observations,
    }
    for kind, fetch in fetchers.items():
        yield from (r.run_id for r in fetch(key, limit=1).records)  # also of an asset without partitions
        for page in _pages(sorted(storage.get_latest_storage_id_by_partition(key, kind).values())):
            records = fetch(dg.AssetRecordsFilter(asset_key=key, storage_ids=page), limit=len(page)).records
            yield from (r.run_id for r in records)
    made = storage.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION)
    planned = storage.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    for partition, storage_id in planned.items():
        if storage_id > made.get(partition, 0):  # the partition is shown as failed
            info = storage.get_latest_planned_materialization_info(key, partition)
            if info is not None:
                yield info.run_id


def _finished_before(instance: dg.DagsterInstance, before: datetime) -> Iterator[str]:
    """Ids of runs that ended before a moment, page by page."""
    cursor: str | None = None
    while True:
        records = instance.get_run_records(
            dg.RunsFilter(statuses=list(FINISHED_STATUSES), updated_before=before), limit=PAGE, cursor=cursor
        )
        yield from (r.dagster_run.run_id for r in records)
        if len(records) < PAGE:
            return
        cursor = records[-1].dagster_run.run_id


def _delete_superseded_evaluations(instance: dg.DagsterInstance, runs: Sequence[str]) -> None:
    """Dagster keeps evaluations in a table of their own, which `delete_run` forgets; the latest of each stay."""
    import sqlalchemy as db
    from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
    from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return
    columns = AssetCheckExecutionsTable.c
    latest = db.select(db.func.max(columns.id)).group_by(columns.asset_key, columns.check_name, columns.partition)
    for page in _pages(runs):
        with storage.index_connection() as connection:
            connection.execute(
                AssetCheckExecutionsTable.delete().where(columns.run_id.in_(page), columns.id.not_in(latest))
            )


def _pages(items: "Sequence[Any]") -> Iterable[list[Any]]:
    return (list(items[n : n + PAGE]) for n in range(0, len(items), PAGE))
