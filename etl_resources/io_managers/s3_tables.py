"""The IO manager of Iceberg tables on S3: publish what a step staged, load what is published."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from etl_resources.io_managers.failure import failing_clearly
from etl_resources.io_managers.reader import PublishedRows, asked_for

if TYPE_CHECKING:
    from etl_resources.tables.table_store import StagedBatch

Reader = Callable[[str, Sequence[str]], PublishedRows]
"""(asset name, partitions) → a handle on what is published now."""


class S3TableIOManager(dg.IOManager):
    """A step yields its staged batch as output only when every partition passed its audit; here it becomes visible.

    Publishing what is already published is harmless, so a retried output changes nothing.
    """

    def __init__(self, read: Reader) -> None:
        self._read = read

    def handle_output(self, context: dg.OutputContext, batch: "StagedBatch | None") -> None:
        """Publish the batch in one commit; None means that everything was pruned."""
        if batch is None:
            return
        with failing_clearly(context.run_id):
            outcome = batch.publish()
        context.add_output_metadata(
            {
                "snapshot_id": str(outcome.snapshot_id),
                "commit": outcome.how,
                "tries": outcome.tries,
                "published_partitions": len(outcome.published),
                "fenced_partitions": len(outcome.fenced),
            }
        )

    def load_input(self, context: dg.InputContext) -> PublishedRows:
        """A handle on the published rows of the input's partitions, pinned now."""
        return self._read(*asked_for(context))
