"""Runs of a backfill: ordinary Dagster runs with one tag, by Dagster's daemon where it lives, else in this process."""

import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl_assets.backfill.off_peak_wait import until_open
from etl_assets.backfill.runs import PlannedRun
from etl_assets.backfill.taken import took
from etl_assets.graph.jobs import job_of
from etl_assets.graph.partitions import told as partition_told
from etl_assets.graph.runtime import Runtime
from etl_assets.graph.step_failures import step_failure
from etl_resources.calendar import WHOLE
from etl_resources.errors import PermanentError
from etl_resources.ledger.backfills import DAEMON, PROCESS, MadeBy
from etl_resources.run_times import PastRun
from etl_resources.sizes import SizeChoice

if TYPE_CHECKING:
    import dagster as dg

TAG = "data-pipeline/backfill"
"""Tag of every run of a backfill; its value is the backfill's id."""
POLL_S = 1.0
BACKFILL_DAEMONS = ("BACKFILL", "QUEUED_RUN_COORDINATOR")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
Progress = Callable[[str], None]


@dataclass(frozen=True)
class RunDone:
    """One Dagster run of a backfill, as Dagster has it."""

    run_id: str
    assets: tuple[str, ...]
    status: str
    seconds: float
    """From its first event to its end."""
    errors: tuple[str, ...]
    ended_at: float | None = None
    """Seconds since 1970."""

    @property
    def ended(self) -> bool:
        """Whether it came to an end of its own."""
        return self.status in ("SUCCESS", "FAILURE")

    @property
    def source_failed(self) -> bool:
        """Whether a source couldn't be captured in it."""
        return any(e.startswith(("capture_", "bronze__")) for e in self.errors)


