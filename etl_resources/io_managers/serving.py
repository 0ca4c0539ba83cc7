"""What the IO managers of serving stores share: publish what a step wrote, load what is served."""

from typing import TYPE_CHECKING

import dagster as dg

from etl_resources.io_managers.failure import failing_clearly
from etl_resources.io_managers.reader import PublishedRows, asked_for
from etl_resources.io_managers.s3_tables import Reader

if TYPE_CHECKING:
    from etl_resources.sinks.serving import ServingBatch


class ServingIOManager(dg.IOManager):
    """As the table IO manager; how a batch becomes visible is its sink's."""

    def __init__(self, read: Reader) -> None:
        self._read = read

    def handle_output(self, context: dg.OutputContext, batch: "ServingBatch | None") -> None:
        """Publish the batch; None means that everything was pruned."""
        if batch is None:
            return
        with failing_clearly(context.run_id):
            outcome = batch.publish()
        context.add_output_metadata(
            {"published_partitions": len(outcome.published), "fenced_partitions": len(outcome.fenced)}
        )

    def load_input(self, context: dg.InputContext) -> PublishedRows:
        """A handle on what is served of the input's partitions, as rows of the contract."""
        return self._read(*asked_for(context))
