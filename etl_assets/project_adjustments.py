"""Tables of adjustments: one beside each table whose manifest says `late_data: adjustment`, as if it had a manifest."""

from collections.abc import Iterator, Mapping

from etl_resources.adjustments import KEY, OWN, PERIOD_COLUMN, SUFFIX
from etl_resources.errors import ManifestError
from etl_resources.manifest import Dataset, Partitions
from etl_resources.manifest_columns import Column
from etl_resources.manifest_file import ManifestFile
from etl_resources.manifest_tables import Derived, PeriodClose

Files = Mapping[str, ManifestFile[Dataset]]
NAME_CHARS_MAX = 63


def period_close(dataset: Dataset) -> tuple[str, PeriodClose] | None:
    """(layer, what the manifest says of closed periods); None where they can't be closed."""
    for layer in dataset.layers:
        table = getattr(dataset, layer)
        if isinstance(table, Derived) and table.period_close is not None:
            return layer, table.period_close
    return None


def adjustment_files(files: Files, errors: list[ManifestError]) -> Iterator[tuple[str, ManifestFile[Dataset]]]:
    """(table that is adjusted, dataset of its adjustments), under the name <dataset>_adjustments."""
    for name, file in files.items():
        found = period_close(file.model)
        if found is None or found[1].late_data != "adjustment" or file.model.partitions is None:
            continue
        layer, declared = found
        at, wanted = (layer, "period_close", "late_data"), f"{name}{SUFFIX}"
        if wanted in files:
            errors.append(file.error(f"{wanted!r} would be the table of adjustments, and is a dataset: rename it", *at))
        elif len(wanted) > NAME_CHARS_MAX:
            errors.append(
                file.error(f"{wanted!r}, the table of adjustments, has more than {NAME_CHARS_MAX} letters", *at)
            )
        else:
            model = _dataset(file.model, layer, declared, wanted, file.model.partitions)
            yield f"{layer}.{name}", ManifestFile(file.path, model, file.lines)


def _dataset(of: Dataset, layer: str, declared: PeriodClose, name: str, partitions: Partitions) -> Dataset:
    table = of.table(layer)
    own = {n: Column(type=kind, nullable=False, description=told) for n, (kind, told) in OWN.items()}
    plain = {"check": (), "reason": None}
    theirs = {n: column.model_copy(update=plain) for n, column in table.columns.items() if n not in own}
    derived = type(table).model_construct(
        key=KEY, load="overwrite_partition", sql="adjustments.sql", columns={**own, **theirs}
    )
    return of.model_copy(
        update={
            "dataset": name,
            "description": f"Adjustments of closed periods of {layer}.{of.dataset}: what late data changed since.",
            "partitions": partitions.model_copy(update={"by": PERIOD_COLUMN}),
            "gdp": derived if layer == "gdp" else None,
            "kpi": derived if layer == "kpi" else None,
            "serving": declared.serving,
        }
    )
