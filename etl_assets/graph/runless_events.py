"""Tell Dagster of what is published outside of any run: rollbacks, closings, reopenings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import dagster as dg

from etl_assets.graph import keys
from etl_assets.graph.column_lineage import columns_of
from etl_assets.graph.outcome import AssetIdentity, PartitionOutcome, event_pointers, materializations
from etl_assets.graph.runtime import Runtime
from etl_resources.closing import Done
from etl_resources.rollback import RollbackOutcome


def tell_rollback(
    instance: dg.DagsterInstance, runtime: Runtime, name: str, outcome: RollbackOutcome, reason: str
) -> int:
    """One runless materialization per partition of a table that was rolled back; how many."""
    rolled = {r.partition: r for r in outcome.plan.partitions}
    told = [
        PartitionOutcome(
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
        for done in outcome.published.published
    ]
    return _report(instance, runtime, name, told)


def tell_closing(instance: dg.DagsterInstance, runtime: Runtime, name: str, done: Done, kind: str) -> int:
    """One runless materialization: the partition as it was, with who closed or reopened it."""
    closing, (published,) = done.closing, done.outcome.published
    metadata = {
        "dagster/partition_row_count": published.rows,
        "epoch": published.epoch,
        "version": done.outcome.number or 0,
        "by": closing.by,
        "note": closing.note,
        **({"release": closing.tag} if closing.tag else {}),
    }
    inputs = done.current.inputs
    told = PartitionOutcome(published.partition, kind, published.version, published.token, inputs, metadata=metadata)
    return _report(instance, runtime, name, [replace(told, closing=closing if kind == "closed" else None)])


def _report(instance: dg.DagsterInstance, runtime: Runtime, name: str, told: Sequence[PartitionOutcome]) -> int:
    node = runtime.project.tables[name]
    source = node.dataset.source if node.layer == "bronze" else None
    inputs: Mapping[str, dg.AssetKey] = {i: keys.table_key(i) for i in node.upstream}
    if source is not None:
        inputs = {keys.source_input(node.dataset): keys.source_key(source.system, node.dataset.source_name)}
    identity = AssetIdentity(
        keys.table_key(name), node.logic_version[:16], (), inputs, node.windows.keys(), columns_of(runtime, name)
    )
    pointers = event_pointers(instance, identity, [o.partition for o in told])
    for event in materializations(identity, told, pointers):
        instance.report_runless_asset_event(event)
    return len(told)
