"""Metadata files of a table that nothing references any more: old metadata.json, manifest lists, manifests.

The order of the looks is the proof, as in orphans: objects are listed first, then the metadata is read, then the ledger
is asked who is at work. A commit under way has written manifests that no metadata references yet, so nothing is deleted
while an attempt at the table lives, nor anything younger than the guard.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import clock, in_use
from etl_resources.object_store import ObjectStore, StoredObject
from etl_resources.tables.address import Address

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

READERS = 8
"""Manifest lists read at once."""
FOLDER = "metadata"
SUFFIXES = (".metadata.json", ".avro")


def delete_unreferenced_metadata(
    catalog: "Catalog", address: Address, ledger: Ledger, *, older_than: timedelta, dry_run: bool = False
) -> list[StoredObject]:
    """Metadata files that were deleted, or would be with dry_run. Raises TransientError when some can't be."""
    since = clock(ledger)
    store = ObjectStore.of(catalog, address.location)
    before = store.now() - older_than
    old = [o for o in store.list(FOLDER) if o.modified_at <= before and o.path.endswith(SUFFIXES)]
    referenced = referenced_metadata(catalog.load_table(address.identifier))
    gone = [o for o in old if o.path not in referenced]
    if not gone or in_use(ledger, address.asset, since).attempts:
        return []
    if not dry_run:
        store.delete(o.path for o in gone)
    return gone


def referenced_metadata(table: "Table") -> set[str]:
    """The current and the logged metadata.json, and lists and manifests of every snapshot that the table retains."""
    found = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
    with ThreadPoolExecutor(READERS) as pool:
        for snapshot, manifests in zip(
            table.metadata.snapshots,
            pool.map(lambda s: s.manifests(table.io), table.metadata.snapshots),
            strict=True,
        ):
            found |= {snapshot.manifest_list, *(m.manifest_path for m in manifests)}
    return found


def metadata_bytes(catalog: "Catalog", address: Address) -> int:
    """Size of all metadata objects of a table."""
    return sum(o.size_bytes for o in ObjectStore.of(catalog, address.location).list(FOLDER))
