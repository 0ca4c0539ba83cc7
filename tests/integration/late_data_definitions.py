"""What the daemon of test_late_data_by_itself loads: the project's definitions, with a sensor that ticks often, and a
clock that the test may put forward by so many seconds as the file {ETL_HOME}/ahead says."""

import os
from datetime import datetime, timedelta
from pathlib import Path

from etl_assets.automation import reconcile_sensor, reconcile_tick
from etl_assets.definitions import build_definitions
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import clock

INTERVAL_S = 3


def clock_ahead(ledger: Ledger) -> datetime:
    ahead = Path(os.environ["ETL_HOME"]) / "ahead"
    return clock(ledger) + timedelta(seconds=float(ahead.read_text()) if ahead.exists() else 0)


reconcile_sensor.INTERVAL_S = INTERVAL_S
reconcile_tick.clock = clock_ahead
defs = build_definitions()
