"""What runs that have not ended will compute, whoever asked for them."""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from etl_assets.graph.keys import serving_key, table_key
from etl_assets.project import Project
from etl_resources.calendar import WHOLE, months_between
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


def asset_keys(project: Project) -> Mapping[str, dg.AssetKey]:
    """Table or target → its asset."""
    tables = {name: table_key(name) for name in project.tables}
    return tables | {n.name: serving_key(n.name) for n in project.serving}


def running_places(instance: dg.DagsterInstance, project: Project, everything: str, now: datetime) -> set[Place]:
    """(table or target, partition). everything: name of the job whose runs without a selection are of all assets."""
    names = {key: name for name, key in asset_keys(project).items()}
    partitioned = {n: node.dataset.partitions is not None for n, node in project.tables.items()}
    partitioned |= {n.name: n.table.dataset.partitions is not None for n in project.serving}
    found: set[Place] = set()
    for record in instance.get_run_records(dg.RunsFilter(statuses=_UNENDED), limit=RUNS_MAX):
        run = record.dagster_run
        unwatched = _LAUNCHED not in run.tags and run.status is not dg.DagsterRunStatus.QUEUED
        if unwatched and now - record.create_timestamp > FORGOTTEN_AFTER:
            continue
        keys: Collection[dg.AssetKey] = run.asset_selection or (names if run.job_name == everything else ())
        for name in (names[k] for k in keys if k in names):
            found |= {(name, p) for p in (_partitions(run.tags) if partitioned[name] else (WHOLE,))}
    return found


def _partitions(tags: Mapping[str, Any]) -> Iterator[str]:
    if PARTITION in tags:
        yield tags[PARTITION]
    elif FIRST in tags:
        yield from months_between(tags[FIRST], tags.get(LAST, tags[FIRST]))
