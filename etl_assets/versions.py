"""`data-pipeline versions`, `release`, `diff`, `rollback`, `pins` and `unpin`: what they do, for one project."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from etl_assets.graph.relations import input_windows
from etl_assets.graph.runtime import Runtime
from etl_assets.project import ServingNode, TableNode
from etl_resources.calendar import WHOLE, Every, every_of, keys_between, stretches
from etl_resources.engines.embedded import connect
from etl_resources.errors import PermanentError
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.lineage import capture_epochs
from etl_resources.ledger.pins import Pin, current_pins
from etl_resources.ledger.pins import unpin as remove_pins
from etl_resources.ledger.records import Publish
from etl_resources.rollback import Rollback, RollbackOutcome
from etl_resources.rollback_plan import RollbackPlan
from etl_resources.run_token import InputVersion
from etl_resources.suggest import hint
from etl_resources.tables.diff import TableDiff, diff_versions
from etl_resources.tables.versions import Version, find_version, release, versions
from etl_resources.windows import InputWindow

if TYPE_CHECKING:
    from pyiceberg.table import Table


@dataclass(frozen=True)
class Listing:
    """Versions of a table that can be read, newest first, and its pinned partitions."""

    table: str
    versions: Sequence[Version]
    pins: Sequence[Pin]


@dataclass(frozen=True)
class RolledBack:
    """A rollback that was done, or would be (`outcome` is None)."""

    table: str
    plan: RollbackPlan
    outcome: RollbackOutcome | None
    stale: Mapping[str, Sequence[str]]
    """Dependant → its published partitions that are out of date by this."""
    stuck: Sequence[str]
    """Dependants that can't follow, with the reason."""


def known_table(runtime: Runtime, name: str) -> TableNode:
    """A table of the project. Raises PermanentError with the valid names; served tables have no versions."""
    tables = runtime.project.tables
    if name in tables:
        return tables[name]
    for served in runtime.project.serving:
        if served.name == name:
            raise PermanentError(f"{name} is served from {served.table.name}: its versions are those of that table.")
    raise PermanentError(f"Unknown table {name!r}; {hint(name, tables)}.")


def list_versions(runtime: Runtime, name: str, partition: str | None = None) -> Listing:
    """Versions of a table; of one partition: those that changed it."""
    known_table(runtime, name)
    found = versions(_load(runtime, name))
    with Ledger.open(runtime.settings) as ledger:
        pins = list(current_pins(ledger.connection, [name]).values())
    if partition is not None:
        found = [v for v in found if partition in v.partitions]
        pins = [p for p in pins if p.partition == partition]
    return Listing(name, found, pins)


def list_pins(runtime: Runtime, name: str | None = None) -> list[Pin]:
    """Pinned partitions, of one table or of all."""
    if name is not None:
        known_table(runtime, name)
    with Ledger.open(runtime.settings) as ledger:
        return list(current_pins(ledger.connection, None if name is None else [name]).values())


def name_release(runtime: Runtime, name: str, as_name: str, wanted: str, *, dry_run: bool) -> Version:
    """Give a version a name. Raises PermanentError when it is taken."""
    known_table(runtime, name)
    return release(runtime.store.catalog, runtime.addresses[name].identifier, name, as_name, wanted, dry_run=dry_run)


def compare(runtime: Runtime, name: str, before: str, after: str, limit: int) -> TableDiff:
    """Differences between two versions of a table."""
    known_table(runtime, name)
    table = _load(runtime, name)
    old, new = find_version(table, name, before), find_version(table, name, after)
    with Ledger.open(runtime.settings) as ledger, connect(runtime.settings) as engine:
        contract = runtime.addresses[name].as_stored(table).contract
        return diff_versions(engine, ledger, table, name, contract, old, new, limit)


def roll_back(
    runtime: Runtime, name: str, wanted: str, partitions: Collection[str], reason: str, *, dry_run: bool
) -> RolledBack:
    """Put an older version's content back, pin it, and tell Dagster. Dry: only what would be done."""
    node = known_table(runtime, name)
    with Ledger.open(runtime.settings) as ledger, connect(runtime.settings) as engine:
        address = runtime.addresses[name].as_stored(_load(runtime, name))
        rollback = Rollback(runtime.store, ledger, engine, address, runtime.letters_addresses[name], node.captured_in)
        outcome = None
        if not dry_run:
            outcome = rollback.run(wanted, partitions, f"rollback-{uuid4().hex[:12]}", reason)
        plan = outcome.plan if outcome else rollback.plan(wanted, partitions)
        stale = _stale(runtime, ledger, name, [r.partition for r in plan.partitions])
        return RolledBack(name, plan, outcome, stale, _stuck(runtime, ledger, name, plan))


