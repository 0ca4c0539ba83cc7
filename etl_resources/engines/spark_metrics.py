"""What Spark did for one partition, in figures, from its status store: the one that its web UI and REST API show.

Jobs are found by a tag of the thread that starts them, so that partitions that are computed side by side, on sessions
of one Spark, don't mix. The store forgets old stages (`spark.ui.retainedStages`); that is told, and nothing is guessed.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ANSWER_S = 5.0
"""Longest wait for the store to hear the end of the jobs: it is told beside them."""
STAGES_KEPT_MAX = 20
"""Stages told one by one: those that took longest."""
SKEW_FROM_S = 0.5
"""A stage whose longest task took less has no skew that anybody would wait for."""
_LARGEST = ("skew", "longest_task_s", "peak_task_memory_bytes")


@dataclass(frozen=True)
class StageMeasures:
    """One attempt of one stage. Seconds, bytes, and tasks that ended well."""

    stage: int
    attempt: int
    tasks: int
    seconds: float
    median_task_s: float
    """Of two in the middle the lower one."""
    longest_task_s: float
    input_bytes: int
    shuffle_read_bytes: int
    shuffle_write_bytes: int
    disk_spilled_bytes: int


@dataclass
class SparkMeasures:
    """The sum over all jobs of a partition, and over all tries at it; of skew and peaks the largest."""

    tries: int = 0
    jobs: int = 0
    stages: int = 0
    stages_failed: int = 0
    stages_forgotten: int = 0
    """Stages of which the store knew no more: bytes, rows, seconds and peaks are without them."""
    tasks: int = 0
    """Ended attempts at tasks; those that failed, were killed or were speculative are among them."""
    tasks_failed: int = 0
    tasks_killed: int = 0
    tasks_speculative: int = 0
    input_bytes: int = 0
    input_rows: int = 0
    shuffle_read_bytes: int = 0
    shuffle_write_bytes: int = 0
    memory_spilled_bytes: int = 0
    """Of what was spilled, as it was in memory."""
    disk_spilled_bytes: int = 0
    executor_run_s: float = 0.0
    executor_cpu_s: float = 0.0
    """Of the JVM; what Python workers computed is in executor_run_s alone."""
    gc_s: float = 0.0
    longest_task_s: float = 0.0
    skew: float = 1.0
    """Longest task / median task, of the stage where it is largest."""
    peak_task_memory_bytes: int = 0
    """Execution memory of the task that held most."""
    by_stage: list[StageMeasures] = field(default_factory=list)

    def add(self, other: "SparkMeasures") -> None:
        """Another try at the same partition."""
        for name in _FIGURES:
            mine, more = getattr(self, name), getattr(other, name)
            setattr(self, name, max(mine, more) if name in _LARGEST else mine + more)
        self.by_stage = _longest([*self.by_stage, *other.by_stage])

    def as_json(self) -> dict[str, Any]:
        """For the ledger."""
        figures = {name: _rounded(getattr(self, name)) for name in _FIGURES}
        return {**figures, "by_stage": [{k: _rounded(v) for k, v in vars(s).items()} for s in self.by_stage]}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "SparkMeasures":
        """What as_json gave."""
        stages = [StageMeasures(**stage) for stage in found["by_stage"]]
        return cls(**{name: found[name] for name in _FIGURES}, by_stage=stages)

    def as_metadata(self) -> dict[str, int | float]:
        """For the web UI, which plots numbers."""
        return {f"spark_{name}": _rounded(getattr(self, name)) for name in _FIGURES}


_FIGURES = tuple(f.name for f in fields(SparkMeasures) if f.name != "by_stage")


@contextmanager
def measuring(spark: "SparkSession", what: str, measures: SparkMeasures) -> Iterator[None]:
    """Add what the jobs inside did, of this thread alone, to measures; also when they fail.

    what: how Spark's own pages call these jobs. A Spark that died is no error here: then there are no jobs.
    """
    context, tag = spark.sparkContext, f"etl-{uuid4().hex}"
    context.addJobTag(tag)
    context.setJobDescription(what)
    try:
        yield
    finally:
        measures.add(_read(spark, tag))


def _read(spark: "SparkSession", tag: str) -> SparkMeasures:
    from py4j.protocol import Py4JError

    context = spark.sparkContext
    try:
        context.removeJobTag(tag)
        context.setJobDescription(None)  # type: ignore[arg-type]  # None takes it away
        return measures_of(*_Store(context).jobs_and_stages(tag))
    except (Py4JError, OSError, AttributeError):  # the JVM is gone, and with it what it knew
        return SparkMeasures(tries=1)


class _Store:
    """The status store, whose answers are those of Spark's REST API (`/jobs`, `/stages/…/taskSummary`)."""

    def __init__(self, context: Any) -> None:
        self._context, self._spark, self._jvm = context, context._jsc.sc(), context._jvm
        self._store = self._spark.statusStore()
        self._mapper = self._jvm.org.apache.spark.status.api.v1.JacksonMessageWriter().mapper()

    def jobs_and_stages(self, tag: str) -> tuple[list[Any], list[tuple[Any, Any]]]:
        """Ended jobs of a tag, and their stages with (lower median, maximum) of their tasks, or None."""
        until = time.monotonic() + ANSWER_S
        self._hear(until)
        jobs = self._jobs(tag)
        while any(job["status"] == "RUNNING" for job in jobs) and time.monotonic() < until:
            time.sleep(0.02)  # its tasks are being killed, or other threads keep the store busy
            jobs = self._jobs(tag)
        found = [s for i in sorted({i for job in jobs for i in job["stageIds"]}) for s in self._stages(i)]
        return jobs, [(stage, self._of_tasks(stage)) for stage in found]

    def _hear(self, until: float) -> None:
        from py4j.protocol import Py4JJavaError

        try:
            self._spark.listenerBus().waitUntilEmpty(int(max(0.0, until - time.monotonic()) * 1000))
        except Py4JJavaError as e:
            if "TimeoutException" not in str(e.java_exception):
                raise

    def _jobs(self, tag: str) -> list[Any]:
        return [self._told(self._store.job(i)) for i in self._spark.statusTracker().getJobIdsForTag(tag)]

    def _stages(self, stage: int) -> list[Any]:
        none = self._jvm.java.util.ArrayList()
        quantiles = self._context._gateway.new_array(self._jvm.double, 0)
        found: list[Any] = self._told(self._store.stageData(stage, False, none, False, quantiles))
        return found

    def _of_tasks(self, stage: Mapping[str, Any]) -> Any:
        count = stage["numCompleteTasks"]
        if not count:
            return None
        quantiles = self._context._gateway.new_array(self._jvm.double, 2)
        quantiles[0], quantiles[1] = ((count - 1) // 2 + 0.5) / count, 1.0
        found = self._store.taskSummary(stage["stageId"], stage["attemptId"], quantiles)
        return self._told(found.get()) if found.isDefined() else None

    def _told(self, value: Any) -> Any:
        return json.loads(self._mapper.writeValueAsString(value))


def measures_of(jobs: Iterable[Mapping[str, Any]], stages: Iterable[tuple[Mapping[str, Any], Any]]) -> SparkMeasures:
    """One try, from what the REST API tells of its jobs and its stages, each with (median, maximum) of its tasks."""
    jobs = list(jobs)
    ran = [(stage, tasks) for stage, tasks in stages if stage["status"] not in ("SKIPPED", "PENDING")]
    expected = len({i for job in jobs for i in job["stageIds"]}) - sum(job["numSkippedStages"] for job in jobs)
    found = SparkMeasures(
        tries=1,
        jobs=len(jobs),
        stages=max(expected, 0) + sum(stage["attemptId"] > 0 for stage, _ in ran),
        stages_failed=sum(stage["status"] == "FAILED" for stage, _ in ran),
        stages_forgotten=max(0, expected - len({stage["stageId"] for stage, _ in ran})),
        tasks=sum(job["numCompletedTasks"] + job["numFailedTasks"] + job["numKilledTasks"] for job in jobs),
        tasks_failed=sum(job["numFailedTasks"] for job in jobs),
        tasks_killed=sum(job["numKilledTasks"] for job in jobs),
    )
    for stage, tasks in ran:
        _add_stage(found, stage, tasks)
    found.by_stage = _longest(found.by_stage)
    return found


def _add_stage(found: SparkMeasures, stage: Mapping[str, Any], tasks: Any) -> None:
    found.tasks_speculative += (stage.get("speculationSummary") or {}).get("numTasks", 0)
    found.input_bytes += stage["inputBytes"]
    found.input_rows += stage["inputRecords"]
    found.shuffle_read_bytes += stage["shuffleReadBytes"]
    found.shuffle_write_bytes += stage["shuffleWriteBytes"]
    found.memory_spilled_bytes += stage["memoryBytesSpilled"]
    found.disk_spilled_bytes += stage["diskBytesSpilled"]
    found.executor_run_s += stage["executorRunTime"] / 1e3
    found.executor_cpu_s += stage["executorCpuTime"] / 1e9
    found.gc_s += stage["jvmGcTime"] / 1e3
    median_s, longest_s = (ms / 1e3 for ms in tasks["executorRunTime"]) if tasks else (0.0, 0.0)
    found.longest_task_s = max(found.longest_task_s, longest_s)
    if longest_s >= SKEW_FROM_S:
        found.skew = max(found.skew, longest_s / max(median_s, 0.001))
    if tasks:
        found.peak_task_memory_bytes = max(found.peak_task_memory_bytes, int(tasks["peakExecutionMemory"][1]))
    found.by_stage.append(
        StageMeasures(
            stage["stageId"],
            stage["attemptId"],
            stage["numCompleteTasks"],
            _seconds(stage),
            median_s,
            longest_s,
            *(stage[k] for k in ("inputBytes", "shuffleReadBytes", "shuffleWriteBytes", "diskBytesSpilled")),
        )
    )


def _seconds(stage: Mapping[str, Any]) -> float:
    """From its first task to its end; 0 where one of both is unknown."""
    from datetime import datetime

    begin, end = stage.get("firstTaskLaunchedTime"), stage.get("completionTime")
    if not begin or not end:
        return 0.0
    form = "%Y-%m-%dT%H:%M:%S.%fGMT"
    return max(0.0, (datetime.strptime(end, form) - datetime.strptime(begin, form)).total_seconds())  # noqa: DTZ007  (both are GMT)


def stages_table(measures: SparkMeasures) -> str:
    """The stages that took longest, in Markdown."""
    times = ("stage", "s", "tasks", "median task s", "longest task s")
    head = (*times, "input bytes", "shuffle read", "shuffle write", "spilled to disk")
    lines = [f"| {' | '.join(head)} |", f"|{'---:|' * len(head)}"]
    for s in measures.by_stage:
        sizes = (s.input_bytes, s.shuffle_read_bytes, s.shuffle_write_bytes, s.disk_spilled_bytes)
        name = f"{s.stage}.{s.attempt}" if s.attempt else str(s.stage)
        took = f"{s.seconds:.1f} | {s.tasks} | {s.median_task_s:.2f} | {s.longest_task_s:.2f}"
        lines.append(f"| {name} | {took} | {' | '.join(f'{size:,}' for size in sizes)} |")
    return "\n".join(lines)


def _longest(stages: Iterable[StageMeasures]) -> list[StageMeasures]:
    return sorted(stages, key=lambda s: (-s.seconds, s.stage, s.attempt))[:STAGES_KEPT_MAX]


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
