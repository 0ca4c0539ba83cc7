"""Two Dagster daemons on one instance, which Dagster warns of: whatever they do to each other, the data stay right."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from etl_resources import failpoints
from tests.daemons import DagsterOf
from tests.fault.daemon_definitions import DAEMON
from tests.fault.reader import watching
from tests.fault.scenarios import DEADLINE_S, FIRST, IMPATIENT, LAST, succeed, until
from tests.fault.sources import MONTHS, raise_prices
from tests.invariants import await_sessions_gone, prove_whole
from tests.lake import SERVED, Lake

pytest_plugins = ["tests.lake"]

RANGE = {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": LAST}
WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING)


@dataclass(frozen=True)
class RunningDaemon:
    """A daemon with its code server and the workers of its runs."""

    name: str
    process: "subprocess.Popen[bytes]"
    home: Path

    def await_tick(self) -> None:
        """Until its next tick."""
        ticked = self.home / f"ticked-{self.name}"
        ticked.unlink(missing_ok=True)
        until(lambda: ticked.exists() or self.process.poll() is not None, f"daemon {self.name} ticks")
        assert self.process.poll() is None, (self.home / f"daemon-{self.name}.log").read_text()[-3000:]

    def kill(self) -> None:
        """kill -9 of all its processes, as when its machine is lost; they are gone when this returns."""
        processes = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        psutil.wait_procs(processes, timeout=30)


class Platform:
    """The lake with Dagster's instance, as the web server has it."""

    def __init__(self, lake: Lake, folder: Path) -> None:
        self.lake, self._asked = lake, 0
        self._dagster = DagsterOf(lake, folder, "tests.fault.daemon_definitions")
        with lake.environment():
            self.instance = dg.DagsterInstance.from_config(self._dagster.home)

    @contextmanager
    def daemon(self, name: str, points: Sequence[Mapping[str, Any]] = ()) -> Iterator[RunningDaemon]:
        """Started as `data-pipeline up` starts it. No process of it is left at the end."""
        points_of_it = {DAEMON: name, failpoints.SETTING: json.dumps([*points])}
        with self._dagster.daemon(f"daemon-{name}", **IMPATIENT, **points_of_it) as process:
            running = RunningDaemon(name, process, self.lake.home)
            try:
                yield running
            finally:
                if process.poll() is None:
                    running.kill()

    def ask(self) -> None:
        """Every daemon shall request a run of the months."""
        self._asked += 1
        temporary = self.lake.home / "asking"
        temporary.write_text(json.dumps(RANGE))
        temporary.rename(self.lake.home / f"ask-{self._asked}.json")

    def runs(self, *statuses: dg.DagsterRunStatus) -> list[dg.DagsterRun]:
        return [*self.instance.get_runs(dg.RunsFilter(job_name="all_layers", statuses=statuses))]

    def completed(self, lost: Sequence[dg.DagsterRun]) -> bool:
        """Whether each of these runs, or a re-execution of it, has succeeded, and none is under way."""
        roots = {r.root_run_id or r.run_id for r in self.runs(dg.DagsterRunStatus.SUCCESS)}
        done = {r.root_run_id or r.run_id for r in lost} <= roots
        return done and not self.runs(*WAITING, dg.DagsterRunStatus.STARTED)


@pytest.fixture
def platform(small_lake: Lake, tmp_path: Path) -> Iterator[Platform]:
    succeed(small_lake)
    made = Platform(small_lake, tmp_path)
    yield made
    made.instance.dispose()


@pytest.mark.long
@pytest.mark.timeout(5 * DEADLINE_S)
def test_two_daemons_of_which_one_is_lost_publish_everything_once(platform: Platform) -> None:
    """Both tick, request and start the same; one is lost with its run in the middle; the other one takes over."""
    lake, reached = platform.lake, platform.lake.home / "reached"
    stop = {"point": "publish.before_swap", "match": "gdp_sales", "action": "stop", "reached": str(reached)}
    with watching(lake), platform.daemon("second") as second:
        with platform.daemon("first", [stop]) as first:
            first.await_tick()
            second.await_tick()
            while not reached.exists():  # they race for each run: the first one must have got one
                for month in MONTHS:
                    raise_prices(lake, month)
                platform.ask()
                until(lambda: reached.exists() or not platform.runs(*WAITING), "what was asked for has begun")
                first.await_tick()
            first.kill()
        lost = platform.runs(dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)
        for run in lost:
            platform.instance.report_run_failed(run, "Its worker is lost.")
        second.await_tick()
        until(lambda: platform.completed(lost), "the second daemon executes the lost runs again", 2 * DEADLINE_S)

    await_sessions_gone(lake)
    again = lake.materialize(FIRST, LAST)
    assert again.success, again.error
    assert again.partitions(SERVED, "pruned") == {*MONTHS}, "something was left to do"
    prove_whole(lake)
