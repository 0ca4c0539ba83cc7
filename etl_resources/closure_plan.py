"""What a run of some partitions will do: upstream first, with what depends on what is computed, and what is left alone.

A partition whose input will be computed may change: it is computed, unless the input turns out as it was.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from etl_resources.closure import Closure, ClosureNode
from etl_resources.exchanged import held_back
from etl_resources.ledger.state import Place
from etl_resources.run_token import InputVersion
from etl_resources.verdicts import Change, State, Verdict

LATE_DATA = {
    "approval": "another content will wait for approval",
    "adjustment": "another content will be an adjustment",
}
"""What a plan says of a closed period, by its table's `late_data`."""


class Action(StrEnum):
    """What a run will do with a partition."""

    COMPUTE = "compute"
    MAY_CHANGE = "may change"
    """Something that it is made from will be computed: computed, unless that turns out as it was."""
    LOOK = "look"
    """A source that can't be looked at without fetching it, and wasn't lately: fetched, and published if it changed."""
    PRUNE = "prune"
    PINNED = "pinned"
    HELD = "held"
    """It waits for a person: the same inputs and logic would be refused again."""
    BLOCKED = "blocked"
    """An input isn't published and isn't part of the plan, or a pin stands in the way: a run would fail."""

    @property
    def runs(self) -> bool:
        """Whether a run is asked for it."""
        return self in (Action.COMPUTE, Action.MAY_CHANGE, Action.LOOK)

    @property
    def changes(self) -> bool:
        """Whether what is made from it may change."""
        return self in (Action.COMPUTE, Action.MAY_CHANGE)


_STOPPED = (Action.HELD, Action.BLOCKED)
"""Of which a run publishes nothing, and so nothing of what goes with it."""


@dataclass(frozen=True)
class PlannedStep:
    """One partition of a plan."""

    asset: str
    partition: str
    action: Action
    verdict: Verdict
    because: tuple[Place, ...] = ()
    """Partitions of inputs that the same plan computes."""
    note: str = ""
    closed: str = ""
    """Who closed it, and what will become of another content; empty where it is open."""

    @property
    def is_certain(self) -> bool:
        """Whether it is known to be out of date itself; else it goes with others, and may turn out as it was."""
        return self.action is Action.COMPUTE and self.verdict.state is not State.FRESH

    @property
    def is_possible(self) -> bool:
        """Whether it is computed, and may turn out as it was."""
        return self.action.changes and not self.is_certain

    @property
    def changes(self) -> Sequence[Change]:
        """In what it differs from what it was made from."""
        return self.verdict.changes

    @property
    def inputs(self) -> Sequence[InputVersion]:
        """What it would be made from now; what the plan computes upstream is not known yet."""
        return self.verdict.inputs


@dataclass(frozen=True)
class ClosurePlan:
    """All partitions that were asked for, and those that must go with them; assets upstream first."""

    steps: Mapping[Place, PlannedStep]
    left_behind: Mapping[str, Sequence[str]]
    """Asset → published partitions that will be out of date afterwards: what is between isn't part of the plan."""
    built_on: Mapping[str, Sequence[str]]
    """Asset → partitions that aren't part of the plan, are out of date, and are read by what is."""

    def of(self, *actions: Action) -> list[PlannedStep]:
        """Steps with one of these actions."""
        return [s for s in self.steps.values() if s.action in actions]

    @property
    def digest(self) -> str:
        """What would be run and on which versions, as 16 hex digits: equal states give equal digests."""
        told = [
            [
                *(s.asset, s.partition, s.action, s.verdict.token),
                sorted([i.asset, i.partition, i.version] for i in s.inputs),
                sorted([c.kind, c.asset, c.partition] for c in s.changes),
            ]
            for s in self.steps.values() if s.action.runs
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(sorted(told, key=lambda t: t[:2])).encode()).hexdigest()[:16]


def plan_closure(
    closure: Closure, wanted: Mapping[str, Collection[str]], unobservable: Mapping[str, str] | None = None
) -> ClosurePlan:
    """The plan of the wanted partitions. unobservable: source table that only a run looks at → why."""
    planner = _Planner(closure, wanted, unobservable or {})
    for node in closure.nodes.values():
        if node.is_source:
            planner.source(node)
        else:
            planner.table(node)
    return ClosurePlan(planner.steps, planner.left_behind(), planner.built_on())


