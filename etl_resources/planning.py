"""Plan: which partitions must be computed, from which versions, under which token and epoch.

One ledger transaction per step reads the input versions and draws the epochs; whatever is current is pruned, with the
proof (token and input versions) kept.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from etl_resources.errors import RestartError
from etl_resources.exchanged import NEVER, beside, exchanged
from etl_resources.failpoints import failpoint
from etl_resources.ledger.closings import Closing, closings_of
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.lineage import capture_epochs
from etl_resources.ledger.pins import Pin, current_pins, pins_of
from etl_resources.ledger.prunes import record_pruned
from etl_resources.ledger.records import IntendedPartition, Logic, Publish, Sized
from etl_resources.looked_up import Lookups
from etl_resources.run_token import InputVersion, run_token
from etl_resources.tables.input_tables import PinnedTable
from etl_resources.tables.read_volume import InputSizes, ReadVolume
from etl_resources.windows import InputWindow, versions_read

if TYPE_CHECKING:
    import duckdb


Compared = Callable[[Mapping[str, PinnedTable], Sequence[InputVersion], str], "tuple[list[InputVersion], str | None]"]
"""What a partition is compared with, given what it reads of the pinned inputs, as versions; or why it can't be."""


@dataclass(frozen=True)
class PlannedPartition:
    """A partition to compute; `current` is what is published of it now."""

    partition: str
    token: str
    epoch: int
    inputs: tuple[InputVersion, ...]
    current: Publish | None
    linked: tuple[str, ...] = ()
    """Partitions that exchanged rows with this one: they are published together or not at all."""


@dataclass(frozen=True)
class Plan:
    """What a step will do with each partition."""

    asset: str
    attempt: str | None
    inputs: Mapping[str, PinnedTable]
    todo: tuple[PlannedPartition, ...]
    pruned: Mapping[str, Publish] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    published: frozenset[str] = frozenset()
    """Partitions that were published when this was planned."""
    pinned: Mapping[str, Pin] = field(default_factory=dict)
    """Of the pruned ones, those that a rollback pinned: they keep their content whatever their inputs are."""
    closed: Mapping[str, Closing] = field(default_factory=dict)
    """Partitions of the asset that somebody closed, planned here or not."""
    windows: Mapping[str, InputWindow] = field(default_factory=dict)
    """Inputs of which a partition reads others than its own. Unless that is for the same period, rows that move between
    partitions of them are nothing to wait for."""


def plan(
    ledger: Ledger,
    *,
    asset: str,
    tenant: str,
    logic_version: str,
    run_id: str,
    requested: Sequence[str],
    pin_inputs: Callable[[], Mapping[str, PinnedTable]],
    published_epochs: Callable[[], Mapping[str, int]],
    windows: Mapping[str, InputWindow] | None = None,
    lookups: Lookups | None = None,
    compared: Compared | None = None,
    logic_parts: Mapping[str, str] | None = None,
    sized: Sized | None = None,
) -> Plan:
    """The plan of one step; records the intent when there is something to do, and of what the logic consists.

    windows: of the inputs of which a partition reads others than its own period. lookups: inputs of which it reads only
    what it looks up. compared: control totals, which change although no input does.
    sized: how big the attempt is.
    """
    windows, lookups = windows or {}, lookups or Lookups((), _no_engine)
    with ledger.planning(asset):
        inputs = pin_inputs()
        heads = published_epochs()
        failpoint("plan.inputs_read", asset)
        current = ledger.at_epochs(asset, heads)
        pins, closed = pins_of(ledger.connection, asset), closings_of(ledger.connection, asset)
        followed = {n: t for n, t in inputs.items() if n not in lookups.assets and _is_followed(windows.get(n))}
        links = _links(ledger, followed, windows, current, requested, pins)
        todo: list[PlannedPartition] = []
        pruned: dict[str, Publish] = {}
        refused: dict[str, str] = {}
        for partition in sorted(links):
            if partition in pins:
                if partition in current:
                    pruned[partition] = current[partition]
                else:
                    refused[partition] = f"{pins[partition]}. The ledger lost its publish: run `data-pipeline recover`."
                continue
            versions, problem = _input_versions(ledger, inputs, windows, lookups, partition)
            if compared and not problem:
                totals, problem = compared(inputs, versions, partition)
                versions = (*versions, *totals)
            if problem:
                refused[partition] = problem
                continue
            token = run_token(
                tenant=tenant, asset=asset, partition=partition, logic_version=logic_version, inputs=versions
            )
            published = current.get(partition)
            if published and published.token == token:
                pruned[partition] = published
            elif held := sorted(links[partition] & pins.keys()):
                refused[partition] = _held_by_pins(asset, partition, [pins[p] for p in held])
            else:
                todo.append(PlannedPartition(partition, token, 0, versions, published, tuple(sorted(links[partition]))))
        _record_pruned(ledger, asset, run_id, inputs, [p for p in pruned.values() if p.partition not in pins])
        if not todo:
            return Plan(asset, None, inputs, (), pruned, refused, pinned=pins, closed=closed, windows=windows)
        epoch = ledger.draw_epoch(above=max(heads.values(), default=0))
        logic = Logic(logic_version, logic_parts) if logic_parts else None
        attempt = ledger.open_attempt(asset, run_id, logic=logic, sized=sized)
        drawn = tuple(replace(p, epoch=epoch) for p in todo)
        ledger.intend(attempt, [IntendedPartition(p.partition, p.epoch, p.token, p.inputs) for p in drawn])
        failpoint("plan.intended", asset)
        return Plan(asset, attempt, inputs, drawn, pruned, refused, frozenset(heads), pins, closed, windows)


