"""Random schedules of faults. `--faults N` plays N of them, `--fault-seed S` the same ones again, S:I only the I-th."""

import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.fault.kinds import KINDS
from tests.fault.scenarios import FIRST, LAST, succeed
from tests.fault.schedules import FAULTS, LANES, PER_LAKE, Tally, draw, play
from tests.lake import Lake

pytest_plugins = ["tests.lake"]

TIMEOUT_S = 3 * 3600
"""Of all schedules together."""
SAVED_FROM = 60
"""Schedules of a run whose figures are kept in benchmarks/results/faults.jsonl."""
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "faults.jsonl"


@pytest.mark.timeout(TIMEOUT_S)
def test_every_random_schedule_ends_whole(stack: object, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Nobody thinks of every order in which things break; a failure prints the option that replays it."""
    given, _, only = (request.config.getoption("fault_seed") or "").partition(":")
    seed = int(given or random.randrange(10**6))
    numbers = [int(only)] if only else list(range(request.config.getoption("faults")))
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")

    def tell(line: str) -> None:
        if reporter is None:  # a worker of pytest-xdist: shown with a failure
            sys.stdout.write(f"{line}\n")
        else:
            reporter.write(f"{line}\n", flush=True)

    tell(f"\n--faults {len(numbers)} --fault-seed {seed}")
    started = time.monotonic()
    tally, failures = Tally(Counter(), Counter()), list[str]()
    lanes = [numbers[lane::LANES] for lane in range(min(LANES, len(numbers)))]
    making = threading.Lock()

    def run(lane: list[int], folder: Path) -> None:
        for first in range(0, len(lane), PER_LAKE):
            _play_all(seed, lane[first : first + PER_LAKE], folder / str(first), making, tally, failures, tell)

    with ThreadPoolExecutor(LANES) as pool:
        list(pool.map(run, lanes, [tmp_path / str(i) for i in range(len(lanes))]))

    _save(seed, len(numbers), failures, tally, time.monotonic() - started)
    assert not failures, "\n\n".join(failures)


def _play_all(
    seed: int,
    numbers: list[int],
    folder: Path,
    making: threading.Lock,
    tally: Tally,
    failures: list[str],
    tell: Callable[[str], None],
) -> None:
    """On one lake, which a failed schedule ends: the rest goes on with a new one."""
    rest = list(numbers)
    while rest:
        kind = draw(seed, rest[0]).kind
        with _whole_lake(kind, folder / f"from-{rest[0]}", making) as lake:
            while rest:
                schedule = draw(seed, rest.pop(0))
                try:
                    tally.add(schedule, play(lake, schedule))
                    tell(f"whole again: {schedule}")
                except Exception as e:  # noqa: BLE001  (reported with its replay)
                    failures.append(f"{schedule}\n{type(e).__name__}: {e}")
                    break


@contextmanager
def _whole_lake(kind: str, folder: Path, making: threading.Lock) -> Iterator[Lake]:
    folder.mkdir(parents=True)
    with ExitStack() as until_done:
        with making:  # the ERP's template is made once, and settings are read from the process's environment
            lake = until_done.enter_context(KINDS[kind].make(folder))
            assert lake.runtime.settings
        succeed(lake, FIRST, LAST)
        yield lake


def _save(seed: int, schedules: int, failures: list[str], tally: Tally, seconds: float) -> None:
    if schedules < SAVED_FROM:
        return
    line = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "schedules": schedules,
        "seed": seed,
        "failures": len(failures),
        "not_reached": tally.missed,
        "seconds": round(seconds),
        "faults": dict(sorted(tally.faults.items())),
        "points": dict(sorted(tally.points.items())),
    }
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")


def test_a_seed_replays_its_schedule() -> None:
    """A failure that can't be repeated can't be mended."""
    assert [draw(7, n) for n in range(50)] == [draw(7, n) for n in range(50)]
    assert [draw(7, n) for n in range(50)] != [draw(8, n) for n in range(50)]


def test_a_round_of_schedules_meets_every_failpoint_and_many_rounds_every_fault() -> None:
    """Chance alone would leave some point out of a run of hundreds."""
    schedules = [draw(1, n) for n in range(800)]

    assert {s.fault for s in schedules} == set(FAULTS)
    for name, kind in KINDS.items():
        points = [s.point for s in schedules if s.kind == name]
        assert set(points[: len(kind.scenarios)]) == set(kind.scenarios), name
