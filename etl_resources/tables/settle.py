"""Recovery of crashed attempts at a table, from the table itself.

An attempt is dead when the session that opened it is gone. The fence comes first (its branch is dropped, so it can
never publish), then the record: published if main's history has it, else abandoned.
"""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from etl_resources.conventions import BRANCH_PREFIX
from etl_resources.failpoints import failpoint
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import clock, dead_attempts, is_live
from etl_resources.tables.address import TableAddress
from etl_resources.tables.publish import drop_branch, find_published
from etl_resources.tables.stage import ATTEMPT_KEY, partitions_of, properties_of
from etl_resources.tables.version_numbers import snapshot_numbers

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table


def settle_table(catalog: "Catalog", ledger: Ledger, address: TableAddress) -> dict[str, str]:
    """Dead attempt → published or abandoned."""
    return settle_attempts(catalog, ledger, address.asset, address.identifier)


def settle_attempts(
    catalog: "Catalog", ledger: Ledger, asset: str, identifier: str, *, dry_run: bool = False
) -> dict[str, str]:
    """As settle_table, for any table of the catalog. dry_run: no fence; the ledger is the caller's to roll back."""
    from pyiceberg.exceptions import NoSuchTableError

    settled: dict[str, str] = {}
    for attempt in dead_attempts(ledger, asset, dry_run=dry_run):
        try:
            if not dry_run:
                drop_branch(catalog, identifier, attempt)
            outcome = find_published(catalog.load_table(identifier), attempt)
        except NoSuchTableError:
            outcome = None
        failpoint("settle.fenced", asset)
        if outcome is None:
            ledger.settle(attempt, "abandoned", "its session ended before it published")
            settled[attempt] = "abandoned"
        else:
            partitions = [p.partition for p in outcome.published]
            ledger.record_published(attempt, partitions, outcome.snapshot_id, outcome.number)
            settled[attempt] = "published"
    return settled


def drop_stale_branches(
    catalog: "Catalog",
    ledger: Ledger,
    identifier: str,
    older_than: timedelta,
    *,
    besides: Collection[str] = (),
    dry_run: bool = False,
) -> list[str]:
    """Branches whose attempt is over, whether the ledger knows it or not, but for attempts in `besides`.

    A branch that exists was never published: publishing drops it. Its attempt took its lock before it staged.
    """
    from pyiceberg.exceptions import NoSuchTableError

    try:
        table = catalog.load_table(identifier)
    except NoSuchTableError:
        return []
    before_ms = (clock(ledger) - older_than).timestamp() * 1000
    dropped = []
    for branch, ref in sorted(table.refs().items()):
        attempt = branch.removeprefix(BRANCH_PREFIX)
        staged = table.snapshot_by_id(ref.snapshot_id)
        if attempt == branch or attempt in besides or (staged and staged.timestamp_ms > before_ms):
            continue
        if not is_live(ledger, attempt) and (dry_run or drop_branch(catalog, identifier, attempt)):
            dropped.append(branch)
    return dropped


def recognise_published(table: "Table", ledger: Ledger, epochs: Mapping[str, int]) -> None:
    """Record what main's history shows as published at these epochs, whoever its writer is and whether it lives.

    A live writer between its commit and its evidence records the same later; a reader need not wait for it.
    """
    head = table.current_snapshot()
    numbers = snapshot_numbers(table, head.snapshot_id) if head else {}
    for snapshot_id, number in numbers.items():
        properties = properties_of(table, snapshot_id)
        published = partitions_of(properties)
        if any(epochs.get(p.partition) == p.epoch for p in published.values()):
            ledger.record_published(properties[ATTEMPT_KEY], list(published), snapshot_id, number)
