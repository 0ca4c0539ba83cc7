"""Which partitions are out of date, and why: what each was made from against what its inputs are now.

Pure: a graph of tables and one state of the ledger in, verdicts out. The same versions and tokens decide as in a step
(planning), so that a plan names what a run will do; a run decides again by itself.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from etl_resources.adjustments import restated_version
from etl_resources.calendar import WHOLE
from etl_resources.exchanged import exchanged
from etl_resources.ledger.lineage import control_input, is_control
from etl_resources.ledger.state import Known, KnownTable, LedgerState, Place
from etl_resources.lookups import LookupTable
from etl_resources.run_token import InputVersion, run_token
from etl_resources.verdicts import Change, ChangeKind, Observation, State, Verdict, differences
from etl_resources.windows import InputWindow, versions_read

Evaluate = Callable[[LookupTable, str], str]
"""(lookup, the source's partition) → version of what is found now; reads data."""
Compare = Callable[[str, str, Sequence[InputVersion]], "tuple[Sequence[InputVersion], str | None]"]
"""(table, partition, what it is made from) → versions of the control totals that it is compared with, or why there are
none; reads the ledger."""


@dataclass(frozen=True)
class ClosureNode:
    """A table or a target, as much of it as decides what is out of date."""

    name: str
    tenant: str
    logic_version: str
    partitions: tuple[str, ...]
    """All that it may have, in order; (WHOLE,) without partitions."""
    inputs: tuple[str, ...] = ()
    """What it reads; (): it is made from a source."""
    windows: Mapping[str, InputWindow] = field(default_factory=dict)
    lookups: Sequence[LookupTable] = ()
    captured_with: tuple[str, ...] = ()
    """Tables that are captured in the same snapshot, itself included."""
    controls: tuple[str, ...] = ()
    """Keys of the control totals that it is compared with."""
    adjusts: str | None = None
    """The table whose closed periods it adjusts: what the inputs of that give is an input of it."""
    late_data: str = "approval"
    """What becomes of late data in a closed period."""

    @property
    def is_source(self) -> bool:
        return not self.inputs

    @property
    def partitioned(self) -> bool:
        return self.partitions != (WHOLE,)

    @property
    def upstream(self) -> tuple[str, ...]:
        """What it reads and looks up."""
        return (*self.inputs, *(lookup.asset for lookup in self.lookups))


class Closure:
    """Verdicts of all partitions of a graph, each found once.

    nodes: inputs first. observed: (source table, partition) → what the source was found to be, where it was looked at.
    evaluate: how to find what a lookup gives where the ledger doesn't remember it; None: it stays unknown.
    compare: how to find control totals where newer ones were taken since.
    """

    def __init__(
        self,
        nodes: Sequence[ClosureNode],
        state: LedgerState,
        observed: Mapping[Place, Observation] | None = None,
        evaluate: Evaluate | None = None,
        compare: Compare | None = None,
    ) -> None:
        self.nodes = {n.name: n for n in nodes}
        self.state = state
        self.observed = observed or {}
        self._evaluate, self._compare = evaluate, compare
        self._verdicts: dict[Place, Verdict] = {}
        self._outdated: dict[Place, bool] = {}
        self.tables = {n: KnownTable(n, state.published.get(n, {}), node.partitioned) for n, node in self.nodes.items()}

    @cached_property
    def readers(self) -> Mapping[str, Sequence[str]]:
        """Table → the nodes that read it or look it up."""
        found: dict[str, list[str]] = {}
        for name, node in self.nodes.items():
            for upstream in dict.fromkeys(node.upstream):
                found.setdefault(upstream, []).append(name)
        return found

    def known(self, asset: str, partition: str) -> Known | None:
        """What is published of a partition."""
        return self.tables[asset].publishes.get(partition)

    def reads(self, asset: str, partition: str, planned: Mapping[str, Sequence[str]] | None = None) -> Iterator[Place]:
        """Partitions of inputs that a partition is made from. planned: more partitions that will be published."""
        node = self.nodes[asset]
        for name in node.inputs:
            window, table = node.windows.get(name), self.tables[name]
            if window is None:
                yield name, table.partition_for(partition)
            else:
                yield from ((name, p) for p in window.partitions(partition, table))
                if window.periods is None and planned:
                    yield from ((name, p) for p in planned.get(name, ()) if p not in table.publishes)
        yield from ((lookup.asset, WHOLE) for lookup in node.lookups)

    def made_from(self, asset: str, partition: str) -> Iterator[Place]:
        """As reads, without what may be missing there and isn't published."""
        windows = self.nodes[asset].windows
        for name, read in self.reads(asset, partition):
            if self.known(name, read) or name not in windows or not windows[name].allow_missing:
                yield name, read

    def linked(
        self, asset: str, partitions: Collection[str], changing: Callable[[Place], bool] = lambda _: False
    ) -> dict[str, set[str]]:
        """Partition → those that exchanged rows with it in an input since the asset read that: all or none is made.

        changing: whether a partition of an input will be another one.
        """
        node, found = self.nodes[asset], dict[str, set[str]]()
        for name in node.inputs:
            window = node.windows.get(name)
            if not self.nodes[name].partitioned or (window is not None and not window.same_period):
                continue
            read = {p: self._epochs_read(asset, p, name) for p in partitions}
            now = partial(self._epoch_now, changing, name)
            published = self.tables[asset].publishes
            for partition, others in exchanged(self.state.linked_since, name, window, read, now, published).items():
                found.setdefault(partition, set()).update(others)
        return found

    def made_with(self, asset: str, partitions: Collection[str]) -> set[str]:
        """Published partitions that exchanged rows with these, directly or through others: all are made, or none."""
        found, queue = set[str](), set(partitions)
        while queue:
            others = {o for linked in self.linked(asset, queue).values() for o in linked}
            queue = {o for o in others - found - set(partitions) if self.known(asset, o)}
            found |= queue
        return found

    def awaits_person(self, asset: str, partition: str) -> bool:
        """Whether exactly what would be computed waits for a person. What was accepted is to be published."""
        waiting = self.state.waiting.get((asset, partition))
        if waiting is None or waiting.accepted_by is not None:
            return False
        return waiting.token == self.verdict(asset, partition).token

    def kept_with(self, asset: str, partition: str) -> str | None:
        """With what a person keeps it exchanged rows, so that a run would publish nothing of it; None: with nothing."""
        if not any(asset == a for a, _ in (*self.state.pins, *self.state.waiting)):
            return None
        for other in sorted(self.made_with(asset, [partition])):
            if pin := self.state.pins.get((asset, other)):
                return f"exchanged rows with {other}, which is {pin}"
            if self.awaits_person(asset, other):
                return f"exchanged rows with {other}, which waits for a person"
        return None

    def _epochs_read(self, asset: str, partition: str, name: str) -> dict[str, int]:
        known = self.known(asset, partition)
        return {i.partition: i.epoch for i in known.inputs if i.asset == name and not i.looked_up} if known else {}

    def _epoch_now(self, changing: Callable[[Place], bool], name: str, partition: str) -> int | None:
        """None where it will be another one."""
        known = self.known(name, partition)
        return None if known is None or changing((name, partition)) else known.epoch

    def verdict(self, asset: str, partition: str) -> Verdict:
        """What a partition is now, whatever its inputs' own state is."""
        place = (asset, partition)
        if place not in self._verdicts:
            node = self.nodes[asset]
            self._verdicts[place] = self._of_source(node, partition) if node.is_source else self._of(node, partition)
        return self._verdicts[place]

    def outdated(self, asset: str, partition: str) -> bool:
        """Whether it, or anything that it is made from, is known to be out of date. A pin keeps what it pins."""
        place = (asset, partition)
        if place not in self._outdated:
            self._outdated[place] = place not in self.state.pins and (
                self.verdict(*place).state in (State.STALE, State.NEVER)
                or any(self.outdated(*r) for r in self.made_from(*place))
            )
        return self._outdated[place]

    def _of_source(self, node: ClosureNode, partition: str) -> Verdict:
        known, observed = self.known(node.name, partition), self.observed.get((node.name, partition))
        source = known.inputs[0].asset if known and known.inputs else node.name
        now = (InputVersion(source, partition, observed.fingerprint),) if observed else known.inputs if known else ()
        if known is None:
            return Verdict(node.name, partition, State.NEVER, (), now)
        kinds = [*observed.kinds] if observed else []
        if self._token(node, partition, known.inputs) != known.token:
            kinds.append(ChangeKind.LOGIC)
        siblings = [self.known(s, partition) for s in node.captured_with]
        if any(s is None or s.epoch != known.epoch for s in siblings):
            kinds.append(ChangeKind.CAPTURED_APART)
        changes = [Change(k, node.name if k is ChangeKind.LOGIC else source, partition) for k in kinds]
        return Verdict(node.name, partition, State.STALE if changes else State.FRESH, tuple(changes), now)

    def _of(self, node: ClosureNode, partition: str) -> Verdict:
        known = self.known(node.name, partition)
        found = {n: versions_read(self.tables[n], node.windows.get(n), partition) for n in node.inputs}
        missing = [place for n, (_, problem) in found.items() if problem for place in self._absent(node, n, partition)]
        missing += [(x.asset, WHOLE) for x in node.lookups if self.known(x.asset, WHOLE) is None]
        if missing:
            state = State.NEVER if known is None else State.STALE
            gone = tuple(Change(ChangeKind.VANISHED, *place) for place in missing) if known else ()
            return Verdict(node.name, partition, state, gone, missing=tuple(missing))
        inputs = [version for versions, _ in found.values() for version in versions]
        period = {n: versions[0] for n, (versions, _) in found.items() if n not in node.windows}
        looked_up = [self._looked_up(x, period[x.source], known) for x in node.lookups]
        unknown = [v for v in looked_up if not v.version]
        now = (*inputs, *looked_up)
        totals, problem = self._totals(node, partition, now, known)
        now = (*now, *totals)
        # totals: at least one for each query, more where several periods were captured
        complete = len(totals) >= len(node.controls) + (node.adjusts is not None)
        token = None if unknown or not complete else self._token(node, partition, now)
        if known is None:
            return Verdict(node.name, partition, State.NEVER, (), now, token)
        if token == known.token:
            return Verdict(node.name, partition, State.FRESH, (), now, token)
        made_from = known.inputs if totals else [i for i in known.inputs if not is_control(i.asset)]
        changes = [*differences(made_from, now)]
        if problem:
            changes.append(Change(ChangeKind.NO_TOTALS, node.name, partition))
        elif node.controls and not totals and not changes:  # published before totals were an input
            changes.append(Change(ChangeKind.TOTALS, node.name, partition))
        if self._token(node, partition, known.inputs) != known.token:
            changes.append(Change(ChangeKind.LOGIC, node.name, partition))
        certain = any(c.kind is not ChangeKind.PERHAPS_LOOKED_UP for c in changes)
        return Verdict(node.name, partition, State.STALE if certain else State.UNKNOWN, tuple(changes), now, token)

    def _totals(
        self, node: ClosureNode, partition: str, now: Sequence[InputVersion], known: Known | None
    ) -> tuple[Sequence[InputVersion], str | None]:
        """The control totals that it would be compared with; () where it is out of date anyway and nobody asks.

        They are those of then while no newer ones were taken and nothing was read anew; else they are looked up.
        """
        if node.adjusts is not None:
            of = self.known(node.adjusts, partition)
            assert of is not None  # noqa: S101  (the caller found it published)
            return [restated_version(node.adjusts, partition, of.version, of.restated, of.epoch)], None
        if not node.controls:
            return (), None
        before = [i for i in known.inputs if is_control(i.asset)] if known else []
        read = {(i.asset, i.partition): i for i in known.inputs} if known else {}
        same = all((r := read.get((i.asset, i.partition))) is not None and r.version == i.version for i in now)
        again = all(read[i.asset, i.partition].epoch == i.epoch for i in now) if same else False
        taken = self.state.newest_totals
        newest = all(taken.get((i.asset, i.partition), 0) <= i.epoch for i in before)
        if again and newest and {i.asset for i in before} == set(map(control_input, node.controls)):
            return before, None
        waits = (node.name, partition) in self.state.waiting
        if self._compare is None or not ((same and before) or waits):
            return (), None
        return self._compare(node.name, partition, now)

    def _absent(self, node: ClosureNode, name: str, partition: str) -> list[Place]:
        """Partitions of an input that must be published first; of a window over all, any."""
        table, window = self.tables[name], node.windows.get(name)
        wanted = window.partitions(partition, table) if window else [table.partition_for(partition)]
        return [(name, p) for p in wanted if p not in table.publishes] or [
            (name, p) for p in self.nodes[name].partitions
        ]

    def _looked_up(self, lookup: LookupTable, source: InputVersion, known: Known | None) -> InputVersion:
        """What a partition looks up now; an empty version where that isn't known."""
        table = self.tables[lookup.asset].version(WHOLE)
        assert table is not None  # noqa: S101  (the caller found it published)
        version = self.state.remembered.get((lookup.definition, source.version, table.version))
        if version is None and known is not None:
            version = self._as_before(lookup, source, table, known)
        if version is None and self._evaluate is not None:
            version = self._evaluate(lookup, source.partition)
        return replace(table, version=version or "", looked_up=True)

    def _as_before(self, lookup: LookupTable, source: InputVersion, table: InputVersion, known: Known) -> str | None:
        """What it looked up when it was made, if neither the keys nor the table differ from then."""
        same_keys = any(
            not i.looked_up and (i.asset, i.partition, i.version) == (source.asset, source.partition, source.version)
            for i in known.inputs
        )
        before = [i for i in known.inputs if i.looked_up and i.asset == lookup.asset]
        if not same_keys or len(before) != 1:  # looked up in two ways: which version is whose isn't known
            return None
        return (
            before[0].version
            if self.state.whole_versions.get((table.asset, before[0].epoch)) == table.version
            else None
        )

    @staticmethod
    def _token(node: ClosureNode, partition: str, inputs: Sequence[InputVersion]) -> str:
        return run_token(
            tenant=node.tenant,
            asset=node.name,
            partition=partition,
            logic_version=node.logic_version,
            inputs=inputs,
        )
