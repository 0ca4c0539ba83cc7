"""One run of the job in a process of its own, which may be made to end or to stop at a chosen point.

A task has `first`, `last`, `interrupt` and `barrier`; each but the first may be None. An interrupt has
  target   what to wrap: "etl_resources.tables.table_store:publish" or "module:Class.method"
  when     "before" the call, or "after" it returned
  match    text that one of the call's arguments must contain (default: any call)
  nth      which of the matching calls (default 1)
  action   "kill" (SIGKILL to itself) or "stop" (creates file `reached`, then SIGSTOP to itself)
"""

import functools
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

BARRIER_WAIT_S = 60
POLL_S = 0.01


def interrupt(point: Mapping[str, Any]) -> None:
    """Wrap the target so that this process ends or stops there."""
    module, _, path = point["target"].partition(":")
    owner: Any = importlib.import_module(module)
    *owners, name = path.split(".")
    for part in owners:
        owner = getattr(owner, part)
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        here = any(point.get("match", "") in str(a) for a in (*args, *kwargs.values()))
        calls += here
        now = here and calls == point.get("nth", 1)
        if now and point["when"] == "before":
            _act(point)
        result = original(*args, **kwargs)
        if now and point["when"] == "after":
            _act(point)
        return result

    setattr(owner, name, wrapped)


def _act(point: Mapping[str, Any]) -> None:
    if point["action"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    Path(point["reached"]).touch()
    os.kill(os.getpid(), signal.SIGSTOP)


def wait_at(barrier: Path) -> None:
    """Say that this process is ready, then wait until the test opens the barrier."""
    barrier.with_name(f"{barrier.name}-{os.getpid()}").touch()
    deadline = time.monotonic() + BARRIER_WAIT_S
    while not barrier.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Nobody opened {barrier}.")
        time.sleep(POLL_S)


def run_task(task: Mapping[str, Any], environment: Mapping[str, str], stem: Path) -> None:
    """The process's body: writes the run to {stem}.json, everything printed to {stem}.log."""
    with stem.with_suffix(".log").open("w") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    for name in [n for n in os.environ if n.startswith(("ETL_", "ERP_", "DAGSTER_"))]:
        del os.environ[name]
    os.environ.update(environment)
    from tests.lake import execute

    if task["interrupt"]:
        interrupt(task["interrupt"])
    if task["barrier"]:
        wait_at(Path(task["barrier"]))
    stem.with_suffix(".json").write_text(execute(task["first"], task["last"], None).to_json())
