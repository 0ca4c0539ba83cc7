"""The project as a graph whose partitions are fresh or stale."""

from collections.abc import Collection, Mapping

from etl_assets.graph.closed_periods import late_data
from etl_assets.graph.relations import input_windows
from etl_assets.project import Project, ServingNode, TableNode
from etl_assets.reconciliations import reconciliations
from etl_resources.closure import ClosureNode
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.lineage import control_key
from etl_resources.ledger.state import LedgerState, read_state
from etl_resources.manifest_sources import PostgresSource


def closure_nodes(project: Project) -> list[ClosureNode]:
    """Every table, sources first, then every target."""
    return [*(_table(project, n) for n in project.tables.values()), *(_serving(project, n) for n in project.serving)]


def datasets_of(project: Project) -> Mapping[str, str]:
    """Asset → its dataset, whose target it is or of which it is a layer."""
    return {node.name: node.dataset.dataset for node in project.nodes}


def state_of(ledger: Ledger, nodes: Collection[ClosureNode]) -> LedgerState:
    """What the ledger knows of all of them."""
    lookups = {lookup.definition for node in nodes for lookup in node.lookups}
    controls = {control for node in nodes for control in node.controls}
    return read_state(ledger.connection, [n.name for n in nodes], lookups, controls)


def captured_with(project: Project, node: TableNode) -> tuple[str, ...]:
    """Tables that are captured in the same step as a bronze table of Postgres, itself included; () for others."""
    source = node.dataset.source
    if node.layer != "bronze" or not isinstance(source, PostgresSource):
        return ()
    return tuple(
        n.name
        for n in project.tables.values()
        if n.layer == "bronze"
        and isinstance(n.dataset.source, PostgresSource)
        and n.dataset.source.system == source.system
        and n.every == node.every
    )


def _table(project: Project, node: TableNode) -> ClosureNode:
    looked_up = {lookup.asset for lookup in node.lookups}
    return ClosureNode(
        node.name,
        node.dataset.tenant,
        node.logic_version,
        tuple(project.platform.calendar.keys(node.dataset.partitions)),
        tuple(n for n in node.inputs if n not in looked_up),
        input_windows(project, node),
        node.lookups,
        captured_with(project, node),
        tuple(
            dict.fromkeys(
                control_key(d.control, project.control_sql[d.control])
                for d in reconciliations(node.dataset)
                if d.layer == node.layer
            )
        ),
        node.adjusted.table if node.adjusted else None,
        late_data(node) if node.layer != "bronze" else "approval",
    )


def _serving(project: Project, node: ServingNode) -> ClosureNode:
    dataset = node.table.dataset
    partitions = tuple(project.platform.calendar.keys(dataset.partitions))
    return ClosureNode(node.name, dataset.tenant, node.logic_version, partitions, (node.table.name,))
