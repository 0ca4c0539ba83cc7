"""Plays a history: phases of changes, with ticks and runs between them, some of which die.

Each phase ends settled and judged. A phase changes either what a tick sees by itself, and settles without a sweep, or
anything, and settles after one.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random
from unittest import mock

from etl_assets.recover import recover
from etl_resources.extract import watermark
from tests.histories import judge, oracle
from tests.histories.changes import SEEN, UNSEEN, Changes
from tests.histories.sources import Sources, history_lake
from tests.lake import execute
from tests.ticks import Asked, Ticker

PHASES, STEPS_MAX, TICKS_MAX = 3, 5, 40
TICK = "tick"
KILLED_AT = (
    "plan.recorded", "capture.intended", "capture.files_written", "capture.totals_recorded", "deliver.landed",
    "stage.file_written", "stage.before_swap", "stage.after_swap", "stage.committed", "publish.before_swap",
    "publish.after_swap", "publish.committed", "evidence.recording", "evidence.recorded", "letters.committed",
    "postgres.copied", "postgres.replaced", "postgres.after_commit", "elasticsearch.filled",
    "elasticsearch.before_swap", "elasticsearch.published",
)  # fmt: skip
SWEPT, POLLED, RETRIED = timedelta(hours=25), timedelta(minutes=61), timedelta(minutes=61)


@dataclass(frozen=True)
class History:
    """What a seed and a number make."""

    seed: int
    number: int
    deaths: bool = False
    """Whether runs are killed, fail, and cursors are lost."""
    script: tuple[str, ...] = ()
    """Changes, and ticks, of its only phase; (): several phases by chance."""

    @classmethod
    def draw(cls, seed: int, number: int) -> "History":
        """Every second one has deaths."""
        return cls(seed, number, deaths=number % 2 == 1)

    @property
    def random(self) -> Random:
        """Of all that it decides."""
        return Random(f"{self.seed}:{self.number}")

    def __str__(self) -> str:
        return f"--fault-seed {self.seed}:{self.number}" + (", with deaths" if self.deaths else "")


@dataclass
class Phase:
    """What happened from one judgement to the next."""

    swept: bool
    made: list[str] = field(default_factory=list)
    contents: list[oracle.Contents] = field(default_factory=list)
    """After each change, the first being that before."""

    @property
    def kinds(self) -> set[str]:
        """Sources that changed."""
        found = {kind for kind, names in SEEN.items() for name in names if name in self.made}
        return found | ({"erp"} if {*UNSEEN} & {*self.made} else set())


def play(history: History, folder: Path, search: Mapping[str, str], tell: Callable[[str], None]) -> None:
    """The whole of it; AssertionError where the product isn't right."""
    with history_lake(folder / "lake", search) as sources, mock.patch.object(watermark, "MARGIN_S", 0.0):
        player = _Player(history, sources, tell)
        try:
            player.begin()
            for number in range(1 if history.script else PHASES):
                player.phase(number)
        finally:
            player.changes.close()
        judge.prove_whole(sources.lake)
        judge.prove_restated(sources, folder / "restated")


class _Player:
    def __init__(self, history: History, sources: Sources, tell: Callable[[str], None]) -> None:
        self._history, self._sources, self._tell = history, sources, tell
        self._random = history.random
        self._ticker = Ticker(sources.lake)
        self.changes = Changes(sources, self._random)

    def begin(self) -> None:
        """Everything is published, and the sources have been looked at for the first time."""
        self.changes.first()
        lake = self._sources.lake
        with lake.environment():
            done = execute(oracle.MONTHS[0], oracle.MONTHS[-1], None)
        assert done.success, done.error
        self._settle()
        judge.prove_contents(self._sources, oracle.contents(self._sources.state()))

    def phase(self, number: int) -> None:
        """Changes, ticks between them, and the judgement when all is at rest."""
        phase = Phase(swept=not self._history.script and self._random.random() < 0.4)
        before = judge.Published.of(self._sources.lake)
        phase.contents.append(oracle.contents(self._sources.state()))
        for step in self._history.script or self._drawn(phase.swept):
            if step == TICK:
                self._some_ticks()
            else:
                self._change(phase, step)
        while self.changes.is_late:
            self._change(phase, "commit_late")
        self._ticker.ahead += SWEPT if phase.swept else POLLED
        self._settle()
        self._tell(f"{self._history}, phase {number}{' with a sweep' if phase.swept else ''}: {', '.join(phase.made)}")
        judge.prove_phase(self._sources, phase, before)

    def _drawn(self, swept: bool) -> Iterator[str]:
        kinds = self._random.sample(sorted(SEEN), self._random.choice((1, 1, 2, 3)))
        possible = [name for kind in kinds for name in SEEN[kind]] + [*UNSEEN] * swept
        for _ in range(self._random.randint(1, STEPS_MAX)):
            yield from self._random.choices(possible, k=self._random.randint(1, 3))
            if self._random.random() < 0.5:
                yield TICK

    def _change(self, phase: Phase, name: str) -> None:
        self.changes.make(name)
        phase.made.append(name)
        phase.contents.append(oracle.contents(self._sources.state()))

    def _some_ticks(self) -> None:
        for _ in range(self._random.randint(1, 2)):
            if self._history.deaths and self._random.random() < 0.2:
                self._ticker.cursor = None
            for asked in self._ticker.tick():
                self._run(asked)

    def _run(self, asked: Asked) -> None:
        fate = self._random.random() if self._history.deaths else 1.0
        if fate < 0.3:
            self._kill(asked)
        elif fate < 0.4:
            self._ticker.run(asked, ERP_DSN="postgresql://nobody@127.0.0.1:1/erp")
        else:
            done = self._ticker.run(asked)
            assert done.success or self._history.deaths, done.error

    def _kill(self, asked: Asked) -> None:
        """It may end before it gets there."""
        point = {"point": self._random.choice(KILLED_AT), "action": "kill", "nth": self._random.randint(1, 3)}
        self._ticker.spawn(asked, [point]).wait()
        if self._random.random() < 0.5:
            recover(self._sources.lake.runtime)

    def _settle(self) -> None:
        """Until nothing is asked for, and nothing waits for its next try."""
        for _ in range(TICKS_MAX):
            asked = self._ticker.tick()
            if not asked and "waiting" not in self._ticker.skipped and "compared" not in self._ticker.skipped:
                return
            if not asked:
                self._ticker.ahead += RETRIED if self._history.deaths else timedelta(0)
            for a in asked:
                done = self._ticker.run(a)
                assert done.success, done.error
        raise AssertionError(f"not settled after {TICKS_MAX} ticks: {self._ticker.skipped}")
