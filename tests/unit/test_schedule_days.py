"""On which days schedules run, and when off-peak is, by the calendar alone."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from project_edits import PLATFORM, edit, project, prove_told
from pydantic import ValidationError

from etl_assets.project import load_project
from etl_resources.business_days import BusinessDays
from etl_resources.manifest import Calendar
from etl_resources.manifest_calendar import Holidays
from etl_resources.manifest_schedules import OffPeak, When
from etl_resources.off_peak import OffPeakWindows
from etl_resources.schedule_days import MISSED_MAX, occurrences, occurs_on, why_not

__all__ = ["project"]  # a fixture is used by its name
BAVARIA = BusinessDays(
    Calendar(start="2023-08", end="2026-07", holidays=Holidays(country="DE", subdivision="BY"))
)  # fmt: skip
BERLIN = ZoneInfo("Europe/Berlin")
TENANTS = "tenants: [acme]"


def days_of(year: int, when: When) -> list[str]:
    every = (date(year, 1, 1) + timedelta(n) for n in range(366))
    return [d.isoformat()[5:] for d in every if d.year == year and occurs_on(when, BAVARIA, d)]


@pytest.mark.parametrize(
    ("when", "first", "count"),
    [
        ({"business_day": 3}, ["01-04", "02-05", "03-05", "04-04", "05-06"], 12),
        ({"business_day": -1}, ["01-31", "02-29", "03-28", "04-30", "05-31"], 12),
        ({"business_day": 22}, ["01-31", "07-30", "08-30", "10-31"], 4),
        ({"every": "day"}, ["01-01", "01-02"], 366),
        ({"every": "business_day"}, ["01-02", "01-03", "01-04", "01-05", "01-08"], 251),
        ({"every": "week", "day": "mon"}, ["01-01", "01-08"], 53),
        ({"every": "month", "day": 2}, ["01-02", "02-02"], 12),
        ({"every": "month", "day": 31}, ["01-31", "02-29", "03-31", "04-30"], 12),
        ({"every": "month", "day": -31}, ["01-01", "02-01", "03-01", "04-01"], 12),
        ({"every": "quarter", "day": 1}, ["01-01", "04-01", "07-01", "10-01"], 4),
        ({"every": "quarter", "day": -1}, ["03-31", "06-30", "09-30", "12-31"], 4),
        ({"every": "quarter", "day": 92}, ["03-31", "06-30", "09-30", "12-31"], 4),
    ],
)
def test_each_rhythm_has_its_days(when: dict[str, Any], first: list[str], count: int) -> None:
    """As a wall calendar of Bavaria in 2024 has them; a month without a 22nd business day has no run."""
    found = days_of(2024, When(**when, at="06:00"))
    assert found[: len(first)] == first
    assert len(found) == count


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"at": "06:00"},
        {"business_day": 3},
        {"business_day": 0, "at": "06:00"},
        {"business_day": 24, "at": "06:00"},
        {"business_day": 3, "day": 1, "at": "06:00"},
        {"business_day": 3, "every": "day", "at": "06:00"},
        {"every": "week", "at": "06:00"},
        {"every": "week", "day": 1, "at": "06:00"},
        {"every": "month", "at": "06:00"},
        {"every": "month", "day": 0, "at": "06:00"},
        {"every": "month", "day": 32, "at": "06:00"},
        {"every": "month", "day": "mon", "at": "06:00"},
        {"every": "day", "day": 1, "at": "06:00"},
        {"every": "day", "at": "6:00"},
        {"every": "day", "at": "24:00"},
        {"cron": "0 6 * * *", "at": "06:00"},
    ],
)
def test_what_can_mean_nothing_is_refused(wrong: dict[str, Any]) -> None:
    """Rather than never run."""
    with pytest.raises(ValidationError):
        When(**wrong)


def test_what_was_missed_is_due_until_it_is_done() -> None:
    """The daemon was away from the 5th to the 9th: the third business day, the 6th, is made up for, once."""
    when = When(business_day=3, at="06:00")
    april, may, june = map(datetime.fromisoformat, ("2024-04-04T06:00", "2024-05-06T06:00", "2024-06-05T06:00"))

    def due(after: datetime | None, until: str) -> list[datetime]:
        return occurrences(when, BAVARIA, after, datetime.fromisoformat(until))

    assert due(april, "2024-05-03T06:00") == []
    assert due(april, "2024-05-10T06:00") == [may]
    assert due(may, "2024-05-10T06:00") == []
    assert due(april, "2024-06-10T06:00") == [may, june]
    assert due(april, "2024-05-06T05:59") == [], "not before its time"
    assert due(None, "2024-05-10T06:00") == [], "nothing is known of before"
    daily = When(every="day", at="06:00")
    assert len(occurrences(daily, BAVARIA, april, june)) == MISSED_MAX


def test_why_it_doesn_t_run_today_is_told() -> None:
    """In the words of the calendar."""
    when = When(business_day=3, at="06:00")
    assert why_not(when, BAVARIA, date(2024, 5, 3)) == (
        "2024-05-03 is business day 2 of 2024-05; this runs on business day 3, next on 2024-05-06"
    )
    assert why_not(when, BAVARIA, date(2024, 5, 1)).startswith("2024-05-01 is no business day (Labor Day); this runs")
    assert why_not(when, BAVARIA, date(2024, 5, 4)).startswith("2024-05-04 is no business day (Saturday); this runs")
    assert "the last business day" in why_not(When(business_day=-1, at="06:00"), BAVARIA, date(2024, 5, 3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{name: a, when: {cron: nonsense}}]", "'nonsense' is no cron expression"),
        ("[{name: a, when: {every: day, at: 06:00}, selection: [kpi.revenue]}]", "Nothing is named 'kpi.revenue'"),
        ("[{name: daily_maintenance, when: {every: day, at: 06:00}}]", "called 'daily_maintenance' already"),
        ("[{name: a, when: {every: day, at: 06:00}, off_peak: true}]", "there is no window: add `off_peak`"),
        ("[{name: a, when: {every: day}}]", "needs a time of day"),
    ],
)
def test_a_wrong_schedule_is_told_with_its_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    """When the project is loaded, not at six in the morning."""
    monkeypatch.chdir(project)
    prove_told(project, PLATFORM, TENANTS, f"schedules: {text}\n{TENANTS}", "schedules:", message)


def test_two_schedules_have_two_names(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster would show one of them."""
    monkeypatch.chdir(project)
    one = "\n  - {name: nightly, when: {every: day, at: 06:00}, selection: [+kpi, serving]}"
    edit(project / PLATFORM, TENANTS, f"schedules:{one}\n{TENANTS}")
    assert [s.name for s in load_project(project).platform.schedules] == ["nightly"]
    second = one.replace("06:00", "07:00")
    prove_told(project, PLATFORM, one, one + second, second[1:], "called 'nightly' already")


