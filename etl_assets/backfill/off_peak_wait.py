"""A backfill that starts its runs off-peak only: it waits in this process, which may be ended and started again."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from etl_assets.project import Project
from etl_resources.errors import PermanentError
from etl_resources.off_peak import OffPeakWindows, zone_of

LOOK_S = 30.0
"""A machine that slept, or whose clock was set, is late by at most this."""


def windows_of(project: Project) -> OffPeakWindows:
    """Those of platform.yaml. Raises PermanentError without any."""
    windows = OffPeakWindows.of(project.platform)
    if not windows:
        raise PermanentError(
            'platform.yaml has no off-peak window: add `off_peak: [{from: "20:00", to: "06:00"}]`, or drop --off-peak.'
        )
    return windows


def until_open(
    project: Project,
    progress: Callable[[str], None],
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return inside a window; tell once how long it takes."""
    windows, told = windows_of(project), False
    while not windows.is_open(moment := now()):
        opens = windows.next_open(moment)
        if not told:
            shown = opens.astimezone(zone_of(project.platform.calendar.time_zone))
            progress(f"waits for off-peak: goes on at {shown:%Y-%m-%d %H:%M %Z} (interrupt it, and start it again)")
            told = True
        sleep(max(0.1, min(LOOK_S, (opens - moment).total_seconds())))