def _record_pruned(
    ledger: Ledger, asset: str, run_id: str, inputs: Mapping[str, PinnedTable], pruned: Collection[Publish]
) -> None:
    if not pruned:
        return
    sizes, saved = InputSizes(inputs), ReadVolume()
    for publish in pruned:
        saved += sizes.read_by(publish.inputs)
    record_pruned(ledger.connection, asset, run_id, pruned, files=saved.files, size_bytes=saved.size_bytes)


def _input_versions(
    ledger: Ledger,
    inputs: Mapping[str, PinnedTable],
    windows: Mapping[str, InputWindow],
    lookups: Lookups,
    partition: str,
) -> tuple[tuple[InputVersion, ...], str | None]:
    read = {
        name: versions_read(table, windows.get(name), partition)
        for name, table in inputs.items()
        if name not in lookups.assets
    }
    problems = [problem for _, problem in read.values() if problem]
    looked_up: list[InputVersion] = []
    if not problems:
        period = {name: versions[0] for name, (versions, _) in read.items() if name not in windows}
        looked_up, problem = lookups.versions(ledger, inputs, period)
        problems = [problem] if problem else []
    if problems:
        return (), f"{'; '.join(problems)}. Materialize it first."
    found = (*(version for versions, _ in read.values() for version in versions), *looked_up)
    if len(found) > 1:
        for (system, captured), epochs in capture_epochs(ledger.connection, found).items():
            if not epochs:
                return (), (
                    f"{' and '.join(sorted(read))} come from different captures of {system}"
                    f"{'' if captured == partition else f', partition {captured}'}. "
                    f"{_pinned_inputs(ledger, read, captured)}"
                )
    return found, None


def _pinned_inputs(ledger: Ledger, inputs: Iterable[str], partition: str) -> str:
    """What to do about inputs of different captures: a pinned one doesn't follow when it is materialized."""
    pins = current_pins(ledger.connection, list(inputs))
    held = [str(pin) for (_, pinned), pin in pins.items() if pinned == partition]
    if not held:
        return "Materialize both upstream, then this partition again."
    return f"{'; '.join(held)}. Roll back the others to the same capture, or unpin."


def _held_by_pins(asset: str, partition: str, pins: Sequence[Pin]) -> str:
    held = ", ".join(f"{pin.partition}, which is {pin}" for pin in pins)
    return (
        f"{asset}, partition {partition} exchanged rows with {held}. "
        "A row would be counted twice, or never: unpin, or roll this partition back as well."
    )


def _is_followed(window: InputWindow | None) -> bool:
    """Whether rows that move between partitions of an input are followed: if it is read for the same period."""
    return window is None or window.same_period


