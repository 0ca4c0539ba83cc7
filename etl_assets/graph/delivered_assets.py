"""Bronze tables whose source is delivered whole: one asset each, because deliveries know nothing of each other."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from etl_assets.graph import keys
from etl_assets.graph.asset_parts import (
    TABLES,
    check_specs,
    output_name,
    runtime_table,
    source_events,
    table_metadata,
)
from etl_assets.graph.column_lineage import columns_of
from etl_assets.graph.outcome import AssetIdentity, check_events, event_pointers, materializations, raise_failures
from etl_assets.graph.runtime import Runtime
from etl_assets.project import Project, TableNode
from etl_resources.calendar import WHOLE
from etl_resources.io_managers.failure import failing_clearly
from etl_resources.quality.audit import ROWS_ACCOUNTED, UNIQUE_KEY


def build_delivered(project: Project, runtime: Runtime, node: TableNode) -> dg.AssetsDefinition:
    """The asset of one delivered dataset."""
    source = node.dataset.source
    assert source is not None  # noqa: S101  (bronze has a source)
    identity = AssetIdentity(
        keys.table_key(node.name),
        node.logic_version[:16],
        (ROWS_ACCOUNTED, UNIQUE_KEY),
        {keys.source_input(node.dataset): keys.source_key(source.system, node.dataset.source_name)},
        columns=columns_of(runtime, node.name),
    )

    @dg.asset(
        key=identity.key,
        deps=list(identity.input_keys.values()),
        group_name="bronze",
        kinds={"iceberg", source.kind},
        description=f"{node.dataset.description} As delivered, typed, with meta_run_id.",
        owners=[node.dataset.owner],
        code_version=identity.code_version,
        output_required=False,
        check_specs=check_specs(identity.key, identity.check_names, None),
        metadata=table_metadata(project, node, runtime_table(project, node)),
        io_manager_key=TABLES,
    )
    def deliver(context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield from _run(context, runtime, node, identity)

    return deliver


def _run(
    context: dg.AssetExecutionContext, runtime: Runtime, node: TableNode, identity: AssetIdentity
) -> Iterator[Any]:
    from etl_assets.graph.computed import settled
    from etl_assets.graph.delivered_step import DeliveredStep
    from etl_resources.ledger.ledger import Ledger

    with failing_clearly(context.run_id), Ledger.open(runtime.settings) as ledger:
        step = DeliveredStep(runtime.for_run(context.run.tags), node, ledger, context.run_id)
        outcome = step.run()
        yield from check_events(identity, [outcome])
        for check in identity.check_names:
            yield dg.Output(None, output_name=output_name(identity.key, check))
        raise_failures(node.name, [outcome])
        yield dg.Output(step.batch)
        told = settled(outcome, step.batch, ledger, node.name)
        yield from source_events(identity, told)
        yield from materializations(identity, [told], event_pointers(context.instance, identity, [WHOLE]))