def unpin(runtime: Runtime, name: str, partitions: Collection[str], *, dry_run: bool) -> list[str]:
    """Unpin partitions (default: all of the table). Those that were pinned; raises PermanentError for others."""
    known_table(runtime, name)
    with Ledger.open(runtime.settings) as ledger:
        runtime.store.settle(ledger, runtime.addresses[name])
        pinned = sorted(p for _, p in current_pins(ledger.connection, [name]))
        unknown = sorted(set(partitions) - set(pinned))
        if unknown:
            raise PermanentError(f"{name}: {', '.join(unknown)} is not pinned. Pinned: {', '.join(pinned) or 'none'}.")
        wanted = sorted(partitions) or pinned
        return wanted if dry_run else remove_pins(ledger.connection, name, wanted)


def commands(outdated: Mapping[str, Collection[str]], select: str | None = None) -> list[str]:
    """What to type to materialize assets (→ partitions), inputs first: as few lines as there are kinds of partitions
    and contiguous ranges, as a run has one kind. select: Dagster's name of all of them, where one kind is enough."""
    by_grain: dict[Every, set[str]] = {}
    for partition in sorted({p for partitions in outdated.values() for p in partitions} - {WHOLE}):
        by_grain.setdefault(every_of(partition), set()).add(partition)
    flow = list(dict.fromkeys(every_of(p) for partitions in outdated.values() for p in partitions if p != WHOLE))
    found = []
    for every in flow:
        names = [n for n, p in outdated.items() if WHOLE in p or by_grain[every].intersection(p)]
        command = _materialize(select if select and len(flow) == 1 else ",".join(names))
        keys = sorted(by_grain[every])
        for first, last in ((s[0], s[-1]) for s in stretches(keys_between(keys[0], keys[-1]), keys)):
            span = f"--partition {first}" if first == last else f"--partition-range {first}...{last}"
            found.append(f"{command} {span}")
    # assets without partitions take no span, but bear one beside others
    return found or [_materialize(select or ",".join(outdated))]


def _materialize(select: str) -> str:
    return f"dagster asset materialize -m etl_assets.definitions --select '{select.replace('.', '/')}'"


def to_follow(runtime: Runtime, name: str, partitions: Sequence[str]) -> list[str]:
    """What to type to materialize partitions of a table and everything that is made from them."""
    with Ledger.open(runtime.settings) as ledger:
        stale = _stale(runtime, ledger, name, partitions)
    return commands({name: partitions, **stale}, f"{name}*")


def _load(runtime: Runtime, name: str) -> "Table":
    from pyiceberg.exceptions import NoSuchTableError

    try:
        return runtime.store.catalog.load_table(runtime.addresses[name].identifier)
    except NoSuchTableError as e:
        raise PermanentError(f"{name} is not published yet. Materialize it, or run `data-pipeline demo`.") from e


def _stale(runtime: Runtime, ledger: Ledger, name: str, rolled: Sequence[str]) -> dict[str, list[str]]:
    """Dependants, direct or not, with the published partitions that read these."""
    affected = {name: set(rolled)}
    found: dict[str, list[str]] = {}
    for node in runtime.project.nodes:
        if affected.keys() & set(node.upstream):
            published = sorted(
                partition
                for partition, publish in ledger.current(node.name).items()
                if any(i.partition in affected.get(i.asset, ()) for i in publish.inputs)
            )
            if published:
                affected[node.name], found[node.name] = set(published), published
    return found


def _stuck(runtime: Runtime, ledger: Ledger, name: str, plan: RollbackPlan) -> list[str]:
    """Dependants that join the rolled-back table with one of another capture: they refuse to mix moments."""
    found, project = [], runtime.project
    rolled_back = {r.partition: r.after for r in plan.partitions}
    for node in project.nodes:
        windows = {} if isinstance(node, ServingNode) else input_windows(project, node)
        inputs = node.upstream if isinstance(node, ServingNode) else node.inputs
        joined = [project.tables[i] for i in inputs if i not in windows or windows[i].same_period]
        others = ", ".join(i.name for i in joined if i.name != name)
        if name not in inputs or len(joined) < 2:
            continue
        current: dict[str, Mapping[str, Publish | None]] = {i.name: ledger.current(i.name) for i in joined}
        current[name] = {**current[name], **rolled_back}
        for partition in sorted({*ledger.current(node.name), *(() if name in windows else rolled_back)}):
            places = [(i.name, p) for i in joined for p in _read_of(i, windows.get(i.name), partition)]
            read = [publish for i, p in places if (publish := current[i].get(p)) is not None]
            if len(read) < len(places) or not any((name, p) in places for p in rolled_back):
                continue
            used = [InputVersion(p.asset, p.partition, p.version, p.epoch) for p in read]
            if not all(capture_epochs(ledger.connection, used).values()):
                why = f"{others} comes from another capture. Roll that back as well."
                found.append(f"{node.name} {partition} can't follow: {why}")
    return found


def _read_of(node: TableNode, window: InputWindow | None, partition: str) -> list[str]:
    """Partitions of an input that a partition reads for its own period."""
    return [node.read_by(partition)] if window is None else window.read_by(partition)
