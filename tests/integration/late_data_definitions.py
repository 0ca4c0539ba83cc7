"""What the daemon of test_late_data_by_itself loads: the project's definitions, with a sensor that ticks often.

The test may put its clock forward by the seconds in the file {ETL_HOME}/ahead. As in real life, where a tick is half a
minute after the last one, it begins when the runs of the last one have ended: so ticks can be counted.
"""

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg

from etl_assets.automation import reconcile_sensor, reconcile_tick
from etl_assets.automation.reconcile_tick import Tick, tick
from etl_assets.definitions import build_definitions
from etl_assets.graph.runtime import Runtime
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import clock

INTERVAL_S = 3
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def clock_ahead(ledger: Ledger) -> datetime:
    ahead = Path(os.environ["ETL_HOME"]) / "ahead"
    return clock(ledger) + timedelta(seconds=float(ahead.read_text()) if ahead.exists() else 0)


def tick_after_runs(
    runtime: Runtime, instance: dg.DagsterInstance, cursor: str | None, log: Callable[[str], None]
) -> Tick:
    unended = [s for s in dg.DagsterRunStatus if s not in ENDED]
    if instance.get_runs_count(dg.RunsFilter(statuses=unended)):
        return Tick(cursor=cursor or "", summary="waiting for runs")
    return tick(runtime, instance, cursor, log)


reconcile_sensor.INTERVAL_S = INTERVAL_S
reconcile_tick.clock = clock_ahead
reconcile_tick.tick = tick_after_runs
defs = build_definitions()
