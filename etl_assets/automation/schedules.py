"""Jobs and schedules. Runs are level-triggered: each looks at the source again and prunes what is current.

Dagster's schedules know cron, and after an outage evaluate the last tick that was missed, alone. So a schedule ticks
every day, and what is due follows from the calendar and from the runs that it asked for before, whichever ticks were
missed: each occurrence is run once, and one that was missed is made up for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

import dagster as dg

from etl_assets.automation.running import FIRST, LAST
from etl_assets.backfill.selection import select
from etl_assets.graph.jobs import job_assets, job_name
from etl_assets.graph.keys import asset_key
from etl_assets.graph.partitions import every_period
from etl_assets.project import Project
from etl_resources.calendar import EVERY, Every, bounds
from etl_resources.manifest import Partitions
from etl_resources.manifest_schedules import Schedule
from etl_resources.off_peak import OffPeakWindows, zone_of
from etl_resources.schedule_days import LOOK_BACK_DAYS, MISSED_MAX, occurrences, why_not

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

SCHEDULE_TAG, OCCURRENCE_TAG = "data-pipeline/schedule", "data-pipeline/occurrence"
"""Tags of the runs of a schedule: its name, and when it was due, by the calendar's wall clock where no offset is told.
The run of each schedule's newest occurrence is never purged (event_log_purge): it tells what was done."""
RUNS_LOOKED_AT = 100
"""Newest runs of a schedule among which that of its newest occurrence is."""
LOOK_BACK = timedelta(days=LOOK_BACK_DAYS)


def build_jobs(project: Project) -> Mapping[Every, "UnresolvedAssetJobDefinition"]:
    """Grain → job over every layer."""
    return {
        every: dg.define_asset_job(
            job_name(every),
            selection=dg.AssetSelection.assets(*map(asset_key, names)),
            description=f"Source to serving, for the partitions of the run, by {every.replace('_', ' ')}.",
            partitions_def=every_period(project.platform.calendar, every),
        )
        for every, names in job_assets(project).items()
    }


def build_schedules(
    project: Project, jobs: Mapping[Every, "UnresolvedAssetJobDefinition"]
) -> list[dg.ScheduleDefinition]:
    """Those of platform.yaml, one for each grain that is selected; they start stopped unless they say otherwise."""
    found = []
    for schedule in project.platform.schedules:
        by_grain = _by_grain(project, selected(project, schedule.selection))
        for every, assets in by_grain.items():
            name = schedule.name if len(by_grain) == 1 else f"{schedule.name}_{every}"
            found.append(_build(Timetable(project, schedule, name, every, tuple(assets)), jobs[every]))
    return found


@dataclass(frozen=True)
class Timetable:
    """One schedule of Dagster: those of the selected assets whose partitions are of one grain, and the whole ones."""

    project: Project
    schedule: Schedule
    name: str
    every: Every
    assets: tuple[str, ...]


