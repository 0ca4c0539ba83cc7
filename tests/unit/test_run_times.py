"""What a run takes beside its attempts, and how long one waits for a backfill."""

import pytest

from etl_resources.estimates import NOTHING, Interval
from etl_resources.run_times import DAEMON_TICK_S, PastRun, PastStep, RunTimes

TICK = DAEMON_TICK_S


def ran(*steps: tuple[str, float, float], start_s: float = 3.0, rest_s: float = 0.5) -> PastRun:
    """A run by the daemon. steps: (name, seconds, of them in attempts)."""
    return PastRun(1.0, start_s, sum(s for _, s, _ in steps) + rest_s, [PastStep(*s) for s in steps], by_daemon=True)


def exactly(seconds: float) -> Interval:
    return Interval(seconds, seconds, seconds)


PAST = [ran(("capture", 5, 3), ("silver", 2.5, 2), ("kpi", 1.2, 1)), ran(("growth", 3, 2), ("kpi", 1.4, 1.2))] * 3


def test_a_run_is_its_start_its_first_step_and_what_is_beside_each_attempt() -> None:
    """A process that imports everything takes seconds before its first row; a further step takes little."""
    times = RunTimes(PAST)
    assert times.worker(["capture", "kpi"], exactly(4), by_daemon=True).value == pytest.approx(3 + 2.5 + 0.2 + 4)
    assert times.worker(["growth", "silver", "kpi"], NOTHING, by_daemon=True).value == pytest.approx(3 + 1.5 + 0.7)


def test_what_was_never_seen_is_taken_as_the_others_and_assumed_without_any() -> None:
    """A new dataset is no reason to know nothing; a first backfill is, and its interval says so."""
    seen = RunTimes(PAST).worker(["new", "newer"], NOTHING, by_daemon=True)
    assert 3 + 1.5 < seen.value < 3 + 2.5 + 0.5
    unknown = RunTimes([]).worker(["new"], NOTHING, by_daemon=True)
    assert 0 < unknown.low < unknown.value < unknown.high
    assert RunTimes([]).worker(["new"], NOTHING, by_daemon=False).value < unknown.value, "no process is started"


def test_one_waits_for_the_daemon_between_waves() -> None:
    """It looks every half minute; runs of one wave go side by side."""
    times = RunTimes(PAST)
    one = times.elapsed([[exactly(10), exactly(4)]], by_daemon=True)
    assert (one.low, one.value, one.high) == (pytest.approx(11), pytest.approx(TICK / 2 + 11), pytest.approx(TICK + 11))
    two = times.elapsed([[exactly(10)], [exactly(20)]], by_daemon=True)
    assert two.value == pytest.approx(TICK / 2 + TICK + 21)
    long = times.elapsed([[exactly(TICK + 5)], [exactly(20)]], by_daemon=True)
    assert long.value == pytest.approx(TICK / 2 + 2 * TICK + 21)
    many = times.elapsed([[exactly(10)] * 40], by_daemon=True)
    assert many.value == pytest.approx(TICK / 2 + 101), "four at once"


def test_in_the_process_of_the_command_runs_follow_each_other() -> None:
    """Nobody is waited for."""
    assert RunTimes(PAST).elapsed([[exactly(10)], [exactly(4)]], by_daemon=False) == exactly(14)
    assert RunTimes(PAST).elapsed([], by_daemon=True) == NOTHING