class Launcher:
    """Starts the runs of one project under its own Dagster instance, and reads what came of them."""

    def __init__(self, runtime: Runtime, instance: "dg.DagsterInstance") -> None:
        self._runtime, self._instance = runtime, instance

    @classmethod
    @contextmanager
    def open(cls, runtime: Runtime) -> Iterator["Launcher"]:
        """On the instance that the project's folder configures."""
        import dagster as dg

        from etl_resources.stack.dagster_servers import write_dagster_home

        os.environ.setdefault("DAGSTER_HOME", str(write_dagster_home(runtime.settings.home, Path.cwd())))
        with dg.DagsterInstance.get() as instance:
            yield cls(runtime, instance)

    @property
    def how(self) -> str:
        """DAEMON where Dagster's daemon takes backfills and queued runs, else PROCESS."""
        from dagster._daemon.controller import get_daemon_statuses

        found = get_daemon_statuses(self._instance, BACKFILL_DAEMONS, ignore_errors=True)
        return DAEMON if all(s.healthy for s in found.values()) else PROCESS

    def run_here(
        self,
        backfill: str,
        runs: Sequence[PlannedRun],
        progress: Progress,
        choice: SizeChoice,
        *,
        off_peak: bool = False,
    ) -> None:
        """One after the other, in this process, at the sizes of a choice; a run that fails doesn't keep the others.
        off_peak: each waits."""
        from etl_assets.definitions import build_definitions

        definitions, calendar = build_definitions(self._runtime.project), self._runtime.project.platform.calendar
        for number, run in enumerate(runs, 1):
            if off_peak:
                until_open(self._runtime.project, progress)
            progress(f"run {number} of {len(runs)}: {run}, {len(run.assets)} assets, {len(run.steps)} partitions")
            start, end = (calendar.start,) * 2 if run.first == WHOLE else (run.first, run.last)
            job = definitions.resolve_job_def(job_of(run.first))
            started = time.monotonic()
            done = job.execute_in_process(
                instance=self._instance,
                raise_on_error=False,
                asset_selection=[_key(a) for a in run.assets],
                run_config=QUIET,
                tags={
                    "dagster/asset_partition_range_start": start,
                    "dagster/asset_partition_range_end": end,
                    TAG: backfill,
                    **choice.tags,
                },
            )
            what = "done" if done.success else "FAILED"
            progress(f"run {number} of {len(runs)}: {what} in {time.monotonic() - started:.1f} s ({done.run_id})")

    def submit(self, backfill: str, runs: Sequence[PlannedRun], title: str, choice: SizeChoice) -> str:
        """Hand it to the daemon, as the web UI does: on its page of backfills it can be followed and cancelled.

        The id of Dagster's backfill: another one each time, for one of which a part was done already.
        """
        from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
        from dagster._core.definitions.events import AssetKeyPartitionKey
        from dagster._core.execution.backfill import PartitionBackfill

        from etl_assets.definitions import build_definitions

        graph = build_definitions(self._runtime.project).resolve_asset_graph()
        wanted = {AssetKeyPartitionKey(_key(s.asset), partition_told(s.partition)) for r in runs for s in r.steps}
        submitted = backfill if self._instance.get_backfill(backfill) is None else uuid.uuid4().hex[:8]
        self._instance.add_backfill(
            PartitionBackfill.from_asset_graph_subset(
                backfill_id=submitted,
                backfill_timestamp=time.time(),
                tags={TAG: backfill, **choice.tags},
                dynamic_partitions_store=self._instance,
                asset_graph_subset=AssetGraphSubset.from_asset_partition_set(wanted, graph),
                title=re.sub(r'[%*"]', "", title).strip(" ,"),  # Dagster refuses these
                description=None,
                run_config=None,
            )
        )
        return submitted

    def wait(self, submitted: str, backfill: str, progress: Progress) -> str:
        """Until the daemon's backfill has ended: its status. Interrupting the wait doesn't stop the backfill."""
        from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES

        told = ""
        while True:
            found = self._instance.get_backfill(submitted)
            if found is None:
                raise PermanentError(f"Dagster doesn't know backfill {submitted}: was its storage replaced?")
            runs = self.runs_of(backfill)
            line = f"{found.status.value.lower()}, {sum(r.seconds > 0 for r in runs)} of {len(runs)} runs ended"
            ended = found.status in BULK_ACTION_TERMINAL_STATUSES
            if not ended and self.how == PROCESS:
                line += "; Dagster's daemon doesn't live: it goes on when that is started (`data-pipeline up`)"
            if line != told:
                progress(f"backfill {backfill}: {line}")
                told = line
            if ended:
                return str(found.status.value)
            time.sleep(POLL_S)

    def going(self, backfill: str) -> str | None:
        """Id of the Dagster backfill by which it runs now, or will when the daemon lives again."""
        from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionsFilter

        found = self._instance.get_backfills(BulkActionsFilter(tags={TAG: backfill}))
        return next((b.backfill_id for b in found if b.status not in BULK_ACTION_TERMINAL_STATUSES), None)

    def runs_of(self, backfill: str) -> list[RunDone]:
        """All its runs, also those of a process that was killed, oldest first."""
        import dagster as dg

        records = self._instance.get_run_records(dg.RunsFilter(tags={TAG: backfill}))
        return [self._done(r) for r in reversed(records)]

    def _done(self, record: Any) -> RunDone:
        run = record.dagster_run
        assets = tuple(sorted(".".join(k.path) for k in run.asset_selection or ()))
        seconds = record.end_time - record.start_time if record.start_time and record.end_time else 0.0
        errors = self._errors(run) if run.is_failure else ()
        return RunDone(run.run_id, assets, run.status.value, seconds, errors, record.end_time)

    def took(self, runs: Sequence[RunDone], made: MadeBy) -> dict[str, PastRun]:
        """Run id → what it took, of those that came to an end."""
        found: dict[str, PastRun] = {}
        for run in runs:
            attempts = [(asset, begin, end) for run_id, asset, begin, end in made.attempts if run_id == run.run_id]
            one = took(self._instance, self._runtime.project, run.run_id, attempts)
            if one is not None:
                found[run.run_id] = one
        return found

    def _errors(self, run: Any) -> tuple[str, ...]:
        import dagster as dg

        entries = self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        return tuple(step_failure(e.dagster_event) for e in entries if e.dagster_event)


def _key(asset: str) -> "dg.AssetKey":
    import dagster as dg

    return dg.AssetKey(asset.split("."))
