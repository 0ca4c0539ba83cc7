"""Whether a dataset's input is as big as its manifest says (G3): by what one run of each of its tables reads."""

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from etl_assets.project import Project, TableNode
from etl_resources.ledger.history import read_inputs
from etl_resources.manifest import Dataset, Platform

if TYPE_CHECKING:
    import psycopg

UNITS = ("B", "KB", "MB", "GB", "TB")


def wrong_categories(project: Project, connection: "psycopg.Connection[Any]", assets: Collection[str]) -> Iterator[str]:
    """One line for each dataset of these assets that declares another category than the ledger measured."""
    declared = {n.name: n for n in project.tables.values() if n.dataset.runner.size_category and n.name in assets}
    measured = read_inputs(connection, list(declared)) if declared else {}
    datasets: dict[str, tuple[Dataset, dict[str, int]]] = {}
    for name, size_bytes in measured.items():
        dataset = declared[name].dataset
        datasets.setdefault(dataset.dataset, (dataset, {}))[1][name] = size_bytes
    for dataset, of_tables in datasets.values():
        if warning := _warning(project.platform, dataset, of_tables):
            yield warning


def wrong_category(
    project: Project, connection: "psycopg.Connection[Any]", node: TableNode, reads_bytes: int
) -> str | None:
    """What is wrong with the category of a table's dataset, with what a run of it reads now; None where nothing is."""
    if node.dataset.runner.size_category is None:
        return None
    of_dataset = [n.name for n in project.tables.values() if n.dataset is node.dataset]
    measured = dict(read_inputs(connection, of_dataset))
    measured[node.name] = max(measured.get(node.name, 0), reads_bytes)
    return _warning(project.platform, node.dataset, measured)


def _warning(platform: Platform, dataset: Dataset, measured: Mapping[str, int]) -> str | None:
    table, size_bytes = max(measured.items(), key=lambda found: found[1])
    declared, found = dataset.runner.size_category, platform.size_categories.of(size_bytes)
    if found == declared:
        return None
    workers = platform.size_categories.by_name[found].glue
    return (
        f"{dataset.dataset} declares size_category {declared}, and a run of {table} read {told_bytes(size_bytes)}: "
        f"that is {found} ({workers} on Glue). Write `size_category: {found}` in its manifest."
    )


def told_bytes(number: float) -> str:
    """For people: 12 B, 1.5 GB."""
    units = list(UNITS)
    while number >= 1000 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.0f} {units[0]}" if units[0] == "B" else f"{number:.1f} {units[0]}"
