"""Looks at what the ledger can't know, and changes nothing: sources as they are, rows as they are looked up now."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from etl_assets.backfill.closure_nodes import captured_with
from etl_assets.graph.bronze_table import still_seen
from etl_assets.graph.reconciled import Reconciler
from etl_assets.graph.runtime import Runtime
from etl_assets.graph.source_schema import Followed, find_source_changes, source_table
from etl_assets.project import TableNode
from etl_resources.calendar import WHOLE
from etl_resources.conventions import raw_location
from etl_resources.engines.embedded import connect
from etl_resources.engines.transform import engine_error
from etl_resources.errors import PermanentError
from etl_resources.extract.postgres import PostgresSnapshot, open_source, snapshot_of
from etl_resources.extract.raw_zone import RawZone
from etl_resources.ledger.control_totals import with_totals
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.lineage import control_key
from etl_resources.ledger.liveness import clock
from etl_resources.ledger.marks import looks, marks
from etl_resources.ledger.state import Known, LedgerState, Place
from etl_resources.lookups import LookupTable
from etl_resources.manifest_sources import PostgresSource, S3FilesSource
from etl_resources.object_store import ObjectStore
from etl_resources.retries import retry_transient
from etl_resources.run_token import InputVersion
from etl_resources.tables.head import read_head
from etl_resources.tables.input_tables import PinnedTable, parquet_scan
from etl_resources.tables.schema import read_schema
from etl_resources.verdicts import ChangeKind, Observation

if TYPE_CHECKING:
    import duckdb


@dataclass
class Looked:
    """What was found."""

    observed: dict[Place, Observation] = field(default_factory=dict)
    unobservable: dict[str, str] = field(default_factory=dict)
    """Source → why a run must look at it."""
    notes: list[str] = field(default_factory=list)


def look_at_sources(
    runtime: Runtime, ledger: Ledger, state: LedgerState, wanted: Mapping[str, Collection[str]]
) -> Looked:
    """Fingerprints of the wanted source tables: one read-only snapshot per system of Postgres, one listing of files.

    An HTTP API must be fetched to be looked at, which only a run does: it is as it is published if that was compared
    within `poll_every_minutes`, as for the reconcile sensor.
    """
    looked, done = Looked(), set[str]()
    for name in wanted:
        node = runtime.project.tables.get(name)
        if node is None or node.layer != "bronze" or name in done:
            continue
        if siblings := captured_with(runtime.project, node):
            done |= set(siblings)
            partitions = sorted({p for s in siblings for p in wanted.get(s, ())})
            _postgres(runtime, ledger, state, [runtime.project.tables[s] for s in siblings], partitions, looked)
        elif isinstance(node.dataset.source, S3FilesSource):
            _files(runtime, state, node, looked)
        else:
            _api(runtime, ledger, state, node, looked)
    return looked


def _api(runtime: Runtime, ledger: Ledger, state: LedgerState, node: TableNode, looked: Looked) -> None:
    known = state.published.get(node.name, {}).get(WHOLE)
    if known is None:  # computed in any case
        return
    look, mark = looks(ledger.connection).get(node.name), marks(ledger.connection).get((node.name, WHOLE))
    asked_for = mark is not None and mark.seen > known.epoch
    swept_at = look.swept_at if look is not None and not asked_for else None
    age = clock(ledger) - max(known.published_at, swept_at or known.published_at)
    every = timedelta(minutes=runtime.project.platform.keep_fresh.poll_every_minutes)
    told = f"compared with its API {age.total_seconds() / 60:,.0f} minutes ago"
    if (node.name, WHOLE) in state.ended:
        looked.unobservable[node.name] = "the last attempt at it published nothing: only fetching its pages tells"
    elif age > every:
        looked.unobservable[node.name] = f"{told}: only fetching its pages tells whether it changed"
    else:
        looked.notes.append(f"{node.name} is taken as it is: {told} (poll_every_minutes)")


def _postgres(
    runtime: Runtime,
    ledger: Ledger,
    state: LedgerState,
    nodes: Sequence[TableNode],
    partitions: Sequence[str],
    looked: Looked,
) -> None:
    """As a capture observes, in every table of the system."""
    source = nodes[0].dataset.source
    published = {n.name: state.published.get(n.name, {}) for n in nodes}
    assert source is not None  # noqa: S101  (bronze has a source)
    if not any(published.values()):
        return
    dsn, setting = runtime.source_dsn(source.system)
    with ExitStack() as until_done:
        timeout_s = runtime.settings.postgres_connect_timeout_s
        connection = until_done.enter_context(open_source(dsn, setting=setting, timeout_s=timeout_s))
        snapshot = until_done.enter_context(snapshot_of(connection, dsn, setting))
        without_totals = _without_totals(runtime, ledger, nodes[0], published[nodes[0].name], partitions)
        for node in nodes:
            if published[node.name]:
                _fingerprints(runtime, snapshot, node, published[node.name], partitions, without_totals, looked)


def _fingerprints(
    runtime: Runtime,
    snapshot: PostgresSnapshot,
    node: TableNode,
    published: Mapping[str, Known],
    partitions: Sequence[str],
    without_totals: Collection[str],
    looked: Looked,
) -> None:
    source = node.dataset.source
    assert isinstance(source, PostgresSource)  # noqa: S101  (only those are captured together)
    now = snapshot.columns(source)
    table = runtime.store.catalog.load_table(runtime.addresses[node.name].identifier)
    changes, new = find_source_changes(runtime, node, table, now)
    if new:
        looked.notes.append(f"{node.name}: {'; '.join(map(str, changes))}: every partition is captured anew")
    followed = Followed(runtime.addresses[node.name].as_stored(table), table.schema(), changes)
    found = snapshot.fingerprints(source_table(runtime, node, followed, now), partitions)
    for partition, fingerprint in found.items():
        known = published.get(partition)
        changed = known is not None and (new or not still_seen(known.fingerprint, fingerprint, followed.read_as))
        kinds = [ChangeKind.SOURCE] * changed
        kinds += [ChangeKind.NO_TOTALS] * (known is not None and partition in without_totals)
        looked.observed[node.name, partition] = Observation(fingerprint, tuple(kinds))


def _without_totals(
    runtime: Runtime,
    ledger: Ledger,
    node: TableNode,
    first: Mapping[str, Known],
    partitions: Sequence[str],
) -> set[str]:
    """Published partitions whose capture took no control totals that a KPI asks for by now."""
    epochs = {p: first[p].epoch for p in partitions if p in first and p != WHOLE}
    controls = [control_key(n, sql) for n, sql in runtime.project.controls(node.captured_in[0], node.every).items()]
    return set(epochs) - with_totals(ledger.connection, controls, epochs) if epochs else set()


def _files(runtime: Runtime, state: LedgerState, node: TableNode, looked: Looked) -> None:
    known = state.published.get(node.name, {}).get(WHOLE)
    if known is None:  # computed in any case
        return
    raw = ObjectStore.of(runtime.store.catalog, raw_location(runtime.bucket))
    zone = RawZone(raw, node.dataset.dataset, "")  # a listing of files writes nothing to it
    fingerprint = runtime.delivered_source(node, raw).observe(zone).fingerprint
    kinds = (ChangeKind.SOURCE,) * (known.fingerprint != fingerprint)
    looked.observed[node.name, WHOLE] = Observation(fingerprint, kinds)


class Finder:
    """What lookups give now where the ledger doesn't remember it: read from the files of what is published."""

    def __init__(self, runtime: Runtime, state: LedgerState) -> None:
        self._runtime, self._state = runtime, state
        self._scans: dict[Place, str] = {}
        self._found: dict[tuple[str, str], str] = {}

    def __call__(self, lookup: LookupTable, partition: str) -> str:
        """Version of what a partition of its source looks up; empty where the tables moved on meanwhile."""
        key = (lookup.definition, partition)
        if key not in self._found:
            scans = self._scan(lookup.source, partition), self._scan(lookup.asset, WHOLE)
            self._found[key] = self._look(lookup, partition, *scans) if all(scans) else ""
        return self._found[key]

    def _look(self, lookup: LookupTable, partition: str, source: str, table: str) -> str:
        import duckdb

        what = f"{lookup.name} for {lookup.source}, partition {partition}"
        try:
            return retry_transient(lambda: lookup.version(self._engine, source, table), what)
        except duckdb.Error as e:
            raise engine_error(what, e) from e

    def _scan(self, asset: str, partition: str) -> str:
        if (asset, partition) not in self._scans:
            address = self._runtime.addresses[asset]
            table = self._runtime.store.catalog.load_table(address.identifier)
            schema = read_schema(table.schema(), address.columns, address.contract)
            published = self._state.published.get(asset, {})
            for found, head in read_head(table).items():
                known = published.get(found)
                current = known is not None and known.epoch == head.epoch
                self._scans[asset, found] = parquet_scan(head.data_paths, schema) if current else ""
            if (asset, partition) not in self._scans:
                raise PermanentError(
                    f"{asset} {partition} is published by the ledger and not in the table: run `recover`."
                )
        return self._scans[asset, partition]

    @cached_property
    def _engine(self) -> "duckdb.DuckDBPyConnection":
        return connect(self._runtime.settings)


class Comparer:
    """The control totals that a partition would be compared with, as its step finds them."""

    def __init__(self, runtime: Runtime, ledger: Ledger) -> None:
        self._runtime, self._ledger = runtime, ledger

    def __call__(
        self, asset: str, partition: str, inputs: Sequence[InputVersion]
    ) -> tuple[Sequence[InputVersion], str | None]:
        """Versions of them; or why there is nothing to compare with."""
        node = self._runtime.project.tables[asset]
        reconciler = Reconciler(self._ledger, node, self._runtime.project.control_sql)
        read = {n: [i.partition for i in inputs if i.asset == n] for n in node.inputs}
        pinned = {n: PinnedTable(n, None, "", {}, self._ledger.current(n, read[n])) for n in node.inputs}
        return reconciler.read(pinned, inputs, partition)
