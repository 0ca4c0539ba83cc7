"""What an engine did for a partition, written as soon as it is known: an attempt that dies later keeps it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etl_resources.ledger.connection import typed_errors

if TYPE_CHECKING:
    from etl_resources.ledger.ledger import Ledger


def record_measures(ledger: "Ledger", attempt: str, partition: str, measures: Mapping[str, Any]) -> None:
    """Replace those of the partition in this attempt. Raises RestartError when the session with the ledger is lost."""
    from psycopg.types.json import Jsonb

    with typed_errors("The ledger"), ledger.alone:
        ledger.connection.execute(
            "update etl.intent_partitions set measures = %s where attempt = %s and partition = %s",
            (Jsonb(dict(measures)), attempt, partition),
        )
