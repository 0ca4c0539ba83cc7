"""What a manifest leaves to convention, filled in: types of contracts, the SQL of a silver without one."""

from etl_assets.project_files import ProjectFiles
from etl_resources.contract import Contract, ContractColumn
from etl_resources.manifest import Dataset, PostgresSource


def resolve_contract(dataset: Dataset, layer: str) -> Contract:
    """The contract of a layer. A type that nobody gives is "": the checks report it."""
    by = dataset.partitions.by
    if layer == "bronze":
        if dataset.source is None:
            raise KeyError(f"{dataset.dataset} has no bronze layer")
        return _bronze(dataset.source, by)
    table = dataset.table(layer)
    source = dataset.source.columns if dataset.source else {}
    columns = tuple(
        ContractColumn(
            name=name,
            type=column.type or (source[name].type if name in source else None) or "",
            nullable=column.nullable,
            description=column.description,
            unit=column.unit,
            check=column.check,
        )
        for name, column in table.columns.items()
    )
    return Contract(columns, table.key, by)


def _bronze(source: PostgresSource, by: str) -> Contract:
    """As delivered, in the source's order; only what identifies and places a row is required."""
    required = {*source.key, by}
    columns = tuple(
        ContractColumn(name, c.type or "", name not in required, c.description, c.unit)
        for name, c in source.columns.items()
    )
    return Contract(columns, source.key, by)


def resolve_sql(files: ProjectFiles, dataset: str, layer: str) -> str | None:
    """The transform's text; for a silver without one, its columns as they are in bronze; None for bronze."""
    if layer == "bronze":
        return None
    given = files.transforms.get((dataset, layer))
    if given is not None:
        return given.text
    columns = ",\n".join(f'    "{name}"' for name in files.datasets[dataset].model.table(layer).columns)
    return f"select\n{columns}\nfrom bronze.{dataset}\n"
