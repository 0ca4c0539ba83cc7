"""What a run told Dagster, in a form that fits into a file."""

import json
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from etl_resources.calendar import WHOLE


@dataclass
class Run:
    """What one run told Dagster."""

    success: bool
    run_id: str
    statuses: dict[str, dict[str, str]]
    """Asset → partition → status of its last materialization."""
    errors: list[str]
    """Messages of the failed steps, outermost first."""
    retried: list[str] = field(default_factory=list)
    """Steps that Dagster started again, each as often as it did."""
    events: list[dg.DagsterEvent] = field(default_factory=list, repr=False)

    @property
    def error(self) -> str:
        return "\n".join(self.errors)

    def published(self, asset: str) -> set[str]:
        """Partitions of which this run published new content."""
        return {p for p, status in self.statuses.get(asset, {}).items() if status == "published"}

    def partitions(self, asset: str, *statuses: str) -> set[str]:
        return {p for p, status in self.statuses.get(asset, {}).items() if status in statuses}

    def materializations(self, asset: str) -> dict[str, dg.AssetMaterialization]:
        """Partition → its last materialization, the one that counts."""
        found = [e.step_materialization_data.materialization for e in self.events if e.is_step_materialization]
        return {m.partition or WHOLE: m for m in found if m.asset_key.to_user_string() == asset}

    def to_json(self) -> str:
        return json.dumps([self.success, self.run_id, self.statuses, self.errors, self.retried])


def told_by(result: Any) -> Run:
    """The run of an execution's result."""
    events: list[dg.DagsterEvent] = list(result.all_events)
    statuses: dict[str, dict[str, str]] = {}
    errors: list[str] = []
    for event in events:
        if event.is_step_materialization:
            m = event.step_materialization_data.materialization
            if "status" in m.metadata:
                status, partition = str(m.metadata["status"].value), m.partition or WHOLE
                statuses.setdefault(m.asset_key.to_user_string(), {})[partition] = status
        elif event.is_step_failure:
            errors += _messages(event.step_failure_data)
    retried = [e.step_key or "" for e in events if e.event_type == dg.DagsterEventType.STEP_UP_FOR_RETRY]
    return Run(result.success, result.run_id, statuses, errors, retried, events)


def _messages(data: Any) -> list[str]:
    found, error = [], data.error
    if data.user_failure_data and data.user_failure_data.description:
        found.append(data.user_failure_data.description)
    while error is not None:
        found.append(f"{error.cls_name}: {error.message.strip()}")
        error = error.cause
    return found
