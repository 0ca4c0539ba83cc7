"""The raw zone of a dataset that is delivered whole, cleaned by maintenance and recovery alike."""

from datetime import timedelta

from etl_assets.graph.runtime import Runtime
from etl_assets.project import TableNode
from etl_resources.conventions import raw_location
from etl_resources.extract.raw_cleanup import RawCleanup, clean_raw_zone
from etl_resources.ledger.ledger import Ledger
from etl_resources.object_store import ObjectStore


def clean_raw(runtime: Runtime, ledger: Ledger, node: TableNode, *, dry_run: bool) -> RawCleanup:
    """Nothing for other tables. What a failed run landed explains its failure: it is kept as long as old versions."""
    if not node.is_delivered:
        return RawCleanup()
    settings = runtime.settings
    kept = max(timedelta(days=settings.maintain_keep_days), timedelta(seconds=settings.maintain_guard_s))
    store = ObjectStore.of(runtime.store.catalog, raw_location(runtime.bucket))
    return clean_raw_zone(store, ledger, *node.captured_in, older_than=kept, dry_run=dry_run)