def _build(timetable: Timetable, job: "UnresolvedAssetJobDefinition") -> dg.ScheduleDefinition:
    project, schedule = timetable.project, timetable.schedule
    crons = _crons(project, schedule)

    @dg.schedule(
        name=timetable.name,
        cron_schedule=crons if len(crons) > 1 else crons[0],
        job=job,
        execution_timezone=project.platform.calendar.time_zone,
        default_status=dg.DefaultScheduleStatus.RUNNING if schedule.enabled else dg.DefaultScheduleStatus.STOPPED,
        description=schedule.description or _described(schedule),
    )
    def scheduled(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        yield from Evaluation(timetable, context.instance, context.scheduled_execution_time).requests()

    return scheduled


@dataclass(frozen=True)
class Evaluation:
    """One tick of one schedule. Evaluating changes nothing, so that the web UI can test it."""

    timetable: Timetable
    instance: dg.DagsterInstance
    tick: datetime

    @property
    def project(self) -> Project:
        """That of the schedule."""
        return self.timetable.project

    @property
    def schedule(self) -> Schedule:
        """As platform.yaml declares it."""
        return self.timetable.schedule

    def requests(self) -> Iterator[dg.RunRequest | dg.SkipReason]:
        """A run for each occurrence that is due and had none, or why there is none."""
        due = self._due()
        if not due:
            yield dg.SkipReason(self._why_not())
            return
        windows = OffPeakWindows.of(self.project.platform)
        if self.schedule.off_peak and not windows.is_open(self.tick):
            opens = windows.next_open(self.tick)
            yield dg.SkipReason(
                f"due since {due[0]:%Y-%m-%d %H:%M}; waits for off-peak, from {opens:%Y-%m-%d %H:%M} on"
            )
            return
        runs = {self._periods(occurrence): occurrence for occurrence in due}  # the newest of those of the same periods
        for periods, occurrence in sorted(runs.items(), key=lambda r: r[1]):
            yield from self._runs(periods, occurrence)

    @property
    def _zone(self) -> tzinfo:
        return zone_of(self.project.platform.calendar.time_zone)

    @property
    def _wall(self) -> datetime:
        """The tick by the calendar's wall clock."""
        return self.tick.astimezone(self._zone).replace(tzinfo=None)

    def _due(self) -> list[datetime]:
        after, when = self._done_until(), self.schedule.when
        if when.cron is not None:
            return self._cron_times(when.cron, after)
        wall = after.astimezone(self._zone).replace(tzinfo=None) if after else None
        return occurrences(when, self.project.business_days, wall, self._wall)

    def _cron_times(self, cron: str, after: datetime | None) -> list[datetime]:
        from dagster._utils.schedules import cron_string_iterator

        start = self.tick if after is None else max(after + timedelta(seconds=1), self.tick - LOOK_BACK)
        found: list[datetime] = []
        for moment in cron_string_iterator(start.timestamp(), cron, self.project.platform.calendar.time_zone):
            if moment > self.tick:
                break
            found = [*found[1 - MISSED_MAX :], moment.astimezone(self._zone)]
        return found

    def _done_until(self) -> datetime | None:
        """When the newest occurrence was due that had a run, or the schedule was turned on; None: neither is known."""
        run = last_run(self.instance, self.timetable.name)
        done = [self._moment(run.tags[OCCURRENCE_TAG])] if run is not None else []
        return max([*done, *self._turned_on()], default=None)

    def _turned_on(self) -> Iterator[datetime]:
        from dagster._core.definitions.run_request import InstigatorType

        for state in self.instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE):
            started = getattr(state.instigator_data, "start_timestamp", None)
            if state.instigator_name == self.timetable.name and started:
                yield datetime.fromtimestamp(started, self._zone)

    def _moment(self, text: str) -> datetime:
        found = datetime.fromisoformat(text)
        return found if found.tzinfo else found.replace(tzinfo=self._zone)

    def _why_not(self) -> str:
        if self.schedule.when.cron is not None:
            return "Done already."
        days, today = self.project.business_days, self._wall.date()
        told = why_not(self.schedule.when, days, today)
        return f"Done already: {told}" if told.endswith(str(today)) else told

    def _periods(self, occurrence: datetime) -> tuple[str, ...]:
        """Those that were complete by then."""
        keys = self.project.platform.calendar.keys(Partitions(by="period", every=self.timetable.every))
        return tuple([k for k in keys if bounds(k)[1] <= occurrence.date()][-self.schedule.periods :])

    def _runs(self, periods: Sequence[str], occurrence: datetime) -> Iterator[dg.RunRequest | dg.SkipReason]:
        if not periods:
            yield dg.SkipReason(f"No period of the calendar is complete on {occurrence.date()}.")
            return
        yield dg.RunRequest(
            run_key=f"{self.timetable.name}@{occurrence.isoformat()}",
            asset_selection=[asset_key(a) for a in self.timetable.assets],
            tags={
                SCHEDULE_TAG: self.timetable.name,
                OCCURRENCE_TAG: occurrence.isoformat(),
                FIRST: periods[0],
                LAST: periods[-1],
            },
        )


def last_run(instance: dg.DagsterInstance, schedule: str) -> dg.DagsterRun | None:
    """That of the newest occurrence that had one: an older one that is executed again bears the tags that it had."""

    def moment(run: dg.DagsterRun) -> datetime:
        found = datetime.fromisoformat(run.tags[OCCURRENCE_TAG])
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    records = instance.get_run_records(dg.RunsFilter(tags={SCHEDULE_TAG: schedule}), limit=RUNS_LOOKED_AT)
    return max((r.dagster_run for r in records), key=moment, default=None)


def selected(project: Project, terms: Sequence[str]) -> list[str]:
    """Tables and targets of a selection. Raises PermanentError for what doesn't exist."""
    return select(project.nodes, {node.name: node.dataset.dataset for node in project.nodes}, terms)


def _by_grain(project: Project, assets: Sequence[str]) -> Mapping[Every, list[str]]:
    """Whole tables take part in each grain's runs; alone, in those by month."""
    own = {node.name: node.every for node in project.nodes}
    grains = [g for g in EVERY if any(own[a] == g for a in assets)] or ["month"]
    return {grain: [a for a in assets if own[a] in (grain, None)] for grain in grains}


def _crons(project: Project, schedule: Schedule) -> list[str]:
    """Every day at its time, as only the last missed tick is evaluated; and when a window opens that it waits for."""
    when = schedule.when
    own = when.cron or _daily(when.at or "00:00")
    opens = [_daily(w.from_) for w in project.platform.off_peak] if schedule.off_peak else []
    return list(dict.fromkeys([own, *opens]))


def _daily(at: str) -> str:
    hour, minute = at.split(":")
    return f"{int(minute)} {int(hour)} * * *"


def _described(schedule: Schedule) -> str:
    periods = (
        "the newest complete period" if schedule.periods == 1 else f"the {schedule.periods} newest complete periods"
    )
    return f"Materializes {periods} of {', '.join(schedule.selection)}, after looking at the sources again."
