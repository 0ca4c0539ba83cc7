"""Partitions as Dagster knows them: periods of the platform's calendar, or none where a table has one partition.

A run has the partitions of one grain. Assets without partitions take part in it, whatever the grain, once, as a whole.
In such a run Dagster gives them the run's partitions as their keys, which they must not use.
"""

from collections.abc import Sequence
from functools import cache

import dagster as dg

from etl_resources.calendar import WHOLE, Every, Grain, bounds
from etl_resources.manifest import Calendar, Partitions
from etl_resources.manifest_tables import Window

TimeWindows = dg.TimeWindowPartitionsDefinition


@cache
def _periods(grain: Grain, first: str, end: str, time_zone: str) -> TimeWindows:
    """end: the key that the first period after the last one would have."""
    if grain.every == "month":
        return dg.MonthlyPartitionsDefinition(start_date=first, end_date=end, fmt=grain.form, timezone=time_zone)
    return TimeWindows(start=first, end=end, fmt=grain.form, cron_schedule=grain.cron(), timezone=time_zone)


def partitions_def(calendar: Calendar, partitions: Partitions | None) -> TimeWindows | None:
    """Of a dataset's assets, in the calendar's time zone; None for a dataset without partitions."""
    if partitions is None:
        return None
    grain, keys = calendar.grain(partitions.every), calendar.keys(partitions)
    return _periods(grain, keys[0], grain.containing(bounds(keys[-1])[1]), calendar.time_zone)


def every_period(calendar: Calendar, every: Every) -> TimeWindows:
    """All periods of a kind that the calendar has."""
    found = partitions_def(calendar, Partitions(by="period", every=every))
    assert found is not None  # noqa: S101  (there are partitions)
    return found


def input_mapping(window: Window | None, own: Partitions | None, read: Partitions | None) -> dg.PartitionMapping | None:
    """Which partitions of an input a partition reads, as Dagster's lineage and staleness know it; None: Dagster's own.

    Dagster can shift time windows of one grain alone. A window of several periods over an input of another grain is
    told as the same period: the steps themselves, plans and the reconcile sensor know better.
    """
    if window is not None and window.periods is None:
        return dg.AllPartitionMapping()
    if own is None or read is None:
        return None
    if own.every != read.every:
        return dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
    if window is None or window.periods is None:
        return None
    first, last = window.periods
    return dg.TimeWindowPartitionMapping(
        start_offset=first, end_offset=last, allow_nonexistent_upstream_partitions=True
    )


def requested(context: dg.AssetExecutionContext, partitions: Partitions | None) -> Sequence[str]:
    """Partitions that a run asks of a step."""
    return context.partition_keys if partitions else [WHOLE]


def told(partition: str) -> str | None:
    """A partition as events name it: none for the one partition of an asset without partitions."""
    return None if partition == WHOLE else partition
