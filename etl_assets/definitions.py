"""Composition root: manifests in, Dagster definitions out. Nothing else happens here."""

import warnings
from functools import partial

import dagster as dg

from etl_assets.automation.freshness_sensor import build_freshness_sensor
from etl_assets.automation.maintenance_schedule import (
    build_maintenance_job,
    build_maintenance_schedule,
    check_keys,
)
from etl_assets.automation.reconcile_sensor import build_reconcile_sensor
from etl_assets.automation.recovery_sensor import build_recovery_sensor
from etl_assets.automation.schedules import build_jobs, build_schedules
from etl_assets.graph.asset_parts import ELASTICSEARCH, POSTGRES, TABLES
from etl_assets.graph.assets import build_assets
from etl_assets.graph.published import read_served, read_table
from etl_assets.graph.runtime import Runtime
from etl_assets.project import Project, load_project
from etl_resources.io_managers.elasticsearch import ElasticsearchIOManager
from etl_resources.io_managers.postgres import PostgresIOManager
from etl_resources.io_managers.s3_tables import S3TableIOManager
from etl_resources.settings import Settings


def build_definitions(project: Project | None = None, settings: Settings | None = None) -> dg.Definitions:
    """Definitions of a project. Settings are read when a step runs, unless they are given here."""
    project = project or load_project()
    runtime = Runtime(project, settings)
    with warnings.catch_warnings():
        # Partitioned checks and backfill policies are beta in Dagster 1.13; the pinned version is tested.
        warnings.simplefilter("ignore", category=dg.BetaWarning)
        warnings.simplefilter("ignore", category=dg.PreviewWarning)
        assets = build_assets(project, runtime)
    jobs = build_jobs(project)
    maintenance = build_maintenance_job(runtime, check_keys(assets))
    return dg.Definitions(
        assets=assets,
        jobs=[*jobs.values(), maintenance],
        schedules=[
            *build_schedules(project, jobs),
            build_maintenance_schedule(project.platform.calendar.time_zone, maintenance),
        ],
        sensors=[
            build_recovery_sensor(runtime),
            build_reconcile_sensor(runtime, [*jobs.values()]),
            build_freshness_sensor(runtime),
        ],
        resources={
            TABLES: S3TableIOManager(partial(read_table, runtime)),
            POSTGRES: PostgresIOManager(partial(read_served, runtime)),
            ELASTICSEARCH: ElasticsearchIOManager(partial(read_served, runtime)),
        },
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What `-m etl_assets.definitions` and workspace.yaml load."""
    return build_definitions()
