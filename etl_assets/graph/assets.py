"""Manifest to Dagster assets: sources, bronze (one step per system), SQL-made tables, serving targets."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from etl_assets.graph import keys
from etl_assets.graph.asset_parts import (
    TABLES,
    check_specs,
    output_name,
    runtime_table,
    source_asset_spec,
    source_events,
    table_metadata,
)
from etl_assets.graph.closed_periods import closes_periods
from etl_assets.graph.column_lineage import columns_of
from etl_assets.graph.delivered_assets import build_delivered
from etl_assets.graph.outcome import (
    AssetIdentity,
    check_events,
    event_pointers,
    materializations,
    raise_failures,
)
from etl_assets.graph.partitions import input_mapping, partitions_def, requested
from etl_assets.graph.relations import input_windows
from etl_assets.graph.runtime import Runtime
from etl_assets.project import Project, ServingNode, TableNode
from etl_resources.calendar import Every
from etl_resources.io_managers.failure import failing_clearly
from etl_resources.manifest_sources import PostgresSource
from etl_resources.quality.audit import (
    CLOSED_PERIOD,
    CONTRACT_HELD,
    RECONCILED,
    ROWS_ACCOUNTED,
    STORED_CONTENT,
    UNIQUE_KEY,
    WITHIN_CHANGE,
)
from etl_resources.quality.declared_checks import DeclaredCheck, declared_checks


def build_assets(project: Project, runtime: Runtime) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """All assets of the project, in the order of the flow."""
    captures: dict[tuple[str, Every | None], list[TableNode]] = {}
    for node in project.tables.values():
        if node.layer == "bronze" and isinstance(node.dataset.source, PostgresSource):
            captures.setdefault((node.dataset.source.system, node.every), []).append(node)
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = []
    for (system, _), nodes in captures.items():
        assets += [source_asset_spec(project, system, n) for n in nodes]
        assets.append(_bronze(project, runtime, system, nodes))
    delivered = [n for n in project.tables.values() if n.is_delivered]
    assets += [source_asset_spec(project, n.dataset.source.system, n) for n in delivered if n.dataset.source]
    assets += [build_delivered(project, runtime, n) for n in delivered]
    assets += [_table(project, runtime, n) for n in project.tables.values() if n.layer != "bronze"]
    assets += [_serving(project, runtime, n) for n in project.serving]
    return assets


def _bronze(project: Project, runtime: Runtime, system: str, nodes: Sequence[TableNode]) -> dg.AssetsDefinition:
    partitions = partitions_def(project.platform.calendar, nodes[0].dataset.partitions)
    names = (ROWS_ACCOUNTED, UNIQUE_KEY)
    identities = {n.name: _bronze_identity(runtime, system, n, names) for n in nodes}

    @dg.multi_asset(
        name=keys.capture_step(system, nodes[0].every),
        specs=[
            dg.AssetSpec(
                keys.table_key(n.name),
                deps=[identities[n.name].input_keys[f"{system}/{n.dataset.source_name}"]],
                group_name="bronze",
                kinds={"iceberg", "postgres"},
                description=f"{n.dataset.description} As delivered, typed, with meta_run_id.",
                owners=[n.dataset.owner],
                code_version=n.logic_version[:16],
                metadata=table_metadata(project, n, runtime_table(project, n)),
                skippable=True,
            ).with_io_manager_key(TABLES)
            for n in nodes
        ],
        check_specs=[c for i in identities.values() for c in check_specs(i.key, names, partitions)],
        can_subset=True,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def capture(context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield from _run_capture(context, runtime, system, nodes, identities)

    return capture


def _run_capture(
    context: dg.AssetExecutionContext,
    runtime: Runtime,
    system: str,
    nodes: Sequence[TableNode],
    identities: Mapping[str, AssetIdentity],
) -> Iterator[Any]:
    from etl_assets.graph.capture_step import CaptureStep
    from etl_assets.graph.computed import settled
    from etl_resources.ledger.ledger import Ledger

    with failing_clearly(context.run_id), Ledger.open(runtime.settings) as ledger:
        step = CaptureStep(runtime.for_run(context.run.tags), system, nodes, ledger, context.run_id)
        step.run(requested(context, nodes[0].dataset.partitions))
        for name, table in step.tables.items():
            identity, selected = identities[name], identities[name].key in context.selected_asset_keys
            failed = any(o.error for o in table.outcomes)
            yield from check_events(identity, table.outcomes)
            if selected:
                for check in identity.check_names:
                    yield dg.Output(None, output_name=output_name(identity.key, check))
            if selected and not failed:
                yield dg.Output(table.batch, output_name=output_name(identity.key))
            elif table.batch is not None:
                table.batch.publish()  # not selected, or only some partitions are good
            good = [settled(o, table.batch, ledger, name) for o in table.outcomes if o.error is None]
            for outcome in good:
                yield from source_events(identity, outcome)
            pointers = event_pointers(context.instance, identity, [o.partition for o in good])
            yield from materializations(identity, good, pointers)
        raise_failures(f"bronze of {system}", [o for t in step.tables.values() for o in t.outcomes])


def _bronze_identity(runtime: Runtime, system: str, node: TableNode, names: Sequence[str]) -> AssetIdentity:
    table = node.dataset.source_name
    return AssetIdentity(
        keys.table_key(node.name),
        node.logic_version[:16],
        names,
        {f"{system}/{table}": keys.source_key(system, table)},
        columns=columns_of(runtime, node.name),
    )


def _table(project: Project, runtime: Runtime, node: TableNode) -> dg.AssetsDefinition:
    declared = declared_checks(node.contract, node.dataset.table(node.layer))
    names = [ROWS_ACCOUNTED, UNIQUE_KEY, STORED_CONTENT, CONTRACT_HELD, *(c.name for c in declared)]
    if node.dataset.kpi and node.dataset.kpi.accept:
        accept = node.dataset.kpi.accept
        names += [RECONCILED] * (accept.reconcile is not None) + [WITHIN_CHANGE] * (accept.change is not None)
    names += [CLOSED_PERIOD] * closes_periods(node)
    identity = AssetIdentity(
        keys.table_key(node.name),
        node.logic_version[:16],
        names,
        {i: keys.table_key(i) for i in node.upstream},
        windowed=input_windows(project, node).keys(),
        columns=columns_of(runtime, node.name),
    )

    def body(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from etl_assets.graph.table_step import run_table_step

        yield from run_table_step(context, runtime, node, identity)

    return _asset(
        project,
        node,
        identity,
        body,
        declared,
        group_name=node.layer,
        kinds={"iceberg", "duckdb", "python" if node.function else "sql"},
        description=node.dataset.description,
        metadata=table_metadata(project, node, runtime_table(project, node)),
        io_manager_key=TABLES,
    )


def _asset(
    project: Project,
    node: TableNode,
    identity: AssetIdentity,
    body: Callable[[dg.AssetExecutionContext], Iterator[Any]],
    declared: Sequence[DeclaredCheck] = (),
    **details: Any,
) -> dg.AssetsDefinition:
    """One asset per SQL-made table or target; its step decides what is output, so that failed partitions stay out."""
    partitions = partitions_def(project.platform.calendar, node.dataset.partitions)

    def step(context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield from body(context)

    make: Callable[..., dg.AssetsDefinition] = dg.asset(
        key=identity.key,
        deps=_deps(project, node, identity),
        owners=[node.dataset.owner],
        code_version=identity.code_version,
        output_required=False,
        check_specs=check_specs(identity.key, identity.check_names, partitions, declared),
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        **details,
    )
    return make(step)


def _deps(project: Project, node: TableNode, identity: AssetIdentity) -> list[dg.AssetDep]:
    own = node.dataset.partitions
    return [
        dg.AssetDep(
            key, partition_mapping=input_mapping(node.windows.get(name), own, project.tables[name].dataset.partitions)
        )
        for name, key in identity.input_keys.items()
    ]


def _serving(project: Project, runtime: Runtime, node: ServingNode) -> dg.AssetsDefinition:
    names = (ROWS_ACCOUNTED, UNIQUE_KEY, STORED_CONTENT)
    identity = AssetIdentity(
        keys.serving_key(node.name),
        node.logic_version[:16],
        names,
        {node.table.name: keys.table_key(node.table.name)},
        columns=columns_of(runtime, node.name),
    )

    def body(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from etl_assets.graph.serving_step import run_serving_step

        yield from run_serving_step(context, runtime, node, identity)

    return _asset(
        project,
        node.table,
        identity,
        body,
        group_name=keys.SERVING,
        kinds={node.target.store},
        description=f"{node.table.dataset.description} Served as {node.target.place}.",
        metadata=table_metadata(project, node.table, node.target.place),
        io_manager_key=node.target.store,
    )
