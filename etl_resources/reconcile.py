"""Which partitions are asked for now: those that are out of date, upstream first, each a bounded number of times.

Pure: verdicts (closure), marks of observation, what is running and what was asked for before in; requests out. Nothing
is remembered between two decisions but the tries, so that a lost one costs nothing: the level is looked at again.
"""

import hashlib
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from etl_resources.closure import Closure, ClosureNode
from etl_resources.ledger.marks import CHANGED, POLL, Mark
from etl_resources.ledger.requests import Asked
from etl_resources.ledger.state import Place
from etl_resources.run_grouping import grouped
from etl_resources.verdicts import Change, ChangeKind, State

WAIT_S_MAX = 3600.0
"""Longest wait between two tries."""
CHANGED_WAIT_S_MAX = 300.0
"""Where the inputs have changed since, which may help."""


@dataclass(frozen=True)
class Rules:
    """What is kept fresh, and how hard it is tried."""

    follow_logic: bool = False
    """Whether a partition is made again because its logic changed."""
    tries: int = 5
    """Requests of a partition without a publish, then it is stuck: tried once more each time that its inputs change."""
    wait_s: float = 60.0
    """From the first request to the second; four times as long each time."""

    def due(self, asked: Asked, *, changed: bool = False) -> datetime:
        """When it may be asked for again. changed: its inputs have, which a busy source's always have."""
        most = CHANGED_WAIT_S_MAX if changed and asked.tries < self.tries else WAIT_S_MAX
        return asked.requested_at + timedelta(seconds=min(most, self.wait_s * 4.0 ** min(asked.tries - 1, 9)))


@dataclass(frozen=True)
class Facts:
    """What a decision knows beside the verdicts."""

    now: datetime
    running: Collection[Place] = ()
    """What runs that have not ended will compute."""
    marks: Mapping[Place, Mark] = field(default_factory=dict)
    asked: Mapping[Place, Asked] = field(default_factory=dict)


@dataclass(frozen=True)
class Root:
    """A partition that is asked for because it is out of date itself; its dependants go with it."""

    place: Place
    state: str
    since: str
    """As Asked.since."""
    tries: int
    """This one included."""
    why: str


@dataclass(frozen=True)
class Request:
    """One run: these assets, for these contiguous partitions (first and last are equal for one)."""

    assets: tuple[str, ...]
    first: str
    last: str
    roots: tuple[Root, ...]

    @property
    def key(self) -> str:
        """The same of every decision about the same state: two daemons ask for one run."""
        told = [self.first, self.last, *self.assets, *(f"{r.place} {r.state} {r.tries}" for r in self.roots)]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()[:32]


@dataclass
class Decision:
    """What is asked for now, and what became of everything else that isn't fresh."""

    requests: list[Request] = field(default_factory=list)
    waiting: dict[Place, str] = field(default_factory=dict)
    """For something that ends by itself: a run, an upstream, the time until the next try."""
    comparing: dict[Place, str] = field(default_factory=dict)
    """Sources that a run compares, or will; nobody waits for that."""
    stuck: dict[Place, str] = field(default_factory=dict)
    """Asked for as often as is allowed; only a person, or another input, with which it is tried again, gets it on."""
    kept: dict[Place, str] = field(default_factory=dict)
    """Out of date, and to stay so: pinned, held until a person accepts it, or without an input."""
    logic: set[Place] = field(default_factory=set)
    """Made by an earlier logic, and nothing else is wrong with them."""
    unsettled: set[Place] = field(default_factory=set)
    """All that must be looked at again, whatever doesn't change in the ledger."""
    not_looked_at: list[str] = field(default_factory=list)
    """Assets for which the time didn't suffice."""
    fresh: set[Place] = field(default_factory=set)


def decide(
    closure: Closure,
    facts: Facts,
    rules: Rules,
    assets: Collection[str] | None = None,
    until: float | None = None,
) -> Decision:
    """What to ask for now. assets: those that are looked at, everything else being fresh; None: all.

    until: on the monotonic clock, after which no further asset is begun.

    What has never been published is left alone, unless its first attempt failed: only what somebody wanted once is
    kept fresh.
    """
    return _Decider(closure, facts, rules).of(closure.nodes if assets is None else assets, until)


