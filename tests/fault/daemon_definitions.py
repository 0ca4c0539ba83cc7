"""What the daemons of test_two_daemons load: the project's definitions, with everything that ticks ticking often.

Recovery looks every two seconds, maintenance runs every minute, and a sensor asks for a run of each file
`{ETL_HOME}/ask-*.json`, which holds the run's tags: once for every daemon.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from etl_assets.automation import maintenance_schedule, recovery_sensor
from etl_assets.definitions import build_definitions
from etl_assets.graph.jobs import ALL_LAYERS

DAEMON = "TEST_DAEMON"
"""Environment variable: the name of the daemon that runs this."""


def asked_by_files(daemon: str) -> dg.SensorDefinition:
    """Of its own name for each daemon: one of a common name would tick in whichever daemon looks first, always."""

    @dg.sensor(
        name=f"asked_by_files_{daemon}",
        job_name=ALL_LAYERS,
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def asked(_: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest]:
        home = Path(os.environ["ETL_HOME"])
        (home / f"ticked-{daemon}").touch()
        for request in sorted(home.glob("ask-*.json")):
            taken = request.with_name(f"{request.stem}-by-{daemon}")
            if not taken.exists():
                taken.touch()
                yield dg.RunRequest(tags=json.loads(request.read_text()))

    return asked


def definitions() -> dg.Definitions:
    recovery_sensor.INTERVAL_S = 2
    maintenance_schedule.DAILY = "* * * * *"
    asked = asked_by_files(os.environ.get(DAEMON, "nobody"))
    return dg.Definitions.merge(build_definitions(), dg.Definitions(sensors=[asked]))


defs = definitions()
