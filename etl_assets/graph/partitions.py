"""Partitions of the platform's calendar as Dagster knows them: one shared definition per grain and span."""

from functools import cache

import dagster as dg

from etl_resources.calendar import month_bounds, months_between
from etl_resources.manifest import Calendar, Partitions
from etl_resources.manifest_tables import Window


@cache
def _months(start: str, end: str, time_zone: str) -> dg.MonthlyPartitionsDefinition:
    return dg.MonthlyPartitionsDefinition(start_date=start, end_date=_next(end), fmt="%Y-%m", timezone=time_zone)


def monthly_partitions(calendar: Calendar, partitions: Partitions) -> dg.MonthlyPartitionsDefinition:
    """Months (keys 2023-08 …) of a dataset: the calendar's span unless the manifest narrows it."""
    return _months(partitions.start or calendar.start, partitions.end or calendar.end, calendar.time_zone)


def partition_keys(calendar: Calendar, partitions: Partitions) -> list[str]:
    """Keys of a dataset's partitions, without asking Dagster."""
    return months_between(partitions.start or calendar.start, partitions.end or calendar.end)


def window_mapping(window: Window) -> dg.PartitionMapping:
    """Which partitions of an input a partition reads, as Dagster's lineage and staleness know it."""
    if window.months is None:
        return dg.AllPartitionMapping()
    first, last = window.months
    return dg.TimeWindowPartitionMapping(
        start_offset=first, end_offset=last, allow_nonexistent_upstream_partitions=True
    )


def _next(month: str) -> str:
    return month_bounds(month)[1].isoformat()[:7]
