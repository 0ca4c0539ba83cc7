"""Figures from what Spark's REST API tells, without a Spark."""

from typing import Any

from etl_resources.engines.spark_metrics import STAGES_KEPT_MAX, SparkMeasures, StageMeasures, measures_of


def job(*stages: int, skipped: int = 0, completed: int = 0, failed: int = 0, killed: int = 0) -> dict[str, Any]:
    """A job as /jobs tells it."""
    return {
        "stageIds": list(stages),
        "numSkippedStages": skipped,
        "numCompletedTasks": completed,
        "numFailedTasks": failed,
        "numKilledTasks": killed,
    }


def stage(number: int, status: str = "COMPLETE", attempt: int = 0, **figures: Any) -> dict[str, Any]:
    """A stage as /stages tells it: one of 2 tasks, of 10 bytes each figure."""
    figures = {"numCompleteTasks": 2, "inputRecords": 5, "executorCpuTime": 500_000_000, **figures}
    names = ("inputBytes", "shuffleReadBytes", "shuffleWriteBytes", "memoryBytesSpilled", "diskBytesSpilled")
    times = {"executorRunTime": 1000, "jvmGcTime": 100}
    begun = {"firstTaskLaunchedTime": "2026-11-30T22:12:24.625GMT", "completionTime": "2026-11-30T22:12:25.125GMT"}
    which = {"stageId": number, "attemptId": attempt, "status": status}
    return {**dict.fromkeys(names, 10), **times, **begun, **which, **figures}


def tasks(median_ms: float, longest_ms: float, peak: float = 0.0) -> dict[str, Any]:
    """Its tasks, as taskSummary tells them."""
    return {"executorRunTime": [median_ms, longest_ms], "peakExecutionMemory": [0.0, peak]}


def test_figures_are_sums_and_peaks_are_the_largest() -> None:
    """Skipped stages did nothing."""
    found = measures_of(
        [job(0, 1, skipped=1, completed=2), job(2, completed=2, failed=1, killed=3)],
        [(stage(0), tasks(100, 900, 7.0)), (stage(1, "SKIPPED"), None), (stage(2), tasks(10, 400, 9.0))],
    )
    assert (found.tries, found.jobs, found.stages, found.stages_forgotten) == (1, 2, 2, 0)
    assert (found.tasks, found.tasks_failed, found.tasks_killed) == (8, 1, 3)
    assert (found.input_bytes, found.input_rows, found.disk_spilled_bytes) == (20, 10, 20)
    assert (found.executor_run_s, found.executor_cpu_s, found.gc_s) == (2.0, 1.0, 0.2)
    assert (found.longest_task_s, found.peak_task_memory_bytes) == (0.9, 9)
    assert [(s.stage, s.seconds) for s in found.by_stage] == [(0, 0.5), (2, 0.5)]


def test_short_tasks_have_no_skew() -> None:
    """40 ms beside one of them is nothing that anybody would wait for."""
    assert measures_of([job(0)], [(stage(0), tasks(1, 40))]).skew == 1.0
    assert measures_of([job(0)], [(stage(0), tasks(500, 4000))]).skew == 8.0
    assert measures_of([job(0)], [(stage(0), tasks(0, 600))]).skew == 600.0, "a median of no time is a millisecond"


def test_a_stage_that_ran_again_is_told_twice() -> None:
    """An executor that is lost takes its shuffle files along: the stage before runs once more."""
    again = [(stage(0), tasks(1, 1)), (stage(0, attempt=1), tasks(1, 1)), (stage(1, "FAILED"), None)]
    found = measures_of([job(0, 1)], again)
    assert (found.stages, found.stages_failed, found.stages_forgotten) == (3, 1, 0)


def test_what_is_forgotten_is_counted() -> None:
    """The tasks are known of the job all the same."""
    found = measures_of([job(0, 1, 2, skipped=1, completed=9)], [(stage(2), tasks(1, 1))])
    assert (found.stages, found.stages_forgotten, found.tasks, found.input_bytes) == (2, 1, 9, 10)


def test_speculative_attempts_are_counted() -> None:
    """Spark tells of them only where there are some."""
    told = {"speculationSummary": {"numTasks": 2}}
    assert measures_of([job(0)], [(stage(0, **told), None)]).tasks_speculative == 2


def test_tries_add_up_and_survive_the_ledger() -> None:
    """Sums are sums, peaks are peaks, and the list of stages stays short."""
    stages = [StageMeasures(n, 0, 1, float(n), 0.1, 0.2, 1, 2, 3, 4) for n in range(STAGES_KEPT_MAX)]
    one = SparkMeasures(tries=1, tasks=3, skew=4.0, gc_s=0.12345, by_stage=stages)
    both = SparkMeasures()
    both.add(one)
    both.add(SparkMeasures(tries=1, tasks=2, skew=2.0, by_stage=[StageMeasures(99, 0, 1, 50.0, 1, 1, 1, 1, 1, 1)]))
    assert (both.tries, both.tasks, both.skew) == (2, 5, 4.0)
    assert [s.stage for s in both.by_stage][:2] == [99, STAGES_KEPT_MAX - 1]
    assert len(both.by_stage) == STAGES_KEPT_MAX
    told = both.as_json()
    assert SparkMeasures.from_json(told).as_json() == told
    assert both.as_metadata()["spark_tasks"] == 5
    assert "spark_by_stage" not in both.as_metadata()
