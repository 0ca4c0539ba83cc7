"""The sensor that tells, once, of assets that are behind the freshness that their manifest promises."""

import dagster as dg

from etl_assets.freshness import objectives
from etl_assets.graph.runtime import Runtime

NAME = "freshness"
INTERVAL_S = 60
SHOWN = 10


def build_freshness_sensor(runtime: Runtime) -> dg.SensorDefinition:
    """It asks for no run. It starts running where any manifest promises something."""
    promised = objectives(runtime.project)

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING if promised else dg.DefaultSensorStatus.STOPPED,
        description="Tells of assets that are behind their declared freshness (`freshness: {within_hours: …}`).",
    )
    def freshness(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from etl_assets.automation.late_assets import tell_of_late

        late = tell_of_late(runtime, context.log.warning)
        more = f" (and {len(late) - SHOWN} more)" if len(late) > SHOWN else ""
        return dg.SkipReason("; ".join(map(str, late[:SHOWN])) + more or "Every objective is met.")

    return freshness
