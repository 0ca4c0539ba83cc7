"""Data files of a table that nothing references any more: found, and deleted.

Never deleted: a file that a retained snapshot, branch or tag references, one of an attempt that may still publish,
one younger than the guard, one that somebody else wrote.

The order of the looks is the proof. Objects are listed first, then the table's metadata is read, then the ledger is
asked for attempts that live or ended since: a file that was published meanwhile is referenced, and one that may still
be published belongs to such an attempt.
"""

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from etl_resources.conventions import parse_staged_path
from etl_resources.ledger.held import kept_paths
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import clock, epoch_states, in_use, others_hold_locks
from etl_resources.object_store import ObjectStore, StoredObject
from etl_resources.tables.address import Address

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

READERS = 8
"""Manifests read at once."""


@dataclass(frozen=True)
class Orphan:
    """A file that nothing references, and why it may go."""

    path: str
    size_bytes: int
    why: str


def delete_orphans(
    catalog: "Catalog", address: Address, ledger: Ledger, *, older_than: timedelta, dry_run: bool = False
) -> list[Orphan]:
    """The orphans of a table that are older than the guard, by the store's clock; deleted unless dry_run.

    Raises TransientError when some could not be deleted.
    """
    store = ObjectStore.of(catalog, address.location)
    orphans = find_orphans(catalog, store, address, ledger, older_than)
    if orphans and not dry_run:
        store.delete(o.path for o in orphans)
    return orphans


def find_orphans(
    catalog: "Catalog", store: ObjectStore, address: Address, ledger: Ledger, older_than: timedelta
) -> list[Orphan]:
    """Nothing is deleted. A table that doesn't exist has none."""
    from pyiceberg.exceptions import NoSuchTableError

    since = clock(ledger)
    before = store.now() - older_than
    old = {o.path: o for o in store.list("data") if o.modified_at <= before}
    if not old:
        return []
    try:
        unreferenced = set(old) - referenced_paths(catalog.load_table(address.identifier))
    except NoSuchTableError:
        return []
    unreferenced -= kept_paths(ledger.connection, address.asset)
    return list(_ended(ledger, address.asset, since, [old[path] for path in sorted(unreferenced)]))


def referenced_paths(table: "Table") -> set[str]:
    """Data files of every snapshot that the table retains: main's history, branches and tags."""
    with ThreadPoolExecutor(READERS) as pool:
        lists = pool.map(lambda s: s.manifests(table.io), table.metadata.snapshots)
        manifests = {m.manifest_path: m for manifests in lists for m in manifests}
        entries = pool.map(lambda m: m.fetch_manifest_entry(table.io, discard_deleted=True), manifests.values())
        return {entry.data_file.file_path for some in entries for entry in some}


def _ended(ledger: Ledger, asset: str, since: datetime, files: Collection[StoredObject]) -> Iterator[Orphan]:
    """Files whose attempt can't publish them any more.

    A rollback publishes files of an older version again: while an attempt lives, only files stay deletable that were
    never published. A file that the ledger doesn't know waits until no session holds any lock.
    """
    epochs = {f.path: epoch for f in files if (epoch := _epoch(f.path)) is not None}
    if not epochs:
        return
    busy, known = in_use(ledger, asset, since), epoch_states(ledger, asset, set(epochs.values()))
    others = bool(busy.attempts) or others_hold_locks(ledger.connection)
    for found in files:
        epoch = epochs.get(found.path)
        if epoch is None or epoch in busy.epochs:
            continue
        state = known.get(epoch)
        if state in ("failed", "abandoned"):
            yield Orphan(found.path, found.size_bytes, f"its attempt {state}")
        elif not others:
            why = "no attempt is known that wrote it" if state is None else "no retained snapshot references it"
            yield Orphan(found.path, found.size_bytes, why)


def _epoch(path: str) -> int | None:
    try:
        return parse_staged_path(path)[1]
    except ValueError:
        return None