class _Planner:
    def __init__(
        self, closure: Closure, wanted: Mapping[str, Collection[str]], unobservable: Mapping[str, str]
    ) -> None:
        self._closure, self._unobservable = closure, unobservable
        self._wanted = {n: sorted(set(p) & set(closure.nodes[n].partitions)) for n, p in wanted.items()}
        self.steps: dict[Place, PlannedStep] = {}
        self._changing: dict[str, list[str]] = {}

    def source(self, node: ClosureNode) -> None:
        """All tables that are captured together, by whichever was asked for."""
        siblings = [s for s in node.captured_with or (node.name,) if s in self._closure.nodes]
        asked = {p for s in siblings for p in self._wanted.get(s, ())}
        pins = self._closure.state.pins
        for partition in sorted(asked):
            verdict = self._closure.verdict(node.name, partition)
            pinned = [pins[s, partition] for s in siblings if (s, partition) in pins]
            stale = any(self._closure.verdict(s, partition).state is not State.FRESH for s in siblings)
            if pinned:
                kept = self._closure.known(node.name, partition) is not None
                self._add(
                    PlannedStep(
                        node.name, partition, Action.PINNED if kept else Action.BLOCKED, verdict, note=str(pinned[0])
                    )
                )
            elif stale:
                self._add(PlannedStep(node.name, partition, Action.COMPUTE, verdict))
            elif node.name in self._unobservable:
                why = self._unobservable[node.name]
                self._add(PlannedStep(node.name, partition, Action.LOOK, verdict, note=why))
            else:
                self._add(PlannedStep(node.name, partition, Action.PRUNE, verdict))

    def table(self, node: ClosureNode) -> None:
        """A table made from others, or a target."""
        for partition in self._wanted.get(node.name, ()):
            self._add(self._step(node, partition))
        self._add_linked(node)

    def _step(self, node: ClosureNode, partition: str) -> PlannedStep:
        place, state = (node.name, partition), self._closure.state
        verdict = self._closure.verdict(*place)
        because = tuple(r for r in self._reads(*place) if self._is_changing(r))
        step = PlannedStep(*place, Action.PRUNE, verdict, because, closed=self._closed(node, partition))
        if place in state.pins:
            return replace(step, action=Action.PINNED, because=(), note=str(state.pins[place]))
        if missing := self._still_missing(node, verdict):
            told = ", ".join(f"{a} {p}" for a, p in missing[:3]) + (" …" if len(missing) > 3 else "")
            return replace(
                step, action=Action.BLOCKED, note=f"needs {told}, which isn't published and isn't in the plan"
            )
        if verdict.state in (State.STALE, State.NEVER):
            if not because and self._closure.awaits_person(*place):
                since = state.waiting[place].held_at
                return replace(step, action=Action.HELD, note=f"waits for a person since {since:%Y-%m-%d %H:%M} UTC")
            returns = verdict.changes and {(c.asset, c.partition) for c in verdict.changes} <= {*because}
            return replace(step, action=Action.MAY_CHANGE if returns else Action.COMPUTE)
        if because or verdict.state is State.UNKNOWN:
            return replace(step, action=Action.MAY_CHANGE)
        return step

    def _closed(self, node: ClosureNode, partition: str) -> str:
        closing = self._closure.state.closed.get((node.name, partition))
        return f"{closing}: {LATE_DATA[node.late_data]}" if closing else ""

    def _still_missing(self, node: ClosureNode, verdict: Verdict) -> list[Place]:
        """Missing inputs that this plan doesn't publish; of an input that is read whole, one is enough."""
        found: list[Place] = []
        for name in dict.fromkeys(a for a, _ in verdict.missing):
            missing = [p for a, p in verdict.missing if a == name]
            window = node.windows.get(name)
            absent = [p for p in missing if not self._is_changing((name, p))]
            if window is not None and window.periods is None and len(absent) < len(missing):
                continue
            found += [(name, p) for p in absent]
        return found

    def _add_linked(self, node: ClosureNode) -> None:
        """Partitions that exchanged rows with one that is computed, since they were last read: all or none."""
        found, together = [s.partition for s in self._of(node) if s.action.changes], dict[str, set[str]]()
        while found:
            linked = self._closure.linked(node.name, found, self._is_changing)
            found = [o for partition, others in linked.items() for o in self._link(node, partition, sorted(others))]
            pairs = ((p, o) for p, others in linked.items() for o in others if (node.name, o) in self.steps)
            for partition, other in pairs:
                together.setdefault(partition, set()).add(other)
                together.setdefault(other, set()).add(partition)
        for step in [s for s in self._of(node) if s.partition in together and s.action in _STOPPED]:
            for partition in held_back(together, [step.partition]):
                self._stop(node, partition, step)

    def _stop(self, node: ClosureNode, partition: str, by: PlannedStep) -> None:
        """It goes with one that nothing is made of, as a run finds, too."""
        step = self.steps.get((node.name, partition))
        if step is not None and step.action.changes:
            why = "waits for a person" if by.action is Action.HELD else "can't be made"
            self._block(replace(step, action=by.action, note=f"exchanged rows with {by.partition}, which {why}"))

    def _link(self, node: ClosureNode, partition: str, others: Iterable[str]) -> Iterator[str]:
        for other in others:
            step, published = self.steps.get((node.name, other)), self._closure.known(node.name, other)
            if published is None and step is None:
                continue
            note = f"exchanged rows with {partition}"
            if pin := self._closure.state.pins.get((node.name, other)):
                held = self.steps[node.name, partition]
                self._block(replace(held, action=Action.BLOCKED, note=f"exchanged rows with {other}, which is {pin}"))
            elif step is None or not step.action.changes:
                linked = self._step(node, other)
                if linked.action in _STOPPED:
                    self._add(linked)
                elif not any(w.same_period for w in node.windows.values()):  # else it may have read what moved
                    linked = replace(linked, action=Action.COMPUTE)
                if linked.action.changes:
                    self._add(replace(linked, note=note))
                    yield other

    def left_behind(self) -> dict[str, list[str]]:
        """What follows from the plan and isn't computed by it, or is computed before all that it reads is."""
        reached: set[Place] = set()
        later = {n: [*p] for n, p in self._changing.items()}
        found: dict[str, list[str]] = {}
        for node in self._closure.nodes.values():
            for partition in () if node.is_source else node.partitions:
                place = (node.name, partition)
                step = self.steps.get(place)
                runs = step is not None and step.action.changes
                if place in self._closure.state.pins:
                    continue
                reads = self._closure.reads(*place, later)
                if any(r in reached or (self._is_changing(r) and not runs) for r in reads):
                    reached.add(place)
                    later.setdefault(node.name, []).append(partition)
                    if self._closure.known(*place):
                        found.setdefault(node.name, []).append(partition)
        return {n: sorted(p) for n, p in found.items()}

    def built_on(self) -> dict[str, list[str]]:
        """What is out of date, read by the plan, and not part of it."""
        found: dict[str, set[str]] = {}
        for step in self.steps.values():
            for asset, partition in self._closure.made_from(step.asset, step.partition):
                if (asset, partition) not in self.steps and self._closure.outdated(asset, partition):
                    found.setdefault(asset, set()).add(partition)
        return {n: sorted(p) for n, p in found.items()}

    def _reads(self, asset: str, partition: str) -> Iterator[Place]:
        return self._closure.reads(asset, partition, self._changing)

    def _is_changing(self, place: Place) -> bool:
        step = self.steps.get(place)
        return step is not None and step.action.changes

    def _of(self, node: ClosureNode) -> list[PlannedStep]:
        return [s for s in self.steps.values() if s.asset == node.name]

    def _add(self, step: PlannedStep) -> None:
        self.steps[step.asset, step.partition] = step
        if step.action.changes:
            self._changing.setdefault(step.asset, []).append(step.partition)

    def _block(self, step: PlannedStep) -> None:
        self.steps[step.asset, step.partition] = step
        if step.partition in self._changing.get(step.asset, ()):
            self._changing[step.asset].remove(step.partition)
