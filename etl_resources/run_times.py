"""How long runs take beside the attempts in them, and how long a backfill takes until it is done, from earlier ones.

A run: its process starts (where a daemon starts one), something is read and imported for its first step, and each
further step has a bit beside its attempts: planning, events. A backfill by Dagster's daemon: the daemon looks at it
every DAEMON_TICK_S, asks for all runs that depend on nothing unfinished, and so on.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from etl_resources.estimates import FEW, NOTHING, WIDE, Interval, total

DAEMON_TICK_S = 30.0
"""Of Dagster's backfill daemon; a constant of Dagster 1.13 that no setting changes."""
RUNS_AT_ONCE = 4
"""concurrency.runs.max_concurrent_runs of dagster.yaml."""
QUEUED_S_ASSUMED, START_S_ASSUMED, FIRST_S_ASSUMED, STEP_S_ASSUMED = 2.0, 4.0, 2.0, 0.4


class PastStep(NamedTuple):
    """One step of a run."""

    name: str
    seconds: float
    attempts_s: float
    """Of it, in attempts at partitions; two that go on together count once."""


@dataclass(frozen=True)
class PastRun:
    """One run of a backfill that ended."""

    queued_s: float
    """From when it was asked for until its process was started; 0 in the process of the command."""
    start_s: float
    """From then until its first event."""
    seconds: float
    """From then to its end."""
    steps: Sequence[PastStep]
    by_daemon: bool

    @property
    def first_s(self) -> float:
        """What its first step, and the run itself, take beside the attempts."""
        return max(0.0, self.seconds - sum(s.attempts_s for s in self.steps) - sum(map(_beside, self.steps[1:])))


class RunTimes:
    """What earlier runs tell of the next ones: medians of what is most like them."""

    def __init__(self, runs: Iterable[PastRun]) -> None:
        self._runs = [r for r in runs if r.steps]
        self._steps = [s for r in self._runs for s in r.steps[1:]]

    def worker(self, steps: Sequence[str], attempts: Interval, *, by_daemon: bool) -> Interval:
        """Seconds of the process of a run with these steps and attempts."""
        alike = [r for r in self._runs if r.by_daemon == by_daemon]
        first = [r for r in alike if r.steps[0].name == steps[0]] or alike
        taken = attempts + _typical([r.first_s for r in first], FIRST_S_ASSUMED)
        if by_daemon:
            taken += _typical([r.start_s for r in alike], START_S_ASSUMED)
        for name in steps[1:]:
            mine = [s for s in self._steps if s.name == name] or self._steps
            taken += _typical([_beside(s) for s in mine], STEP_S_ASSUMED)
        return taken

    def elapsed(self, waves: Sequence[Sequence[Interval]], *, by_daemon: bool) -> Interval:
        """Seconds until the last of these runs has ended; a wave waits for all of the one before."""
        if not by_daemon:
            return total(run for wave in waves for run in wave)
        queued = _typical([r.queued_s for r in self._runs if r.by_daemon], QUEUED_S_ASSUMED)
        lengths = [queued + _side_by_side(wave) for wave in waves if wave]
        first = Interval(DAEMON_TICK_S / 2, 0.0, DAEMON_TICK_S)
        return first + total(map(_until_next_tick, lengths[:-1])) + total(lengths[-1:]) if lengths else NOTHING


def _beside(step: PastStep) -> float:
    return max(0.0, step.seconds - step.attempts_s)


def _side_by_side(runs: Sequence[Interval]) -> Interval:
    """As many at once as are allowed; on average they fill their places."""

    def of(bound: Callable[[Interval], float]) -> float:
        found = [bound(r) for r in runs]
        return max(max(found), sum(found) / RUNS_AT_ONCE)

    return Interval(of(lambda r: r.value), of(lambda r: r.low), of(lambda r: r.high))


def _until_next_tick(length: Interval) -> Interval:
    def ticks(seconds: float) -> float:
        return max(1, math.ceil(seconds / DAEMON_TICK_S)) * DAEMON_TICK_S

    return Interval(ticks(length.value), ticks(length.low), ticks(length.high))


def _typical(found: Sequence[float], assumed: float) -> Interval:
    """The median, and between what eight of ten lie."""
    if not found:
        return Interval(assumed, assumed * WIDE[0], assumed * WIDE[1])
    ordered = sorted(found)
    value, low, high = median(ordered), ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
    if len(ordered) < FEW:
        low, high = min(low, value * WIDE[0]), max(high, value * WIDE[1])
    return Interval(value, low, high)
