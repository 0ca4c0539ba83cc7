"""Jobs and schedules. Runs are level-triggered: each looks at the source again and prunes what is current."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import dagster as dg

from etl_assets.graph.jobs import job_assets, job_name
from etl_assets.graph.keys import asset_key
from etl_assets.graph.partitions import every_period
from etl_assets.project import Project
from etl_resources.calendar import Every, bounds
from etl_resources.manifest import Partitions

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

ADVERBS: Mapping[Every, str] = {
    "day": "daily",
    "week": "weekly",
    "month": "monthly",
    "quarter": "quarterly",
    "fiscal_period": "fiscal_period",
    "fiscal_quarter": "fiscal_quarter",
}


def build_jobs(project: Project) -> Mapping[Every, "UnresolvedAssetJobDefinition"]:
    """Grain → job over every layer."""
    return {
        every: dg.define_asset_job(
            job_name(every),
            selection=dg.AssetSelection.assets(*map(asset_key, names)),
            description=f"Source to serving, for the partitions of the run, by {every.replace('_', ' ')}.",
            partitions_def=every_period(project.platform.calendar, every),
        )
        for every, names in job_assets(project).items()
    }


def build_schedules(
    project: Project, jobs: Mapping[Every, "UnresolvedAssetJobDefinition"]
) -> list[dg.ScheduleDefinition]:
    """One for each grain; they start stopped, as every schedule should that nobody asked for."""
    return [_schedule(project, every, job) for every, job in jobs.items()]


def _schedule(project: Project, every: Every, job: "UnresolvedAssetJobDefinition") -> dg.ScheduleDefinition:
    calendar, told = project.platform.calendar, every.replace("_", " ")
    periods = calendar.keys(Partitions(by="period", every=every))

    @dg.schedule(
        name=f"{ADVERBS[every]}_all_layers",
        cron_schedule=calendar.grain(every).cron(2, hour=4),
        job=job,
        execution_timezone=calendar.time_zone,
        description=f"Materializes the newest complete {told}, after looking at the source again.",
    )
    def newest_complete(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        now = context.scheduled_execution_time.date()
        complete = [k for k in periods if bounds(k)[1] <= now]
        if not complete:
            return dg.SkipReason(f"No {told} of the calendar is complete yet.")
        newest = complete[-1]
        return dg.RunRequest(run_key=f"{newest}@{now.isoformat()}", partition_key=newest)

    return newest_complete
