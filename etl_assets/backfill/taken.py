"""What runs took, as Dagster's events and the ledger's attempts tell: how later ones are estimated."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etl_assets.graph.keys import capture_step
from etl_assets.project import Project
from etl_resources.ledger.history import PastBackfill
from etl_resources.manifest_sources import PostgresSource
from etl_resources.run_times import PastRun, PastStep

if TYPE_CHECKING:
    import dagster as dg

RUNS_KEPT = 40
"""Of one backfill: what its next run takes is told as well by so many as by a thousand."""


def step_name(project: Project, asset: str) -> str:
    """Of the step that makes a table or target."""
    node = project.tables.get(asset)
    source = node.dataset.source if node is not None and node.layer == "bronze" else None
    if node is not None and isinstance(source, PostgresSource):
        return capture_step(source.system, node.every)
    return asset.replace(".", "__")


def took(
    instance: "dg.DagsterInstance", project: Project, run_id: str, attempts: Iterable[tuple[str, float, float]]
) -> PastRun | None:
    """One run that came to its end; None for others. attempts: (asset, begin, end) in it, by their begin."""
    import dagster as dg

    kinds = dg.DagsterEventType
    record = instance.get_run_record_by_id(run_id)
    if record is None or not (record.start_time and record.end_time):
        return None
    at: dict[tuple[Any, str | None], float] = {}
    wanted = {kinds.RUN_STARTING, kinds.STEP_START, kinds.STEP_SUCCESS, kinds.STEP_FAILURE}
    for entry in instance.all_logs(run_id, of_type=wanted):
        if entry.dagster_event:
            at[entry.dagster_event.event_type, entry.dagster_event.step_key] = entry.timestamp
    spans: dict[str, list[tuple[float, float]]] = {}
    for asset, begin, end in attempts:
        spans.setdefault(step_name(project, asset), []).append((begin, end))
    steps: list[PastStep] = []
    for (kind, key), began in at.items():
        ended = at.get((kinds.STEP_SUCCESS, key), at.get((kinds.STEP_FAILURE, key)))
        if kind is kinds.STEP_START and key is not None and ended is not None:
            steps.append(PastStep(key, round(ended - began, 3), round(_covered(spans.get(key, ())), 3)))
    launched = at.get((kinds.RUN_STARTING, None))
    return PastRun(
        round(launched - record.create_timestamp.timestamp(), 3) if launched else 0.0,
        round(record.start_time - launched, 3) if launched else 0.0,
        round(record.end_time - record.start_time, 3),
        steps,
        launched is not None,
    )


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds in any of these, which are in the order of their begin."""
    found, until = 0.0, float("-inf")
    for begin, end in spans:
        found += max(0.0, end - max(begin, until))
        until = max(until, end)
    return found


def as_json(runs: Iterable[PastRun]) -> list[dict[str, Any]]:
    """For the ledger."""
    return [{**vars(r), "steps": [list(s) for s in r.steps]} for r in list(runs)[:RUNS_KEPT]]


def past_runs(backfills: Iterable[PastBackfill]) -> list[PastRun]:
    """Of all these backfills."""
    told = (run for backfill in backfills for run in backfill.actual.get("took", ()))
    return [PastRun(**{**run, "steps": [PastStep(*s) for s in run["steps"]]}) for run in told]


def shares_changed(backfills: Iterable[PastBackfill]) -> Mapping[str, tuple[float, float]]:
    """Asset → of partitions that might change, the share that was attempted, and the share that did change.

    One more is counted as changed, so that what was never seen is taken in full.
    """
    counts: dict[str, list[int]] = {}
    for backfill in backfills:
        for asset, found in backfill.actual.get("may_change", {}).items():
            counts[asset] = [a + b for a, b in zip(counts.get(asset, (0, 0, 0)), found, strict=True)]
    return {a: ((tried + 1) / (n + 1), (changed + 1) / (n + 1)) for a, (n, tried, changed) in counts.items()}
