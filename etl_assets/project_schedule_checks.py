"""Schedules of platform.yaml: what they select exists, their cron can be read, their names are their own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from etl_assets.backfill.selection import select
from etl_assets.project_files import ProjectFiles
from etl_assets.project_resolve import TableDraft
from etl_resources.errors import ManifestError, PermanentError

MAINTENANCE = "daily_maintenance"
"""Name of the platform's own schedule."""


@dataclass(frozen=True)
class _Asset:
    name: str
    upstream: Sequence[str]


def schedule_errors(files: ProjectFiles, drafts: Mapping[str, TableDraft]) -> Iterator[ManifestError]:
    """With the line of each."""
    platform, seen = files.platform.model, {MAINTENANCE}
    assets = [_Asset(d.name, [u for u in d.upstream if u in drafts]) for d in drafts.values()]
    datasets = {d.name: d.dataset for d in drafts.values()}
    for name, file in files.datasets.items():
        for target in file.model.serving:
            assets.append(_Asset(f"{target.store}.{target.place}", (f"{file.model.layers[-1]}.{name}",)))
            datasets[assets[-1].name] = name
    for i, schedule in enumerate(platform.schedules):
        if schedule.name in seen:
            yield files.platform.error(f"a schedule is called {schedule.name!r} already", "schedules", i, "name")
        seen.add(schedule.name)
        try:
            select(assets, datasets, schedule.selection)
        except PermanentError as e:
            yield files.platform.error(f"schedule {schedule.name!r}: {e}", "schedules", i, "selection")
        if schedule.when.cron is not None and not _is_cron(schedule.when.cron):
            message = f"schedule {schedule.name!r}: {schedule.when.cron!r} is no cron expression, e.g. '0 6 * * 1-5'"
            yield files.platform.error(message, "schedules", i, "when")
        if schedule.off_peak and not platform.off_peak:
            message = f"schedule {schedule.name!r} waits for off-peak, and there is no window: add `off_peak`"
            yield files.platform.error(message, "schedules", i, "off_peak")


def _is_cron(text: str) -> bool:
    from dagster._utils.schedules import is_valid_cron_string

    return is_valid_cron_string(text)
