"""The sensor that keeps what was published fresh: it looks at the sources and asks for exactly what is out of date.

It is level-triggered: what a tick asks for follows from the ledger and the sources as they are, never from the tick
before. A failed run, a change during a run, a daemon that was away for a week or a lost cursor change nothing of it.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from etl_assets.graph.runtime import Runtime

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

NAME = "reconcile"
INTERVAL_S = 30
RUN_TAG = "data-pipeline/reconcile"
"""Tag of the runs that it asks for; the value is the run key."""


def build_reconcile_sensor(runtime: Runtime, jobs: "Sequence[UnresolvedAssetJobDefinition]") -> dg.SensorDefinition:
    """It starts running, unless platform.yaml says otherwise: late data shall arrive without a person."""
    enabled = runtime.project.platform.keep_fresh.enabled

    @dg.sensor(
        name=NAME,
        jobs=jobs,
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING if enabled else dg.DefaultSensorStatus.STOPPED,
        description="Asks for the partitions whose inputs changed, upstream first. See `data-pipeline stuck`.",
    )
    def reconcile(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        from etl_assets.automation.reconcile_tick import tick

        done = tick(runtime, context.instance, context.cursor, context.log.warning)
        context.update_cursor(done.cursor)
        yield from done.run_requests
        if not done.run_requests:
            yield dg.SkipReason(done.summary)

    return reconcile
