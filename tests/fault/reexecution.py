"""Dagster's own memory of a run, in the lake's database, and its re-execution of what failed."""

import os
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository

from etl_resources.stack.dagster_servers import write_dagster_home
from tests.fault.driver import become, wait_at
from tests.lake import PROJECT_DIR, Child, Lake
from tests.runs import told_by


def remembering(lake: Lake) -> dict[str, str]:
    """Variables with which a run of the lake is recorded in Dagster's storage, as the web server's runs are."""
    return {"DAGSTER_HOME": str(write_dagster_home(lake.home, PROJECT_DIR))}


def re_execute(lake: Lake, run_id: str, barrier: Path | None = None) -> Child:
    """What "Re-execute from failure" does, in a process of its own, to a run that failed or whose worker died."""
    return lake.fork(_re_execute, run_id, barrier and str(barrier), **remembering(lake))


def _re_execute(run_id: str, barrier: str | None, environment: Mapping[str, str], stem: Path) -> None:
    become(environment, stem.with_suffix(".log"))
    os.chdir(environment["ETL_HOME"])
    instance = dg.DagsterInstance.get()
    run = instance.get_run_by_id(run_id)
    assert run is not None, f"Dagster knows no run {run_id}"
    if not run.is_finished:
        instance.report_run_failed(run, "Its worker died.")  # as Dagster's run monitoring does
    repository = ReconstructableRepository.for_module("etl_assets.definitions", "defs", environment["ETL_HOME"])
    if barrier:
        wait_at(Path(barrier))
    result = dg.execute_job(
        ReconstructableJob(repository, "all_layers"),
        instance=instance,
        reexecution_options=dg.ReexecutionOptions.from_failure(run_id, instance),
        tags={name: value for name, value in run.tags.items() if "partition" in name},
    )
    made = instance.get_run_by_id(result.run_id)
    assert made is not None
    assert made.parent_run_id == run_id
    stem.with_suffix(".json").write_text(told_by(result).to_json())
