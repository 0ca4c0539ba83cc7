"""What a dataset's bronze table knows of the columns of its source. Reads the catalog alone."""

from dataclasses import dataclass

from etl_assets.graph.runtime import Runtime
from etl_resources.errors import PermanentError
from etl_resources.suggest import hint
from etl_resources.tables.source_schema import SchemaRecord


@dataclass(frozen=True)
class SchemaHistory:
    """The mode that the manifest says, and what was recorded."""

    mode: str | None
    record: SchemaRecord


def schema_history(runtime: Runtime, dataset: str) -> SchemaHistory:
    """Raises PermanentError for an unknown dataset, one without a source, and one that was never captured."""
    from pyiceberg.exceptions import NoSuchTableError

    captured = [name for name, d in runtime.project.datasets.items() if d.bronze is not None]
    if dataset not in captured:
        raise PermanentError(f"{dataset!r} is no dataset with a source; {hint(dataset, captured)}.")
    bronze = runtime.project.datasets[dataset].bronze
    try:
        table = runtime.store.catalog.load_table(runtime.addresses[f"bronze.{dataset}"].identifier)
    except NoSuchTableError as e:
        raise PermanentError(f"{dataset} was never captured. Materialize bronze/{dataset} first.") from e
    return SchemaHistory(bronze.schema_evolution if bronze else None, SchemaRecord.of(table))
