"""Schedules of platform.yaml through Dagster's own evaluation: each occurrence once, whatever was missed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from dagster._utils.schedules import cron_string_iterator

from etl_assets.automation.schedules import OCCURRENCE_TAG, SCHEDULE_TAG
from etl_assets.definitions import build_definitions
from etl_assets.event_log_purge import purge_events
from etl_assets.project import load_project
from tests.integration.grains_project import write_grains
from tests.projects import SALES
from tests.unit.project_edits import PLATFORM, edit

BERLIN = "Europe/Berlin"
ZONE = ZoneInfo(BERLIN)
SCHEDULES = """schedules:
  - {name: closing, when: {business_day: 3, at: 06:00}, selection: [+kpi.kpi_net_revenue], enabled: true}
  - {name: nightly, when: {every: day, at: 02:30}, periods: 3}
  - {name: by_cron, when: {cron: "30 2 * * *"}, selection: [kpi]}
  - {name: weekly, when: {every: week, day: mon, at: 09:00}, off_peak: true}
off_peak:
  - {days: [mon, tue, wed, thu, fri], from: 20:00, to: 06:00}
"""


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    import shutil

    root = tmp_path_factory.mktemp("scheduled") / "project"
    shutil.copytree(SALES, root)
    edit(root / PLATFORM, "time_zone: UTC", f"time_zone: {BERLIN}\n  holidays: {{country: DE, subdivision: BY}}")
    edit(root / PLATFORM, "tenants:", f"{SCHEDULES}tenants:")
    return build_definitions(load_project(root))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


class Daemon:
    """Evaluates ticks and keeps the runs that they ask for, as the daemon does."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance, name: str) -> None:
        self.schedule = definitions.get_repository_def().get_schedule_def(name)
        self.instance = instance

    def tick(self, at: datetime) -> Any:
        context = dg.build_schedule_context(self.instance, scheduled_execution_time=at)
        found = self.schedule.evaluate_tick(context)
        for request in found.run_requests or ():
            create_run_for_test(self.instance, "all_layers", tags=request.tags)
        return found

    def ticks(self, first: datetime, last: datetime) -> Iterator[datetime]:
        """As Dagster's scheduler finds them, in the time zone of the schedule."""
        crons = self.schedule.cron_schedule
        for at in cron_string_iterator(first.timestamp(), str(crons), self.schedule.execution_timezone):
            if at > last:
                return
            yield at

    def asked(self, first: datetime, last: datetime) -> list[str]:
        """Occurrences that all ticks of a stretch of time asked for."""
        return [r.tags[OCCURRENCE_TAG] for at in self.ticks(first, last) for r in self.tick(at).run_requests or ()]


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZONE)


