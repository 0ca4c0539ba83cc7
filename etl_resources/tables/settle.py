"""Recovery of crashed attempts at a table, from the table itself.

An attempt is dead when the session that opened it is gone. The fence comes first (its branch is dropped, so it can
never publish), then the record: published if main's history has it, else abandoned.
"""

from typing import TYPE_CHECKING

from etl_resources.ledger.ledger import Ledger
from etl_resources.tables.address import TableAddress
from etl_resources.tables.publish import drop_branch, find_published

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog


def settle_table(catalog: "Catalog", ledger: Ledger, address: TableAddress) -> dict[str, str]:
    """Dead attempt → published or abandoned."""
    from pyiceberg.exceptions import NoSuchTableError

    settled: dict[str, str] = {}
    for attempt in ledger.dead_attempts(address.asset):
        try:
            drop_branch(catalog, address.identifier, attempt)
            outcome = find_published(catalog.load_table(address.identifier), attempt)
        except NoSuchTableError:
            outcome = None
        if outcome is None:
            ledger.settle(attempt, "abandoned", "its session ended before it published")
            settled[attempt] = "abandoned"
        else:
            ledger.record_published(attempt, [p.partition for p in outcome.published], outcome.snapshot_id)
            settled[attempt] = "published"
    return settled