NIGHTS = OffPeakWindows(
    [
        OffPeak(days=("mon", "tue", "wed", "thu", "fri"), from_="20:00", to="06:00"),
        OffPeak(days=("sat",), from_="00:00", to="00:00"),
    ],
    BERLIN,
)


@pytest.mark.parametrize(
    ("at", "opens"),
    [
        ("2024-05-06 19:59", "2024-05-06 20:00"),
        ("2024-05-06 20:00", "2024-05-06 20:00"),
        ("2024-05-07 05:59", "2024-05-07 05:59"),
        ("2024-05-07 06:00", "2024-05-07 20:00"),
        ("2024-05-11 03:00", "2024-05-11 03:00"),  # Friday's night
        ("2024-05-11 12:00", "2024-05-11 12:00"),  # Saturday
        ("2024-05-12 00:00", "2024-05-13 20:00"),  # Sunday has none
        ("2024-05-13 03:00", "2024-05-13 20:00"),
    ],
)
def test_off_peak_lasts_over_midnight_and_only_on_its_days(at: str, opens: str) -> None:
    """A window belongs to the day on which it begins."""
    moment = datetime.fromisoformat(at).replace(tzinfo=BERLIN)
    assert NIGHTS.next_open(moment) == datetime.fromisoformat(opens).replace(tzinfo=BERLIN)
    assert NIGHTS.is_open(moment) == (at == opens)


def test_off_peak_follows_the_wall_clock_when_it_is_changed() -> None:
    """20:00 in Berlin is another hour of UTC in summer, and the night of the change is an hour shorter."""
    assert NIGHTS.next_open(datetime(2024, 3, 29, 12, tzinfo=UTC)) == datetime(2024, 3, 29, 19, tzinfo=UTC)
    assert NIGHTS.next_open(datetime(2024, 4, 1, 12, tzinfo=UTC)) == datetime(2024, 4, 1, 18, tzinfo=UTC)
    change = OffPeakWindows([OffPeak(from_="01:00", to="04:00")], BERLIN)
    open_hours = sum(change.is_open(datetime(2024, 3, 31, tzinfo=UTC) + timedelta(minutes=n)) for n in range(600))
    assert open_hours == 120, "at 02:00 the clock jumped to 03:00"
    with pytest.raises(ValueError, match="no off_peak windows"):
        OffPeakWindows([], UTC).next_open(datetime(2024, 4, 1, 12, tzinfo=UTC))
