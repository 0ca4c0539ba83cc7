"""What the assets of every kind of source and table share: metadata, checks, the source's own asset and its events."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from etl_assets.graph import keys
from etl_assets.graph.outcome import AssetIdentity, PartitionOutcome
from etl_assets.graph.partitions import partitions_def, told
from etl_assets.project import Project, TableNode
from etl_resources.quality.audit import (
    CLOSED_PERIOD,
    CONTRACT_HELD,
    RECONCILED,
    ROWS_ACCOUNTED,
    STORED_CONTENT,
    UNIQUE_KEY,
    WITHIN_CHANGE,
)
from etl_resources.quality.declared_checks import DeclaredCheck

TABLES, POSTGRES, ELASTICSEARCH = "tables", "postgres", "elasticsearch"
"""Keys of the IO managers."""

_BASE_CHECKS = {
    ROWS_ACCOUNTED: "read = written + rejected + deduplicated + filtered",
    UNIQUE_KEY: "no key occurs twice",
    STORED_CONTENT: "what is stored, read back, has the hash of what was written",
    CONTRACT_HELD: "every written row keeps the contract, judged a second time, by pandera",
    RECONCILED: "equals the control totals of the captured snapshot",
    WITHIN_CHANGE: "its sums are near those of what is published",
    CLOSED_PERIOD: "a closed period is as it is published, or a person accepted what late data makes of it",
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
    of = node.adjusted.table.partition(".")[2] if node.adjusted else node.dataset.dataset
    manifest = project.root / "datasets" / of / "manifest.yaml"
    metadata: dict[str, Any] = {
        "dagster/column_schema": keys.column_schema(node.contract, project.sensitive.get(node.name, {})),
        "dagster/table_name": place,
        "manifest": f"{project.root.name}/{manifest.relative_to(project.root)}",
        "tenant": node.dataset.tenant,
        "size": node.dataset.runner.size,
        **_glue(project, node),
        "key": ", ".join(node.contract.key),
    }
    if node.sql:
        metadata["sql"] = dg.MetadataValue.md(f"```sql\n{node.sql}\n```")
    if node.function:
        metadata["python"] = dg.MetadataValue.md(f"```python\n{node.function.sources[node.function.module]}\n```")
    return metadata


def _glue(project: Project, node: TableNode) -> dict[str, str]:
    category, workers = node.dataset.runner.size_category, project.platform.glue_workers(node.dataset.runner)
    found = {"size_category": category, "glue_workers": str(workers) if workers else None}
    return {name: value for name, value in found.items() if value is not None}


def check_specs(
    key: dg.AssetKey,
    names: Sequence[str],
    partitions: dg.PartitionsDefinition[Any] | None,
    declared: Sequence[DeclaredCheck] = (),
) -> list[dg.AssetCheckSpec]:
    """The checks of an asset by name; what the manifest declares of them is told in its words."""
    told = {d.name: d for d in declared}
    return [
        dg.AssetCheckSpec(
            name,
            asset=key,
            description=told[name].description if name in told else _BASE_CHECKS[name],
            blocking=name not in told or told[name].severity == "error",
            partitions_def=partitions,
        )
        for name in names
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
