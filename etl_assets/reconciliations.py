"""Every comparison with control totals that a dataset's manifest declares: a KPI's acceptance, and checks of tables."""

from collections.abc import Iterator
from dataclasses import dataclass

from etl_resources.manifest import Dataset
from etl_resources.manifest_tables import Reconcile
from etl_resources.quality.audit import RECONCILED, Severity, check_name


@dataclass(frozen=True)
class Reconciliation:
    """One of them, with its names."""

    control: str
    """Of its control totals among those of the project."""
    check: str
    severity: Severity
    rule: Reconcile
    layer: str
    at: tuple[str | int, ...]
    """Field of the manifest."""


def reconciliations(dataset: Dataset) -> Iterator[Reconciliation]:
    """Of all layers of a dataset; the acceptance of its KPI first."""
    if dataset.kpi and dataset.kpi.accept and dataset.kpi.accept.reconcile:
        at: tuple[str | int, ...] = ("kpi", "accept", "reconcile")
        yield Reconciliation(dataset.dataset, RECONCILED, "error", dataset.kpi.accept.reconcile, "kpi", at)
    for layer in dataset.layers:
        for i, check in enumerate(dataset.table(layer).checks if layer != "bronze" else ()):
            if check.reconcile is not None:
                name, at = check_name(check), (layer, "checks", i, "reconcile")
                control = f"{layer}.{dataset.dataset}.{name}"
                yield Reconciliation(control, name, check.severity, check.reconcile, layer, at)
