"""What the assets of every kind of source and table share: metadata, checks, the source's own asset and its events."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from etl_assets.graph import keys
from etl_assets.graph.outcome import AssetIdentity, PartitionOutcome
from etl_assets.graph.partitions import partitions_def, told
from etl_assets.project import Project, TableNode
from etl_resources.quality.audit import RECONCILED, ROWS_ACCOUNTED, STORED_CONTENT, UNIQUE_KEY

TABLES, POSTGRES, ELASTICSEARCH = "tables", "postgres", "elasticsearch"
"""Keys of the IO managers."""

_BASE_CHECKS = {
    ROWS_ACCOUNTED: "read = written + rejected + deduplicated + filtered",
    UNIQUE_KEY: "no key occurs twice",
    STORED_CONTENT: "what is stored, read back, has the hash of what was written",
    RECONCILED: "equals the control totals of the captured snapshot",
    "rejected_share": "share of rejected rows is within its bound",
    "rows": "number of rows is within its bound",
}


def source_asset_spec(project: Project, system: str, node: TableNode) -> dg.AssetSpec:
    source = node.dataset.source
    assert source is not None  # noqa: S101  (only bronze nodes with a source come here)
    return dg.AssetSpec(
        keys.source_key(system, node.dataset.source_name),
        partitions_def=partitions_def(project.platform.calendar, node.dataset.partitions),
        group_name=keys.SOURCES,
        kinds={source.kind},
        description=f"{node.dataset.source_name} of system {system}, read only.",
        owners=[node.dataset.owner],
    )


def table_metadata(project: Project, node: TableNode, place: str) -> dict[str, Any]:
    manifest = project.root / "datasets" / node.dataset.dataset / "manifest.yaml"
    metadata: dict[str, Any] = {
        "dagster/column_schema": keys.column_schema(node.contract),
        "dagster/table_name": place,
        "manifest": f"{project.root.name}/{manifest.relative_to(project.root)}",
        "tenant": node.dataset.tenant,
        "size": node.dataset.runner.size,
        "key": ", ".join(node.contract.key),
    }
    if node.sql:
        metadata["sql"] = dg.MetadataValue.md(f"```sql\n{node.sql}\n```")
    return metadata


def check_specs(
    key: dg.AssetKey, names: Sequence[str], partitions: dg.PartitionsDefinition[Any] | None, warn: Sequence[str] = ()
) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(n, asset=key, description=_BASE_CHECKS[n], blocking=n not in warn, partitions_def=partitions)
        for n in names
    ]


def source_events(identity: AssetIdentity, outcome: PartitionOutcome) -> Iterator[dg.AssetMaterialization]:
    """What was captured is the source's version: the web UI shows it, and bronze is stale against nothing else."""
    if outcome.status in ("published", "unchanged"):
        for i in outcome.inputs:
            yield dg.AssetMaterialization(
                asset_key=identity.input_keys[i.asset],
                partition=told(outcome.partition),
                metadata={"captured": True},
                tags={"dagster/data_version": i.version},
            )


def output_name(key: dg.AssetKey, check: str | None = None) -> str:
    """Name that Dagster gives to the output of an asset, or of one of its checks."""
    name = "__".join(key.path)
    return f"{name}_{check}" if check else name


def runtime_table(project: Project, node: TableNode) -> str:
    """Catalog name of a table, for the web UI."""
    from etl_resources.conventions import database_name, table_name

    return (
        f"{database_name(project.platform.database_prefix, node.layer)}.{table_name(node.layer, node.dataset.dataset)}"
    )
