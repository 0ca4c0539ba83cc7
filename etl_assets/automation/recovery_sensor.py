"""The sensor that settles crashed runs: their partitions are then known as published or as not, without a next run."""

import dagster as dg

from etl_assets.graph.runtime import Runtime

NAME = "settle_crashed_runs"
INTERVAL_S = 300


def build_recovery_sensor(runtime: Runtime) -> dg.SensorDefinition:
    """Looks every five minutes; asks for no run. It starts running: nobody should have to know of it."""

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Records what became of runs that crashed. `data-pipeline recover` does more, on demand.",
    )
    def settle() -> dg.SkipReason:
        from etl_resources.ledger.liveness import assets_to_settle

        dead = assets_to_settle(runtime.settings)
        if not dead:
            return dg.SkipReason("No crashed run.")
        from etl_assets.recover import settle_dead

        found = settle_dead(runtime, dead)
        return dg.SkipReason("; ".join(map(str, (*found.actions, *found.unsettled))) or "Settled by another.")

    return settle
