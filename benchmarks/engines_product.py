"""The platform's side of benchmarks.engines: one Dagster run in process over all months of a GDP table and a KPI.

    python -m benchmarks.engines_product

Size and master are those of the environment. Prints seconds of its steps as JSON.
"""

import json
import time

import dagster as dg

from benchmarks.engines_bare import TABLES
from etl_assets.definitions import build_definitions
from etl_assets.graph.jobs import ALL_LAYERS
from etl_assets.graph.keys import table_key
from etl_assets.graph.step_failures import step_failure
from etl_assets.project import load_project


def main() -> None:
    project = load_project()
    calendar = project.platform.calendar
    job = build_definitions(project).resolve_job_def(ALL_LAYERS)
    started = time.monotonic()
    with dg.DagsterInstance.get() as instance:
        run = _run(job, instance, calendar.start, calendar.end)
    if failed := [step_failure(e) for e in run.all_events if e.is_step_failure]:
        raise SystemExit(str(failed))
    steps = {e.step_key: e.step_success_data.duration_ms / 1000 for e in run.all_events if e.is_step_success}
    print(json.dumps({"run": round(time.monotonic() - started, 2), **{k or "": round(v, 2) for k, v in steps.items()}}))


def _run(job: dg.JobDefinition, instance: dg.DagsterInstance, first: str, last: str) -> dg.ExecuteInProcessResult:
    return job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        asset_selection=[table_key(name) for name in TABLES],
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
        },
    )


if __name__ == "__main__":
    main()
