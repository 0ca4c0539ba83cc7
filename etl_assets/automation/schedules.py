"""Jobs and schedules. Runs are level-triggered: each looks at the source again and prunes what is current."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import dagster as dg

from etl_assets.graph.partitions import monthly_partitions
from etl_assets.project import Project
from etl_resources.calendar import month_bounds
from etl_resources.manifest import Partitions

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

ALL_LAYERS = "all_layers"
MONTHLY = "0 4 2 * *"
"""04:00 on the second day of a month, in the calendar's time zone: the month before is complete."""


def build_jobs(project: Project) -> Mapping[str, "UnresolvedAssetJobDefinition"]:
    """Name → job over every layer."""
    return {
        ALL_LAYERS: dg.define_asset_job(
            ALL_LAYERS,
            selection=dg.AssetSelection.all(),
            description="Source to serving, for the partitions of the run.",
            partitions_def=_partitions(project),
        )
    }


def build_schedules(
    project: Project, jobs: Mapping[str, "UnresolvedAssetJobDefinition"]
) -> list[dg.ScheduleDefinition]:
    """The monthly schedule; it starts stopped, as every schedule should that nobody asked for."""
    partitions = _partitions(project)

    @dg.schedule(
        name="monthly_all_layers",
        cron_schedule=MONTHLY,
        job=jobs[ALL_LAYERS],
        execution_timezone=project.platform.calendar.time_zone,
        description="Materializes the newest complete month, after looking at the source again.",
    )
    def monthly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        now = context.scheduled_execution_time.date()
        complete = [k for k in partitions.get_partition_keys() if month_bounds(k)[1] <= now]
        if not complete:
            return dg.SkipReason("No month of the calendar is complete yet.")
        newest = complete[-1]
        return dg.RunRequest(run_key=f"{newest}@{now.isoformat()}", partition_key=newest)

    return [monthly]


def _partitions(project: Project) -> dg.MonthlyPartitionsDefinition:
    calendar = project.platform.calendar
    return monthly_partitions(calendar, Partitions(by="month", every="month"))
