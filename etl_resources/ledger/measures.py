"""What an engine did for a partition, written as soon as it is known: an attempt that dies later keeps it."""

from typing import TYPE_CHECKING

from etl_resources.ledger.connection import typed_errors

if TYPE_CHECKING:
    from etl_resources.engines.spark_metrics import SparkMeasures
    from etl_resources.ledger.ledger import Ledger


def record_measures(ledger: "Ledger", attempt: str, partition: str, measures: "SparkMeasures") -> None:
    """Replace those of the partition in this attempt; nothing is written where Spark did nothing.

    Raises RestartError when the session with the ledger is lost.
    """
    from psycopg.types.json import Jsonb

    if not measures.tries:
        return
    with typed_errors("The ledger"), ledger.alone:
        ledger.connection.execute(
            "update etl.intent_partitions set measures = %s where attempt = %s and partition = %s",
            (Jsonb(measures.as_json()), attempt, partition),
        )
