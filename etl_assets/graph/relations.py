"""What a transform's SQL reads: the pinned files of its inputs' partitions, what it looks up, and its period."""

from collections.abc import Mapping

from etl_assets.graph.partitions import partition_keys
from etl_assets.project import Project, TableNode
from etl_resources.calendar import PERIOD, WHOLE, period_relation
from etl_resources.looked_up import lookup_relation
from etl_resources.planning import Plan, PlannedPartition
from etl_resources.tables.input_tables import no_rows
from etl_resources.windows import InputWindow, partitions_read


def input_windows(project: Project, node: TableNode) -> Mapping[str, InputWindow]:
    """Windows of the inputs that have one, against the partitions that each input has."""
    return {
        name: InputWindow(
            tuple(partition_keys(project.platform.calendar, project.tables[name].dataset.partitions)),
            window.months,
            allow_missing=window.missing == "allow",
        )
        for name, window in node.windows.items()
    }


def relations(project: Project, node: TableNode, the_plan: Plan, planned: PlannedPartition) -> dict[str, str]:
    """Name in SQL → DuckDB table expression, for one partition."""
    found = {} if planned.partition == WHOLE else {PERIOD: period_relation(planned.partition)}
    for name in node.inputs:
        table = the_plan.inputs[name]
        partitions = partitions_read(planned.inputs, name)
        found[name] = table.scan(partitions) if partitions else no_rows(project.tables[name].contract)
    for lookup in node.lookups:
        found[lookup.name] = lookup_relation(lookup, the_plan.inputs, planned.inputs)
    return found
