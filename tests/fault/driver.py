"""One run of the job in a process of its own, which may be made to end, stop or break at failpoints.

A task has `first`, `last`, `run_id`, `selection`, `points` and `barrier`. `points` is what etl_resources.failpoints
reads; all but `first` and `points` may be None.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl_resources import failpoints

BARRIER_WAIT_S = 300
POLL_S = 0.01


def wait_at(barrier: Path) -> None:
    """Say that this process is ready, then wait until the test opens the barrier."""
    barrier.with_name(f"{barrier.name}-{os.getpid()}").touch()
    deadline = time.monotonic() + BARRIER_WAIT_S
    while not barrier.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Nobody opened {barrier}.")
        time.sleep(POLL_S)


def become(environment: Mapping[str, str], log: Path) -> None:
    """This process has the lake's variables and nothing of the caller's; everything printed goes to the log."""
    with log.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    for name in [n for n in os.environ if n.startswith(("ETL_", "ERP_", "DAGSTER_"))]:
        del os.environ[name]
    os.environ.update(environment)


def run_task(task: Mapping[str, Any], environment: Mapping[str, str], stem: Path) -> None:
    """The process's body: writes the run to {stem}.json, everything printed to {stem}.log."""
    become({**environment, failpoints.SETTING: json.dumps(task["points"])}, stem.with_suffix(".log"))
    from tests.lake import execute

    if task["barrier"]:
        wait_at(Path(task["barrier"]))
    run = execute(task["first"], task["last"], task["selection"], task["run_id"])
    stem.with_suffix(".json").write_text(run.to_json())
