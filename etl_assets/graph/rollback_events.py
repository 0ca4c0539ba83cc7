"""Tell Dagster of a rollback: the partitions' data versions change outside of any run, and dependants turn stale."""

from collections.abc import Mapping

import dagster as dg

from etl_assets.graph import keys
from etl_assets.graph.outcome import AssetIdentity, PartitionOutcome, event_pointers, materialization
from etl_assets.project import TableNode
from etl_resources.rollback import RollbackOutcome


def tell_dagster(instance: dg.DagsterInstance, node: TableNode, outcome: RollbackOutcome, reason: str) -> int:
    """One runless materialization per partition that was rolled back; how many."""
    source = node.dataset.source if node.layer == "bronze" else None
    inputs: Mapping[str, dg.AssetKey] = {i: keys.table_key(i) for i in node.upstream}
    if source is not None:
        inputs = {keys.source_input(node.dataset): keys.source_key(source.system, node.dataset.source_name)}
    identity = AssetIdentity(keys.table_key(node.name), node.logic_version[:16], (), inputs, node.windows.keys())
    rolled = {r.partition: r for r in outcome.plan.partitions}
    pointers = event_pointers(instance, identity, list(rolled))
    for done in outcome.published.published:
        told = PartitionOutcome(
            done.partition,
            "rolled_back",
            done.version,
            done.token,
            rolled[done.partition].inputs,
            metadata={
                "dagster/partition_row_count": done.rows,
                "epoch": done.epoch,
                "version": outcome.published.number or 0,
                "rolled_back_from": outcome.plan.head_number,
                "rolled_back_to": outcome.plan.version.number,
                "reason": reason,
            },
        )
        instance.report_runless_asset_event(materialization(identity, told, pointers))
    return len(outcome.published.published)
