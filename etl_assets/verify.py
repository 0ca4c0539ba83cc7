"""`data-pipeline verify`: rereads what every store holds and compares. Writes nothing, settles nothing.

Stored hashes are never compared with each other only: one side of each comparison is always reread content.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from etl_assets.graph.runtime import Runtime
from etl_assets.project import Project, ServingNode, TableNode
from etl_assets.verify_differences import (
    ServedReading,
    TableReading,
    listed,
    not_served,
    served_differences,
    table_differences,
)
from etl_assets.verify_report import AssetReport, VerifiedPartition, VerifyReport
from etl_assets.verify_served import leftovers_of, reread_served
from etl_resources.contract import Contract
from etl_resources.conventions import BRANCH_PREFIX
from etl_resources.dead_letters.index import files
from etl_resources.dead_letters.reading import letters
from etl_resources.engines.embedded import connect
from etl_resources.engines.transform import engine_error
from etl_resources.errors import PermanentError
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import live_attempts
from etl_resources.ledger.records import Publish
from etl_resources.quality.stored_content import (
    StoredContent,
    batches,
    duplicate_keys,
    read_files,
    scan_rows,
    unreadable,
)
from etl_resources.run_token import run_token
from etl_resources.suggest import hint
from etl_resources.tables.head import PartitionHead, read_head
from etl_resources.tables.schema import read_schema

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.table import Table

Progress = Callable[[str], None]
T = TypeVar("T")

LEDGER_TRIES = 5
LEDGER_WAIT_S = 1.0
"""A publish is in the table a moment before it is in the ledger: looked at again this often."""


def verify(runtime: Runtime, assets: Sequence[str], partitions: Sequence[str], progress: Progress) -> VerifyReport:
    """Reread and compare the assets (default: all) for the partitions (default: all published).

    Raises PermanentError for an unknown asset or partition, TransientError when a store can't be reached.
    """
    project = runtime.project
    names = _known("asset", assets, [*project.tables, *(n.name for n in project.serving)])
    wanted = frozenset(_known("partition", partitions, _partitions(project)))
    engine = connect(runtime.settings, extensions=("avro", "iceberg"))
    with Ledger.open(runtime.settings) as ledger:
        session = _Session(runtime, ledger, engine, wanted, progress)
        reports = {name: session.table(node) for name, node in project.tables.items() if not names or name in names}
        for served in project.serving:
            if not names or served.name in names:
                reports[served.name] = session.served(served)
        live = {a.attempt for a in live_attempts(ledger.connection)}
        leftovers = [*session.branches_without(live), *leftovers_of(runtime, project.serving, ledger)]
    return VerifyReport(tuple(reports.values()), tuple(leftovers))


def _known(what: str, given: Sequence[str], valid: Sequence[str]) -> Sequence[str]:
    for name in given:
        if name not in valid:
            raise PermanentError(f"Unknown {what} {name!r}; {hint(name, valid)}.")
    return given


def _partitions(project: Project) -> list[str]:
    calendar = project.platform.calendar
    return list(dict.fromkeys(key for d in project.datasets.values() for key in calendar.keys(d.partitions)))


@dataclass
class _Session:
    """One verification: stores opened once, each table read once."""

    runtime: Runtime
    ledger: Ledger
    engine: "duckdb.DuckDBPyConnection"
    wanted: frozenset[str]
    progress: Progress
    _readings: dict[str, TableReading] = field(default_factory=dict)
    _branches: dict[str, list[str]] = field(default_factory=dict)

    def table(self, node: TableNode) -> AssetReport:
        """Files, ledger and an Iceberg reader's view of one table."""
        reading = self._reading(node)
        own = self.runtime.project.platform.calendar.keys(node.dataset.partitions)
        missing = sorted(self.wanted.intersection(own) - set(reading.heads))
        return AssetReport(
            node.name,
            ("Iceberg", "ledger"),
            _verified(reading.content, {p: h.epoch for p, h in reading.heads.items()}),
            table_differences(reading),
            [f"not published: {listed(missing)}"] if missing else [],
        )

    def served(self, node: ServingNode) -> AssetReport:
        """A target against its table's content, its own commit records and the ledger."""
        self._reading(node.table)
        self.progress(f"{node.name}: rereading")
        stores, reading = self._served(node)
        waiting = not_served(reading)
        return AssetReport(
            node.name,
            stores,
            _verified(reading.content, {p: c.epoch for p, c in reading.commits.items()}),
            served_differences(reading),
            [f"published but not served yet: {listed(waiting)}"] if waiting else [],
        )

    def branches_without(self, live: Collection[str]) -> list[str]:
        """Branches of the tables that were read whose attempt is over."""
        return [
            f"branch {branch} of {asset}"
            for asset, branches in self._branches.items()
            for branch in branches
            if branch.removeprefix(BRANCH_PREFIX) not in live
        ]

    def _reading(self, node: TableNode) -> TableReading:
        if node.name not in self._readings:
            self._readings[node.name] = self._read(node)
        return self._readings[node.name]

    def _read(self, node: TableNode) -> TableReading:
        try:
            table, heads, publishes = self._head(node)
        except PermanentError as e:  # a path without partition, epoch and token
            return TableReading(node.name, {}, {}, foreign=str(e))
        heads, publishes = self._selected(heads), self._selected(publishes)
        if table is None or not heads:
            return TableReading(node.name, heads, publishes)
        self._branches[node.name] = [r for r in table.refs() if r.startswith(BRANCH_PREFIX)]
        columns = {f.name for f in table.schema().fields}
        reading = TableReading(
            node.name, heads, publishes,
            missing_columns=[c for c in node.contract.names if c not in columns],
            outdated=_outdated(node.name, node.dataset.tenant, node.logic_version, publishes),
        )  # fmt: skip
        if reading.missing_columns:
            return reading
        self.progress(f"{node.name}: rereading {len(heads)} partition{'' if len(heads) == 1 else 's'}")
        return self._reread(node, table, reading)

    def _reread(self, node: TableNode, table: "Table", reading: TableReading) -> TableReading:
        schema = read_schema(table.schema())
        contract = self.runtime.addresses[node.name].as_stored(table).contract
        content, damaged = self._contents(node.name, contract, schema, reading.heads)
        if damaged:
            return replace(reading, content=content, unreadable=damaged)
        try:
            doubled = duplicate_keys(self.engine, contract, schema, reading.heads)
            scanned = self._selected(scan_rows(self.engine, contract, table.metadata_location))
            kept = self._letters(node.name, reading.ledger)
        except self._engine_errors as e:
            raise engine_error(f"{node.name}: reading keys, iceberg_scan and dead letters", e) from e
        return replace(reading, content=content, scanned=scanned, duplicates=doubled, letters=kept)

    def _letters(self, asset: str, publishes: Mapping[str, Publish]) -> dict[str, int]:
        """Partition → dead letters of what is published, reread."""
        rejected = {p: k.epoch for p, k in publishes.items() if k.counts.get("rejected")}
        known = files(self.ledger.connection, "known", [asset], rejected) if rejected else []
        current = [f for f in known if f.epoch == rejected[f.partition]]
        if not current:
            return {}
        return dict(self.engine.execute(f"select partition, count(*) from {letters(current)} group by 1").fetchall())

    def _head(self, node: TableNode) -> "tuple[Table | None, Mapping[str, PartitionHead], Mapping[str, Publish]]":
        """Table, partitions and ledger of one moment: a publish between the two looks is waited for."""
        from pyiceberg.exceptions import NoSuchTableError

        for tries in range(1, LEDGER_TRIES + 1):
            try:
                table = self.runtime.store.catalog.load_table(self.runtime.addresses[node.name].identifier)
            except NoSuchTableError:
                return None, {}, self.ledger.current(node.name)
            heads, publishes = read_head(table), self.ledger.current(node.name)
            if {p: h.epoch for p, h in heads.items()} == {p: k.epoch for p, k in publishes.items()}:
                break
            if tries < LEDGER_TRIES:
                time.sleep(LEDGER_WAIT_S)
        return table, heads, publishes

    def _contents(
        self, asset: str, contract: Contract, schema: str, heads: Mapping[str, PartitionHead]
    ) -> tuple[dict[str, StoredContent], dict[str, str]]:
        """Content by partition, and what is wrong with those that can't be read."""
        content: dict[str, StoredContent] = {}
        damaged: dict[str, str] = {}
        queue = list(batches(heads))
        while queue:
            batch = queue.pop(0)
            try:
                some = {p: heads[p] for p in batch}
                content |= read_files(self.engine, contract, schema, some)
            except self._engine_errors as e:
                if not unreadable(e):
                    raise engine_error(f"{asset}, partitions {listed(batch)}", e) from e
                if len(batch) == 1:
                    damaged[batch[0]] = str(e).splitlines()[0]
                else:
                    queue = [[p] for p in batch] + queue
        return content, damaged

    @property
    def _engine_errors(self) -> type[Exception]:
        import duckdb

        return duckdb.Error

    def _served(self, node: ServingNode) -> tuple[tuple[str, ...], ServedReading]:
        published = self._reading(node.table)
        found = reread_served(self.runtime, node, self.engine, lambda p: not self.wanted or p in self.wanted)
        own = node.table.contract.has_partition  # it may have been a dataset with other partitions
        known = {p: k for p, k in self.ledger.current(node.name).items() if own(p)}
        ledger = self._selected(known)
        reading = ServedReading(
            node.name, node.table.name,
            content=self._selected(found.content),
            commits=self._selected(found.commits),
            ledger=ledger,
            published=published.content,
            missing_columns=list(found.missing_columns),
            foreign=found.foreign,
            outdated=_outdated(node.name, node.table.dataset.tenant, node.logic_version, ledger),
        )  # fmt: skip
        return found.stores, reading

    def _selected(self, by_partition: Mapping[str, T]) -> dict[str, T]:
        return {p: v for p, v in sorted(by_partition.items()) if not self.wanted or p in self.wanted}


def _verified(content: Mapping[str, StoredContent], epochs: Mapping[str, int]) -> dict[str, VerifiedPartition]:
    return {p: VerifiedPartition(c.rows, c.version, epochs.get(p, 0)) for p, c in sorted(content.items())}


def _outdated(asset: str, tenant: str, logic_version: str, publishes: Mapping[str, Publish]) -> frozenset[str]:
    """Partitions that today's logic would give another token for the inputs that were read."""
    return frozenset(
        partition
        for partition, known in publishes.items()
        if known.token
        != run_token(tenant=tenant, asset=asset, partition=partition, logic_version=logic_version, inputs=known.inputs)
    )
