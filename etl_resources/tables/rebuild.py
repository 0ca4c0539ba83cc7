"""Publishes of a table that the ledger lost, put back from the table and its evidence objects.

What is published is told by the table: main's history (attempt and partitions in each summary), and behind what has
expired the paths of the head's files. From what it was made is told by the evidence.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from etl_resources.ledger.attempt_records import restore_attempt
from etl_resources.ledger.ledger import Ledger
from etl_resources.object_store import ObjectStore
from etl_resources.tables.address import TableAddress
from etl_resources.tables.evidence import FOLDER, EvidencePath
from etl_resources.tables.head import read_head
from etl_resources.tables.stage import ATTEMPT_KEY, partitions_of, properties_of
from etl_resources.tables.version_numbers import snapshot_numbers

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

Entry = tuple[str, int]
"""Partition and epoch of one publish."""


@dataclass(frozen=True)
class _Publish:
    """One commit to main that published something."""

    attempt: str
    epochs: Mapping[str, int]
    snapshot_id: int | None = None
    number: int | None = None
    published_at: datetime | None = None


@dataclass
class LostPublishes:
    """Finds and restores what the ledger doesn't know of one table."""

    catalog: "Catalog"
    ledger: Ledger
    address: TableAddress
    restored: set[Entry] = field(default_factory=set)

    def restore_table(self) -> set[Entry]:
        """Restore what main's history and head show. Published now, and without any evidence."""
        from pyiceberg.exceptions import NoSuchTableError

        try:
            table = self.catalog.load_table(self.address.identifier)
        except NoSuchTableError:
            return set()
        heads = {p: h.epoch for p, h in read_head(table).items()}
        known, versions = self._known(), self._versions()
        for publish in _history(table):
            lost = {p for p, epoch in publish.epochs.items() if (p, epoch) not in known}
            if lost or publish.number not in versions:
                self._restore(publish, lost, heads)
        return self.restore_entries(set(heads.items()), heads)

    def restore_entries(self, wanted: Collection[Entry], heads: Mapping[str, int] | None = None) -> set[Entry]:
        """Restore publishes by their epochs, from evidence alone. Those of which there is none."""
        missing = set(wanted) - self._known()
        for epoch in sorted({e for _, e in missing}):
            partitions = {p: epoch for p, e in missing if e == epoch}
            for name in self._evidence:
                if name.epoch == epoch:
                    self._restore(_Publish(name.attempt, partitions), set(partitions), heads or {})
        return missing - self._known()

    def newest_epoch(self) -> int:
        """Of any attempt that staged, published or not; 0: none. Cheap only where something was lost."""
        return max((name.epoch for name in self._evidence), default=0)

    @cached_property
    def _store(self) -> ObjectStore:
        return ObjectStore.of(self.catalog, self.address.location)

    @cached_property
    def _tags(self) -> frozenset[str]:
        refs = self.catalog.load_table(self.address.identifier).refs()
        return frozenset(name for name, ref in refs.items() if ref.snapshot_ref_type == "tag")

    @cached_property
    def _objects(self) -> frozenset[str]:
        return frozenset(o.path for o in self._store.list(FOLDER))

    @cached_property
    def _evidence(self) -> Mapping[EvidencePath, str]:
        """Name → path of the record."""
        records = [path for path in self._objects if path.endswith(".json")]
        return {name: path for path in records if (name := EvidencePath.parse(path)) is not None}

    def _restore(self, publish: _Publish, lost: Collection[str], heads: Mapping[str, int]) -> None:
        connection = self.ledger.connection
        with connection.transaction():
            for name, path in self._evidence.items():
                if name.attempt == publish.attempt:
                    current = [p for p, epoch in publish.epochs.items() if heads.get(p) == epoch]
                    restore_attempt(connection, self._store.read(path).decode(), current, self._tags)
            self.ledger.record_published(publish.attempt, list(publish.epochs), publish.snapshot_id, publish.number)
            rows = connection.execute(
                "update etl.publishes p set published_at = coalesce(%s, i.created_at) from etl.intents i "
                "where i.attempt = p.attempt and p.attempt = %s and p.asset = %s and p.partition = any(%s) "
                "returning p.partition, p.epoch",
                (publish.published_at, publish.attempt, self.address.asset, list(lost)),
            ).fetchall()
            connection.execute(
                "update etl.versions set published_at = coalesce(%s, published_at) "
                "where attempt = %s and asset = %s and snapshot_id = %s",
                (publish.published_at, publish.attempt, self.address.asset, publish.snapshot_id),
            )
            self.restored |= set(rows)

    def _known(self) -> set[Entry]:
        rows = self.ledger.connection.execute(
            "select partition, epoch from etl.publishes where asset = %s", (self.address.asset,)
        )
        return set(rows.fetchall())

    def _versions(self) -> set[int]:
        rows = self.ledger.connection.execute("select number from etl.versions where asset = %s", (self.address.asset,))
        return {number for (number,) in rows.fetchall()}


def missing_inputs(ledger: Ledger, assets: Collection[str]) -> dict[str, set[Entry]]:
    """Asset → publishes that current versions were made from, directly or not, and that the ledger doesn't know."""
    rows = ledger.connection.execute(
        "with recursive walk as ("
        "select i.asset, i.partition, i.epoch from etl.current_versions c "
        "cross join lateral jsonb_to_recordset(c.inputs) as i(asset text, partition text, epoch bigint) union "
        "select i.asset, i.partition, i.epoch from walk w join etl.publishes p using (asset, partition, epoch) "
        "cross join lateral jsonb_to_recordset(p.inputs) as i(asset text, partition text, epoch bigint)) "
        "select asset, partition, epoch from walk w where asset = any(%s) and epoch > 0 "
        "and not exists (select from etl.publishes p "
        "where p.asset = w.asset and p.partition = w.partition and p.epoch = w.epoch)",
        (list(assets),),
    ).fetchall()
    found: dict[str, set[Entry]] = {}
    for asset, partition, epoch in rows:
        found.setdefault(asset, set()).add((partition, epoch))
    return found


def _history(table: "Table") -> Iterator[_Publish]:
    """Commits to main that are still retained, oldest first."""
    head = table.current_snapshot()
    numbers = snapshot_numbers(table, head.snapshot_id) if head else {}
    for snapshot_id, number in reversed(numbers.items()):
        properties = properties_of(table, snapshot_id)
        published = partitions_of(properties)
        snapshot = table.snapshot_by_id(snapshot_id)
        if published and snapshot is not None:
            moment = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
            epochs = {p: s.epoch for p, s in published.items()}
            yield _Publish(properties[ATTEMPT_KEY], epochs, snapshot_id, number, moment)
