"""The daily maintenance: a job of one step, beside the assets, and its schedule."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from etl_assets.graph.runtime import Runtime
from etl_assets.project_schedule_checks import MAINTENANCE as NAME
from etl_resources.io_managers.failure import failing_clearly

MAINTENANCE = "maintenance"
DAILY = "30 3 * * *"
"""03:30 in the calendar's time zone, before the monthly run."""


def build_maintenance_job(runtime: Runtime, checks: Sequence[dg.AssetCheckKey]) -> dg.JobDefinition:
    """The job; `checks` are those of the project, whose latest evaluations stay."""

    @dg.op(name="maintain", description="Compaction, expiry, deletion of what nothing references, old events.")
    def maintain_all(context: dg.OpExecutionContext) -> None:
        from etl_assets.maintain import maintain

        with failing_clearly(context.run.run_id):
            report = maintain(runtime, (), context.log.info, instance=context.instance, checks=checks)
        context.add_output_metadata({"tables": dg.MetadataValue.json(report.as_json())})
        for line in report.lines():
            context.log.info(line)
        if report.failed:
            raise dg.Failure("; ".join(f"{asset}: {why}" for asset, why in report.failed.items()), allow_retries=False)

    @dg.job(
        name=MAINTENANCE,
        description="What `data-pipeline maintain` does. Runs beside readers and writers.",
        executor_def=dg.in_process_executor,
    )
    def maintenance() -> None:
        maintain_all()

    return maintenance


def build_maintenance_schedule(time_zone: str, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """It starts by itself: without it, metadata and small files grow with every publish."""
    return dg.ScheduleDefinition(
        name=NAME,
        cron_schedule=DAILY,
        job=job,
        execution_timezone=time_zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Maintains every table and Dagster's event log.",
    )


def check_keys(assets: Sequence[Any]) -> list[dg.AssetCheckKey]:
    """Checks that the assets evaluate."""
    return [key for a in assets if isinstance(a, dg.AssetsDefinition) for key in a.check_keys]
