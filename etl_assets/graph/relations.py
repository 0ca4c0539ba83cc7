"""What a transform's SQL reads: the pinned files of its inputs' partitions, what it looks up, and its period."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from etl_assets.project import Project, TableNode
from etl_resources.business_days import DAYS
from etl_resources.calendar import PERIOD, WHOLE, period_relation
from etl_resources.looked_up import lookup_relation
from etl_resources.partition_sql import PartitionBy
from etl_resources.planning import Plan, PlannedPartition
from etl_resources.tables.input_tables import no_rows
from etl_resources.windows import InputWindow, partitions_read

if TYPE_CHECKING:
    import duckdb


def input_windows(project: Project, node: TableNode) -> Mapping[str, InputWindow]:
    """Inputs of which a partition reads others than its own, against the partitions that each input has.

    Those that the manifest gives a window, and those with partitions of another grain.
    """
    calendar = project.platform.calendar
    looked_up = {lookup.asset for lookup in node.lookups}
    found: dict[str, InputWindow] = {}
    for name in node.inputs:
        window, read = node.windows.get(name), project.tables[name]
        if window is not None:
            within = tuple(calendar.keys(read.dataset.partitions))
            found[name] = InputWindow(
                within,
                window.periods,
                allow_missing=window.missing == "allow",
                all_rows=window.rows == "partitions",
                same_period=window.periods == (0, 0),
            )
        elif name not in looked_up and node.every and read.every and node.every != read.every:
            found[name] = InputWindow(tuple(calendar.keys(read.dataset.partitions)), (0, 0), same_period=True)
    return found


def relations(project: Project, node: TableNode, the_plan: Plan, planned: PlannedPartition) -> dict[str, str]:
    """Name in SQL → DuckDB table expression, for one partition."""
    fiscal_year_start = project.platform.calendar.fiscal_year_start
    found = {} if planned.partition == WHOLE else {PERIOD: period_relation(planned.partition, fiscal_year_start)}
    if node.reads_days:
        found[DAYS] = project.business_days.relation
    windows = input_windows(project, node)
    for name in node.inputs:
        found[name] = _scan(project, name, the_plan, planned)
        if name in windows and windows[name].reaches_out(planned.partition):
            found[name] = f"(from {found[name]} where {inside(project, name, windows[name], planned)})"
    for lookup in node.lookups:
        found[lookup.name] = lookup_relation(lookup, the_plan.inputs, planned.inputs)
    return found


def rows_outside(
    engine: "duckdb.DuckDBPyConnection", project: Project, node: TableNode, the_plan: Plan, planned: PlannedPartition
) -> dict[str, int]:
    """Input → rows of the partitions that are read of it, of days that the transform doesn't see: its partitions are
    wider than the period. Counted by themselves, so that a row that is lost between is missed."""
    found = {}
    for name, window in input_windows(project, node).items():
        if window.reaches_out(planned.partition):
            seen = inside(project, name, window, planned)
            query = f"select count(*) from {_scan(project, name, the_plan, planned)} where not coalesce({seen}, false)"
            row = engine.execute(query).fetchone()
            found[name] = int(row[0]) if row else 0
    return found


def _scan(project: Project, name: str, the_plan: Plan, planned: PlannedPartition) -> str:
    partitions = partitions_read(planned.inputs, name)
    return the_plan.inputs[name].scan(partitions) if partitions else no_rows(project.tables[name].contract)


def inside(project: Project, name: str, window: InputWindow, planned: PlannedPartition) -> str:
    """DuckDB condition: the rows of an input that lie in the days which a planned partition sees."""
    start, end = window.span(planned.partition)
    return PartitionBy.of(project.tables[name].contract).in_days(start, end)
