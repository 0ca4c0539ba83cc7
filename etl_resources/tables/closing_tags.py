"""Tags of closings: the commit that closed a partition, named in the table so that expiry spares it."""

from typing import TYPE_CHECKING

from etl_resources.errors import PermanentError
from etl_resources.failpoints import failpoint
from etl_resources.ledger.closings import record_tagged, untagged
from etl_resources.ledger.ledger import Ledger
from etl_resources.tables.address import TableAddress
from etl_resources.tables.versions import release

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog


def tag_closings(catalog: "Catalog", ledger: Ledger, address: TableAddress) -> list[str]:
    """Name the closings whose process died before it did; the names. Raises as tables.versions.release."""
    asset, done = address.asset, []
    for attempt, tag, number, partition in untagged(ledger.connection, asset):
        if tag not in catalog.load_table(address.identifier).refs():
            if number is None:
                raise PermanentError(
                    f"{asset}: the closing of {partition} can't be named {tag}: the ledger lost the number of its "
                    "version. Run `data-pipeline recover`."
                )
            release(catalog, address.identifier, asset, tag, str(number))
        failpoint("close.tagged", asset)
        record_tagged(ledger.connection, attempt, asset)
        done.append(tag)
    return done