def _links(
    ledger: Ledger,
    inputs: Mapping[str, PinnedTable],
    windows: Mapping[str, InputWindow],
    current: Mapping[str, Publish],
    requested: Sequence[str],
    pins: Mapping[str, Pin],
) -> dict[str, set[str]]:
    """Requested partitions, and those that exchanged rows with them since this asset last read its inputs.

    inputs: those that are read for the same period. A row that moved from March to May must leave March in the same
    commit in which it enters May. A linked partition that was never published here holds no old copy of the row and
    is left out. A pinned one is not computed: what it exchanged before matters only where the other partition has yet
    to follow.
    """
    links: dict[str, set[str]] = {p: set() for p in requested}
    found = [p for p in requested if p not in pins]
    while found:
        since = [
            exchanged(
                ledger.linked_since,
                name,
                windows.get(name),
                {p: _epochs_read(current.get(p), name) for p in found},
                partial(_epoch_of, table),
                current,
            )
            for name, table in inputs.items()
        ]
        found = []
        for partition, other in ((p, o) for linked in since for p, others in linked.items() for o in others):
            if other not in current and other not in requested:
                continue
            if other in pins:
                links[partition].add(other)
                continue
            if other not in links:
                links[other] = set()
                found.append(other)
            links[partition].add(other)
            links[other].add(partition)
    return links


def _no_engine() -> "duckdb.DuckDBPyConnection":
    raise AssertionError("a step without lookups opens no engine to plan")


def _epochs_read(publish: Publish | None, name: str) -> dict[str, int]:
    """Partition of an input → epoch of it that a publish read."""
    return {i.partition: i.epoch for i in publish.inputs if i.asset == name and not i.looked_up} if publish else {}


def _epoch_of(table: PinnedTable, partition: str) -> int:
    publish = table.publishes.get(partition)
    return publish.epoch if publish else NEVER


def prove_unmoved(ledger: Ledger, the_plan: Plan, published_now: Collection[str]) -> None:
    """Nothing moved since planning that this publish would double: called before each try to commit.

    Raises RestartError when an input partition exchanged rows after it was read, or when a partition that exchanged
    rows with one of these was published for the first time meanwhile. Planning again sees both.
    """
    planned = {p.partition for p in the_plan.todo}
    pins = pins_of(ledger.connection, the_plan.asset)
    for p in the_plan.todo:
        if held := sorted(pins.keys() & set(p.linked)):
            raise RestartError(
                f"{the_plan.asset}, partition {p.partition} exchanged rows with {', '.join(held)}, which a rollback "
                "pinned meanwhile. Run again."
            )
    for asset in {i.asset for p in the_plan.todo for i in p.inputs if not i.looked_up}:
        window, table = the_plan.windows.get(asset), the_plan.inputs[asset]
        if not _is_followed(window):
            continue
        read = {
            p.partition: {i.partition: i.epoch for i in p.inputs if i.asset == asset and not i.looked_up}
            for p in the_plan.todo
        }
        used = {p.partition: _epochs_read(p.current, asset) for p in the_plan.todo}
        newer, first = (
            exchanged(ledger.linked_since, asset, window, epochs, partial(_epoch_of, table), published_now)
            for epochs in (read, used)
        )
        for partition in sorted(read):
            unseen = first.get(partition, set()) & set(published_now) - the_plan.published - planned
            beside_it = _changed_beside(ledger, table, window, partition) & set(published_now) - planned
            if torn := newer.get(partition, set()) | unseen | beside_it:
                raise RestartError(
                    f"{the_plan.asset}, partition {partition}: {asset} exchanged rows with "
                    f"{', '.join(sorted(torn))} meanwhile. Run again."
                )


def _changed_beside(ledger: Ledger, table: PinnedTable, window: InputWindow | None, partition: str) -> set[str]:
    """Partitions that read the same wider partition of an input, where that was published anew after it was read: a row
    may have moved within it."""
    found = [(q, readers) for q, readers in beside(window, partition) if q in table.publishes]
    newest = ledger.current(table.asset, [q for q, _ in found]) if found else {}
    changed = [r for q, r in found if q in newest and newest[q].version != table.publishes[q].version]
    return {reader for readers in changed for reader in readers}
