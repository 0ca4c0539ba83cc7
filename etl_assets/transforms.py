"""The transform of a table as the engine runs it, from its node: the same for a step and for a test."""

from etl_assets.project import TableNode
from etl_resources.adjustments import adjustments_sql
from etl_resources.engines.transform import Transform
from etl_resources.manifest_sources import PostgresSource
from etl_resources.manifest_tables import Derived
from etl_resources.tables.partitioning import Bucketing


def transform_of(node: TableNode, field_ids: str, buckets: Bucketing | None = None) -> Transform:
    """field_ids: FIELD_IDS option of COPY, of the table that is written. buckets: how its files are split."""
    table = node.dataset.table(node.layer)
    return Transform(
        asset=node.name,
        sql=adjustments_sql(node.adjusted) if node.adjusted else node.sql or "",
        contract=node.contract,
        grain=f"bronze.{node.dataset.dataset}" if node.layer == "silver" else table.grain,
        deduplicate_by=_newest(node),
        field_ids=field_ids,
        filters=table.filters,
        conserve=table.conserve if isinstance(table, Derived) else None,
        lookups={lookup.name: lookup.missed for lookup in node.lookups},
        function=node.function,
        buckets=buckets,
    )


def rows_from(node: TableNode) -> str:
    """Where the rows of a table are from, as its dead letters tell it: the input of which each row gives one."""
    grain = f"bronze.{node.dataset.dataset}" if node.layer == "silver" else node.dataset.table(node.layer).grain
    return grain or ", ".join(node.inputs)


def _newest(node: TableNode) -> str | None:
    """The column whose newest value wins among rows of one key; a golden table that makes two of one is wrong."""
    if node.layer != "silver":
        return None
    source = node.dataset.source
    change_column = source.change_column if isinstance(source, PostgresSource) else None
    return change_column if change_column in node.contract.names else node.contract.key[0]
