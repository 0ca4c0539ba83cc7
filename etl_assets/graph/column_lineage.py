"""What a table's columns are made of, as Dagster tells it."""

from collections.abc import Callable
from functools import partial

import dagster as dg

from etl_assets.column_lineage import Column, source_table
from etl_assets.graph import keys
from etl_assets.graph.runtime import Runtime
from etl_assets.project import Project
from etl_resources.errors import PermanentError
from etl_resources.progress import report


def columns_of(runtime: Runtime, name: str) -> Callable[[], dg.TableColumnLineage | None]:
    """The lineage of a table or target by its name; its SQL is looked at when this is called.

    None where it can't be followed: that is no reason to fail a step whose data is published.
    """
    return partial(_columns, runtime, name)


def _columns(runtime: Runtime, name: str) -> dg.TableColumnLineage | None:
    assets = _assets(runtime.project)
    try:
        columns = runtime.columns.table(name)
    except PermanentError as e:
        report(name, "columns not followed", reason=str(e))
        return None
    return dg.TableColumnLineage(
        {
            column: [_dependency(assets, source) for source in made.sources if source.table in assets]
            for column, made in columns.items()
        }
    )


def _dependency(assets: dict[str, dg.AssetKey], source: Column) -> dg.TableColumnDep:
    return dg.TableColumnDep(assets[source.table], source.name)


def _assets(project: Project) -> dict[str, dg.AssetKey]:
    """Tables that are assets: neither the calendar, nor a parent that is only joined in the system of record."""
    found = {name: keys.table_key(name) for name in project.tables}
    for node in project.tables.values():
        if node.sql is None and node.dataset.source is not None:
            found[source_table(node)] = keys.source_key(node.dataset.source.system, node.dataset.source_name)
    return found
