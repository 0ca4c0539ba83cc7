"""Partitions as Dagster knows them: months of the platform's calendar, or none where a table has one partition.

Assets of both kinds are in one job and one run: an asset without partitions takes part in a run of a range of months
once, as a whole. In such a run Dagster gives it the run's months as its partition keys, which it must not use.
"""

from collections.abc import Sequence
from functools import cache

import dagster as dg

from etl_resources.calendar import WHOLE, month_bounds, months_between
from etl_resources.manifest import Calendar, Partitions
from etl_resources.manifest_tables import Window


@cache
def _months(start: str, end: str, time_zone: str) -> dg.MonthlyPartitionsDefinition:
    return dg.MonthlyPartitionsDefinition(start_date=start, end_date=_next(end), fmt="%Y-%m", timezone=time_zone)


def monthly_partitions(calendar: Calendar, partitions: Partitions) -> dg.MonthlyPartitionsDefinition:
    """Months (keys 2023-08 …) of a dataset: the calendar's span unless the manifest narrows it."""
    return _months(partitions.start or calendar.start, partitions.end or calendar.end, calendar.time_zone)


def partitions_def(calendar: Calendar, partitions: Partitions | None) -> dg.MonthlyPartitionsDefinition | None:
    """Of a dataset's assets; None for a dataset without partitions."""
    return monthly_partitions(calendar, partitions) if partitions else None


def partition_keys(calendar: Calendar, partitions: Partitions | None) -> list[str]:
    """Keys of a dataset's partitions, without asking Dagster."""
    if partitions is None:
        return [WHOLE]
    return months_between(partitions.start or calendar.start, partitions.end or calendar.end)


def window_mapping(window: Window) -> dg.PartitionMapping:
    """Which partitions of an input a partition reads, as Dagster's lineage and staleness know it."""
    if window.months is None:
        return dg.AllPartitionMapping()
    first, last = window.months
    return dg.TimeWindowPartitionMapping(
        start_offset=first, end_offset=last, allow_nonexistent_upstream_partitions=True
    )


def requested(context: dg.AssetExecutionContext, partitions: Partitions | None) -> Sequence[str]:
    """Partitions that a run asks of a step."""
    return context.partition_keys if partitions else [WHOLE]


def told(partition: str) -> str | None:
    """A partition as events name it: none for the one partition of an asset without partitions."""
    return None if partition == WHOLE else partition


def _next(month: str) -> str:
    return month_bounds(month)[1].isoformat()[:7]