class _Decider:
    def __init__(self, closure: Closure, facts: Facts, rules: Rules) -> None:
        self._closure, self._facts, self._rules = closure, facts, rules
        self._found = Decision()
        self._going: dict[Place, Root | None] = {}
        """What will be asked for; None: it goes with its upstream."""
        self._looked_at: dict[Place, Root | None] = {}
        """Sources that are only compared: their dependants don't go with them."""

    def of(self, assets: Collection[str], until: float | None) -> Decision:
        nodes = sorted(self._closure.nodes.values(), key=lambda n: not n.is_source)  # inputs first, and sources before
        for node in nodes:
            name = node.name
            if name not in assets:
                continue
            if until is not None and time.monotonic() > until:
                self._found.not_looked_at.append(name)
            else:
                for partition in self._wanted(node):
                    self._place(node, partition)
        apart = {place: root for place, root in self._looked_at.items() if place not in self._going}
        self._found.requests = [*self._requests(self._going), *self._requests(apart)]
        self._found.unsettled = {
            *self._found.waiting,
            *self._found.comparing,
            *self._found.stuck,
            *self._found.kept,
            *self._going,
            *self._looked_at,
        }
        return self._found

    def _wanted(self, node: ClosureNode) -> list[str]:
        """What was published once, or tried and never was; of the partitions that the manifests have now."""
        state = self._closure.state
        published = state.published.get(node.name, {})
        return [
            p
            for p in node.partitions
            if p in published
            or ((ended := state.ended.get((node.name, p))) is not None and ended.state in ("failed", "abandoned"))
        ]

    def _place(self, node: ClosureNode, partition: str) -> None:
        place, found = (node.name, partition), self._found
        pins = self._closure.state.pins
        pin = next((pins[s, partition] for s in (node.name, *node.captured_with) if (s, partition) in pins), None)
        if pin is not None:
            if self._reasons(place):
                found.kept[place] = str(pin)
            return
        reads = [] if node.is_source else list(self._closure.reads(*place))
        via = [r for r in reads if r in self._going]
        pending = [r for r in reads if r in found.waiting]
        reasons = self._reasons(place)
        if not via and not pending and not reasons:
            if place not in self._going and place not in found.waiting:
                self._settled(place)
            return
        upstream = next((r for r in (*pending, *(r for r in reads if r in self._facts.running)) if r), None)
        elsewhere = next((r for r in via if r[1] != partition), None)
        if not via and not pending and (kept := self._kept_because(place)):
            found.kept[place] = kept
        elif place in self._facts.running:
            found.waiting[place] = "it is being computed"
        elif upstream is not None:
            found.waiting[place] = f"{_named(upstream)} comes first"
        elif elsewhere is not None:
            found.waiting[place] = f"{_named(elsewhere)} comes first"
        elif via:
            self._going[place] = None
        else:
            self._ask(
                place, self._going, self._state_of(place), "; ".join(map(told_change, reasons)) or "never computed"
            )

    def _settled(self, place: Place) -> None:
        mark = self._pending_mark(place)
        if mark is not None and mark.kind != CHANGED:
            if place in self._facts.running:
                self._found.comparing[place] = "it is being compared"
            else:
                self._ask(place, self._looked_at, f"seen {mark.seen}", "to be compared with its source")
            return
        if self._closure.verdict(*place).state is State.STALE:
            self._found.logic.add(place)
        self._found.fresh.add(place)
        if self._goes_along(place):
            self._looked_at[place] = None

    def _goes_along(self, place: Place) -> bool:
        """Made of a polled source alone: pruned if that turns out equal, and not a tick later if it doesn't."""
        upstream = self._closure.nodes[place[0]].upstream
        if len(upstream) != 1 or place in self._facts.running:
            return False
        read = (upstream[0], place[1])
        polled = (mark := self._facts.marks.get(read)) is not None and mark.kind == POLL
        return read in self._looked_at and (polled or not self._closure.nodes[read[0]].is_source)

    def _ask(self, place: Place, into: dict[Place, Root | None], state: str, why: str) -> None:
        asked, found, since = self._facts.asked.get(place), self._found, self._since(place)
        if asked is None or asked.since != since:
            into[place] = Root(place, state, since, 1, why)
        elif self._facts.now < self._rules.due(asked, changed=asked.state != state):
            waiting = found.waiting if into is self._going else found.comparing
            put = found.stuck if asked.stuck_since is not None else waiting
            put[place] = f"try {asked.tries} of {self._rules.tries} was at {asked.requested_at:%H:%M:%S} UTC"
        else:
            if asked.tries >= self._rules.tries:
                found.stuck[place] = why
            if asked.tries < self._rules.tries or asked.state != state:
                into[place] = Root(place, state, since, asked.tries + 1, why)

        # the same capture may change its siblings, and what reads them goes, or waits, with it
        for sibling in [(name, place[1]) for name in self._closure.nodes[place[0]].captured_with]:
            if place in into:
                into.setdefault(sibling, None)
            elif place in found.waiting:
                found.waiting.setdefault(sibling, f"{_named(place)} comes first")
                found.fresh.discard(sibling)

    def _reasons(self, place: Place) -> list[Change] | list[str]:
        """Why it is out of date itself; empty when it isn't, or only its logic changed and isn't followed."""
        verdict = self._closure.verdict(*place)
        mark = self._pending_mark(place)
        if mark is not None and mark.kind == CHANGED:
            return [Change(ChangeKind.SOURCE, *place)]
        if verdict.state is State.NEVER:
            return ["its first attempt failed"] if not verdict.missing else []
        if verdict.state is State.FRESH:
            return []
        followed = [c for c in verdict.changes if self._rules.follow_logic or c.kind is not ChangeKind.LOGIC]
        return [*verdict.changes] if followed else []

    def _pending_mark(self, place: Place) -> Mark | None:
        mark, known = self._facts.marks.get(place), self._closure.known(*place)
        return mark if mark is not None and known is not None and mark.seen > known.epoch else None

    def _since(self, place: Place) -> str:
        """Changes when something is published or held, or a capture has looked: then a try has led to something."""
        mark, known, waiting = self._pending_mark(place), self._closure.known(*place), self._closure.state.waiting
        held = waiting[place].token if place in waiting else ""
        return f"{known.epoch if known else 0}/{mark.first_seen if mark else 0}/{held}"

    def _kept_because(self, place: Place) -> str | None:
        """Why no run would publish it, however often it is asked for; None where one would."""
        if self._closure.awaits_person(*place):
            return "held: somebody has to accept it (`data-pipeline acceptance list`)"
        if missing := self._closure.verdict(*place).missing:
            return f"{_named(missing[0])} isn't published"
        return self._closure.kept_with(*place)

    def _state_of(self, place: Place) -> str:
        verdict, mark = self._closure.verdict(*place), self._pending_mark(place)
        known = self._closure.known(*place)
        told: list[object] = [verdict.token, mark.seen if mark else None, known.epoch if known else None]
        told += [self._closure.observed.get(place), *map(_identity, verdict.changes)]
        told += [(i.asset, i.partition, i.version) for i in verdict.inputs]
        return hashlib.sha256(repr((told, self._closure.nodes[place[0]].logic_version)).encode()).hexdigest()[:32]

    def _requests(self, going: Mapping[Place, Root | None]) -> Iterator[Request]:
        for stretch, names in grouped(self._closure, going).items():
            roots = [root for p in stretch for n in names if (root := going[n, p]) is not None]
            yield Request(names, stretch[0], stretch[-1], tuple(roots))


def told_change(change: Change | str) -> str:
    """A reason in words."""
    if isinstance(change, str):
        return change
    return f"{change.asset}, partition {change.partition}: {change.kind}"


def _identity(change: Change) -> tuple[str, str, str, str]:
    return change.kind, change.asset, change.partition, change.after.version if change.after else ""


def _named(place: Place) -> str:
    return f"{place[0]}, partition {place[1]}"
