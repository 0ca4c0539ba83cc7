"""Windows in which heavy runs may start (M11), by the wall clock of the calendar's time zone."""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from etl_resources.manifest import Platform
from etl_resources.manifest_calendar import WEEKDAYS
from etl_resources.manifest_schedules import OffPeak

DAYS_AHEAD = 8
"""A window begins at least once a week."""


class OffPeakWindows:
    """The windows of a platform."""

    def __init__(self, windows: Sequence[OffPeak], zone: tzinfo) -> None:
        self._windows, self._zone = windows, zone

    @classmethod
    def of(cls, platform: Platform) -> "OffPeakWindows":
        """Those of platform.yaml."""
        return cls(platform.off_peak, zone_of(platform.calendar.time_zone))

    def __bool__(self) -> bool:
        return bool(self._windows)

    def is_open(self, at: datetime) -> bool:
        """Whether a heavy run may start now."""
        wall = at.astimezone(self._zone).replace(tzinfo=None)
        return any(_is_in(window, wall) for window in self._windows)

    def next_open(self, at: datetime) -> datetime:
        """The moment from which it may: `at` itself inside a window. Raises ValueError without windows."""
        if self.is_open(at):
            return at
        today = at.astimezone(self._zone).date()
        begins = (
            datetime.combine(day, _time(window.from_), self._zone)
            for window in self._windows
            for ahead in range(DAYS_AHEAD)
            if _begins_on(window, (day := today + timedelta(days=ahead)).weekday())
        )
        later = [b for b in begins if b.astimezone(UTC) > at]
        if not later:
            raise ValueError("platform.yaml has no off_peak windows")
        return min(later, key=lambda b: b.astimezone(UTC))


def zone_of(name: str) -> tzinfo:
    """A time zone; UTC needs no data of the machine."""
    return UTC if name == "UTC" else ZoneInfo(name)


def _is_in(window: OffPeak, wall: datetime) -> bool:
    begins, ends, now = _time(window.from_), _time(window.to), wall.time()
    today, yesterday = _begins_on(window, wall.weekday()), _begins_on(window, (wall.weekday() - 1) % 7)
    if begins < ends:
        return today and begins <= now < ends
    return (today and now >= begins) or (yesterday and now < ends)


def _begins_on(window: OffPeak, weekday: int) -> bool:
    return window.days is None or WEEKDAYS[weekday] in window.days


def _time(text: str) -> time:
    return time.fromisoformat(text)
