"""What runs that have not ended will compute, whoever asked for them."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from etl_assets.graph.jobs import job_assets, job_name
from etl_assets.graph.keys import asset_key
from etl_assets.project import Project
from etl_resources.calendar import WHOLE, keys_between
from etl_resources.ledger.state import Place

RUNS_MAX = 1_000
FORGOTTEN_AFTER = timedelta(hours=1)
"""A run of no daemon that says nothing of its end: its process may be long dead, and its locks with it."""
PARTITION, FIRST, LAST = "dagster/partition", "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
_LAUNCHED = ".dagster/grpc_info"
"""Tag of runs that a daemon or the web server launched: run monitoring ends them when their worker dies."""
_UNENDED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def running_places(instance: dg.DagsterInstance, project: Project, now: datetime) -> set[Place]:
    """(table or target, partition). A run without a selection is of all assets of its job."""
    jobs = {job_name(every): names for every, names in job_assets(project).items()}
    names = {asset_key(node.name): node.name for node in project.nodes}
    partitioned = {node.name: node.dataset.partitions is not None for node in project.nodes}
    found: set[Place] = set()
    for record in instance.get_run_records(dg.RunsFilter(statuses=_UNENDED), limit=RUNS_MAX):
        run = record.dagster_run
        unwatched = _LAUNCHED not in run.tags and run.status is not dg.DagsterRunStatus.QUEUED
        if unwatched and now - record.create_timestamp > FORGOTTEN_AFTER:
            continue
        selected = [names[k] for k in run.asset_selection or () if k in names]
        for name in selected if run.asset_selection else jobs.get(run.job_name, ()):
            found |= {(name, p) for p in (_partitions(run.tags) if partitioned[name] else (WHOLE,))}
    return found


def _partitions(tags: Mapping[str, Any]) -> Iterator[str]:
    if PARTITION in tags:
        yield tags[PARTITION]
    elif FIRST in tags:
        yield from keys_between(tags[FIRST], tags.get(LAST, tags[FIRST]))
