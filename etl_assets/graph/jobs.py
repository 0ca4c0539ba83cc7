"""Jobs over every layer, one for each grain: a run has partitions of one grain, and whole tables with any of them."""

from collections.abc import Mapping

from etl_assets.project import Project
from etl_resources.calendar import EVERY, WHOLE, Every, every_of

ALL_LAYERS = "all_layers"
"""Job by month. That of another grain ends in its name: all_layers_by_day."""


def job_of(partition: str) -> str:
    """Name of the job whose runs have partitions of this kind. Tables without partitions are in each."""
    return job_name(every_of(partition)) if partition != WHOLE else ALL_LAYERS


def job_name(every: Every) -> str:
    """Name of the job for one grain."""
    return ALL_LAYERS if every == "month" else f"{ALL_LAYERS}_by_{every}"


def job_assets(project: Project) -> Mapping[Every, list[str]]:
    """Grain → tables and targets of its job, in the order of the flow. By month there is one in any case, for tables
    without partitions, unless all have others."""
    every = {node.name: node.every for node in project.nodes}
    used = set(every.values())
    return {
        grain: [name for name, own in every.items() if own in (grain, None)]
        for grain in EVERY
        if grain in used or (grain == "month" and None in used)
    }
