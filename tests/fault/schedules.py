"""Random fault schedules: a seed and a number decide what happens, so that a failed one can be replayed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.fault.kinds import KINDS
from tests.fault.proxy import proxy_to
from tests.fault.reader import watching
from tests.fault.scenarios import (
    FIRST,
    FOLLOW_UPS,
    IMPATIENT,
    LAST,
    Arrival,
    NotReached,
    bring_to,
    crash_at,
    go_on,
    kill_stopped,
    succeed,
)
from tests.invariants import await_sessions_gone
from tests.lake import Lake

FAULTS: Mapping[str, int] = {"kill": 12, "raise": 2, "zombie": 3, "no database": 1, "no storage": 1}
"""What happens at the failpoint → how often."""
LANES = 2
"""Schedules that are played at the same time, each on a lake of its own."""
PER_LAKE = 25
"""Schedules that a lake lives for: its history makes every commit a little slower."""
DELIVERED = ("files", "pages")
"""Kinds that take turns, a lake each, in every lane but the first, which is the ERP's."""


@dataclass(frozen=True)
class Schedule:
    """One change of the source, one fault at one failpoint, and what follows."""

    seed: int
    number: int
    kind: str
    change: str
    point: str
    match: str
    nth: int
    fault: str
    follow_up: str

    def __str__(self) -> str:
        return (
            f"--fault-seed {self.seed}:{self.number} ({self.kind}: {self.change}; {self.fault} at {self.point} of "
            f"{self.match or 'anything'}, call {self.nth}; then {self.follow_up})"
        )


def draw(seed: int, number: int) -> Schedule:
    """The schedule of a number. Every failpoint of a kind comes once in each round of as many of its schedules."""
    name, nth = _kind_of(seed, number)
    kind = KINDS[name]
    rounds, place = divmod(nth, len(kind.scenarios))
    deck = sorted(kind.scenarios)
    Random(f"{seed}, {name}, round {rounds}").shuffle(deck)
    random, point = Random(f"{seed}, {number}"), deck[place]
    reach = kind.scenarios[point]
    return Schedule(
        seed, number, name, random.choice([*kind.changes]), point, random.choice(reach.matches),
        random.randint(1, reach.calls),
        "kill" if reach.prepared else random.choices([*FAULTS], [*FAULTS.values()])[0],
        random.choice(FOLLOW_UPS),
    )  # fmt: skip


def _kind_of(seed: int, number: int) -> tuple[str, int]:
    """(kind, how many schedules of that kind come before); a lake's schedules are all of one kind."""
    place, lane = divmod(number, LANES)
    if lane == 0:
        return "erp", place
    lakes, place = divmod(place, PER_LAKE)
    rounds, turn = divmod(lakes, len(DELIVERED))
    return DELIVERED[(turn + seed) % len(DELIVERED)], rounds * PER_LAKE + place


def play(lake: Lake, schedule: Schedule) -> bool:
    """Play it on a lake that is whole, and prove that it is whole again. Whether the failpoint was reached."""
    kind = KINDS[schedule.kind]
    random, reach = Random(f"{schedule}"), kind.scenarios[schedule.point]
    kind.changes[schedule.change](lake, random)
    if reach.change is not None:
        reach.change(lake, random)
    if reach.prepared:  # these need something to publish
        kind.touch(lake, random)
    reached = True
    with watching(lake):
        try:
            _inflict(lake, schedule, random)
        except NotReached:
            reached = False
        await_sessions_gone(lake)
        succeed(lake)
    kind.prove(lake)
    return reached


def _inflict(lake: Lake, schedule: Schedule, random: Random) -> None:
    at = (schedule.point, schedule.match)
    if schedule.fault == "kill":
        crash_at(lake, *at, schedule.follow_up, schedule.nth, now=random.random() < 0.5)
    elif schedule.fault == "raise":
        broken = bring_to(lake, *at, "raise", schedule.nth).child.wait()
        assert broken is not None
        assert not broken.success, "an unforeseen crash was swallowed"
    elif schedule.fault == "zombie":
        zombie = bring_to(lake, *at, "stop", schedule.nth)
        with kill_stopped(zombie.child):
            KINDS[schedule.kind].touch(lake, random)
            lake.spawn(FIRST, LAST, **IMPATIENT).wait()
            go_on(zombie.child)
            zombie.child.wait()
    else:
        _cut(lake, schedule)


def _cut(lake: Lake, schedule: Schedule) -> None:
    """The run's connections to one server end at the failpoint, for good."""
    if schedule.fault == "no database":
        parts = conninfo_to_dict(lake.platform_dsn)
        host, port = str(parts["host"]), int(str(parts["port"]))
    else:
        address = urlsplit(lake.env["ETL_S3_ENDPOINT"])
        host, port = str(address.hostname), int(address.port or 80)
    with proxy_to(host, port) as proxy:
        through = {
            "no database": {"ETL_POSTGRES_DSN": make_conninfo(lake.platform_dsn, port=proxy.port)},
            "no storage": {"ETL_S3_ENDPOINT": f"http://{host}:{proxy.port}", "ETL_S3_TIMEOUT_S": "5"},
        }[schedule.fault]
        arrival: Arrival = bring_to(lake, schedule.point, schedule.match, "stop", schedule.nth, **through)
        with kill_stopped(arrival.child):
            proxy.cut()
            go_on(arrival.child)
            arrival.child.wait()


@dataclass
class Tally:
    """What was played: schedules by failpoint and by fault, and those that did not reach their point."""

    points: Counter[str]
    faults: Counter[str]
    missed: int = 0

    def add(self, schedule: Schedule, reached: bool) -> None:
        self.missed += not reached
        self.points[schedule.point] += reached
        self.faults[schedule.fault] += reached