def test_the_third_business_day_runs_once_a_month(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    """On the third business day of Bavaria, for the newest complete month, of exactly what was selected."""
    daemon = Daemon(definitions, instance, "closing")
    assert daemon.schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert daemon.asked(local("2024-05-01 00:00"), local("2024-06-10 00:00")) == [
        "2024-05-06T06:00:00", "2024-06-05T06:00:00",
    ]  # fmt: skip
    run = instance.get_run_records()[-1].dagster_run
    assert run.tags["dagster/asset_partition_range_start"] == run.tags["dagster/asset_partition_range_end"] == "2024-04"
    skipped = daemon.tick(local("2024-07-02 06:00"))
    assert skipped.skip_message == (
        "2024-07-02 is business day 2 of 2024-07; this runs on business day 3, next on 2024-07-03"
    )


def test_its_runs_are_of_what_was_selected(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    """And of complete periods only; a month that isn't over would be published half."""
    (request,) = Daemon(definitions, instance, "nightly").tick(local("2024-05-31 02:30")).run_requests or ()
    assert request.tags["dagster/asset_partition_range_start"] == "2024-02"
    assert request.tags["dagster/asset_partition_range_end"] == "2024-04"
    (request,) = Daemon(definitions, instance, "by_cron").tick(local("2024-05-31 02:30")).run_requests or ()
    assert request.asset_selection == [dg.AssetKey(["kpi", "kpi_net_revenue"])]


@pytest.mark.parametrize("name", ["nightly", "by_cron"])
@pytest.mark.parametrize("first", ["2024-03-28", "2024-10-24"])
def test_on_the_days_of_the_change_it_fires_once(
    definitions: dg.Definitions, instance: dg.DagsterInstance, name: str, first: str
) -> None:
    """02:30 isn't there on 2024-03-31, and twice on 2024-10-27: one run on each, as on any other day."""
    daemon, begin = Daemon(definitions, instance, name), local(f"{first} 00:00")
    asked = daemon.asked(begin, begin + timedelta(days=5, hours=-1))
    assert [a[:10] for a in asked] == [(begin + timedelta(n)).date().isoformat() for n in range(5)]


def test_a_missed_tick_is_made_up_for_once(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    """The daemon was away over the third business day; Dagster then evaluates its last missed tick alone."""
    daemon = Daemon(definitions, instance, "closing")
    daemon.asked(local("2024-05-01 00:00"), local("2024-05-31 00:00"))

    (missed,) = daemon.tick(local("2024-06-10 06:00")).run_requests or ()

    assert missed.tags[OCCURRENCE_TAG] == "2024-06-05T06:00:00"
    assert missed.tags["dagster/asset_partition_range_start"] == "2024-05"
    for at in ("2024-06-10 06:00", "2024-06-11 06:00"):
        assert daemon.tick(local(at)).run_requests == [], "never twice"
    two = daemon.tick(local("2024-08-20 06:00")).run_requests or ()
    assert [r.tags["dagster/asset_partition_range_start"] for r in two] == ["2024-06", "2024-07"], "no month is lost"
    nightly = Daemon(definitions, instance, "nightly")
    nightly.tick(local("2024-05-20 02:30"))
    (merged,) = nightly.tick(local("2024-05-29 02:30")).run_requests or ()
    assert merged.tags[OCCURRENCE_TAG] == "2024-05-29T02:30:00", "nine nights of the same three months are one run"


def test_a_tick_that_dies_half_way_asks_for_the_rest(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    """Dagster evaluates it again; what it launched before is there."""
    daemon = Daemon(definitions, instance, "closing")
    daemon.asked(local("2024-05-01 00:00"), local("2024-05-31 00:00"))
    context = dg.build_schedule_context(instance, scheduled_execution_time=local("2024-07-20 06:00"))
    first, second = daemon.schedule.evaluate_tick(context).run_requests or ()
    create_run_for_test(instance, "all_layers", tags=first.tags)
    assert [r.run_key for r in daemon.schedule.evaluate_tick(context).run_requests or ()] == [second.run_key]


def test_an_old_run_that_is_executed_again_brings_nothing_back(
    definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    """It bears the tags of its first execution: what was done since isn't done again, also when one run is left."""
    daemon = Daemon(definitions, instance, "closing")
    daemon.asked(local("2024-05-01 00:00"), local("2024-06-10 00:00"))
    first = instance.get_run_records()[-1].dagster_run
    create_run_for_test(instance, "all_layers", tags=first.tags)
    assert daemon.tick(local("2024-06-11 06:00")).run_requests == []
    for record in instance.get_run_records():
        instance.report_run_failed(record.dagster_run)
    purge_events(instance, [], before=datetime.now(UTC) + timedelta(days=1))
    assert daemon.tick(local("2024-06-28 06:00")).run_requests == []


def test_the_purge_of_old_runs_forgets_no_occurrence(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    """A monthly run is older than the purge's limit when the next month begins: it must not seem never to have been."""
    daemon = Daemon(definitions, instance, "closing")
    for month in ("05", "06"):
        daemon.asked(local(f"2024-{month}-01 00:00"), local(f"2024-{month}-20 00:00"))
    for record in instance.get_run_records():
        instance.report_run_failed(record.dagster_run)
    purge_events(instance, [], before=datetime.now(UTC) + timedelta(days=1))
    (kept,) = instance.get_run_records(dg.RunsFilter(tags={SCHEDULE_TAG: "closing"}))
    assert kept.dagster_run.tags[OCCURRENCE_TAG] == "2024-06-05T06:00:00"
    assert daemon.tick(local("2024-06-28 06:00")).run_requests == []


def test_a_heavy_schedule_waits_for_the_night(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    """It is due on Monday at nine and starts when the window opens; the tick tells."""
    daemon = Daemon(definitions, instance, "weekly")
    assert daemon.schedule.cron_schedule == ["0 9 * * *", "0 20 * * *"]
    waiting = daemon.tick(local("2024-05-06 09:00"))
    assert waiting.skip_message == "due since 2024-05-06 09:00; waits for off-peak, from 2024-05-06 20:00 on"
    (request,) = daemon.tick(local("2024-05-06 20:00")).run_requests or ()
    assert request.tags[OCCURRENCE_TAG] == "2024-05-06T09:00:00"
    assert daemon.tick(local("2024-05-07 20:00")).run_requests == []


def test_each_grain_that_is_selected_has_its_runs(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    """A run has partitions of one grain; each is of the newest complete period of its own."""
    root = write_grains(tmp_path)
    one = 'schedules: [{name: closing, when: {every: day, at: "06:00"}, selection: [gdp.weeks, gdp.months]}, '
    other = '{name: weeks, when: {every: week, day: sun, at: "06:00"}, selection: [gdp.weeks]}]'
    (root / PLATFORM).write_text(f"{(root / PLATFORM).read_text()}{one}{other}\n")
    loaded = build_definitions(load_project(root))
    asked = {}
    for name in ("closing_week", "closing_month", "weeks"):
        daemon = Daemon(loaded, instance, name)
        (request,) = daemon.tick(local("2024-04-14 06:00")).run_requests or ()
        assets = [key.to_user_string() for key in request.asset_selection or ()]
        asked[name] = (daemon.schedule.job_name, assets, request.tags["dagster/asset_partition_range_start"])
    assert asked == {
        "closing_week": ("all_layers_by_week", ["gdp/weeks"], "week-2024-04-07"),
        "closing_month": ("all_layers", ["gdp/months"], "2024-03"),
        "weeks": ("all_layers_by_week", ["gdp/weeks"], "week-2024-04-07"),
    }


def test_what_was_before_it_was_turned_on_is_not_made_up_for(
    definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    """Who turns a schedule on in the middle of a month wants the next one."""
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.remote_origin import RemoteInstigatorOrigin, RemoteRepositoryOrigin
    from dagster._core.scheduler.instigation import (
        InstigatorState,
        InstigatorStatus,
        ScheduleInstigatorData,
    )

    daemon = Daemon(definitions, instance, "closing")
    origin: Any = RemoteInstigatorOrigin(RemoteRepositoryOrigin(_location_origin(), "repo"), "closing")
    started = local("2024-05-20 12:00").timestamp()
    instance.add_instigator_state(
        InstigatorState(
            origin, InstigatorType.SCHEDULE, InstigatorStatus.RUNNING, ScheduleInstigatorData("0 6 * * *", started)
        )
    )
    assert daemon.asked(local("2024-05-21 00:00"), local("2024-06-30 00:00")) == ["2024-06-05T06:00:00"]


def _location_origin() -> Any:
    from dagster._core.remote_origin import RegisteredCodeLocationOrigin

    return RegisteredCodeLocationOrigin("here")
