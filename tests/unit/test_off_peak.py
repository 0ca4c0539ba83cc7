"""Heavy work waits for the night, and says so: backfills in their process, the reconcile sensor from tick to tick."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from project_edits import PLATFORM, edit, errors_of, project

from etl_assets.automation import heavy_runs
from etl_assets.automation.heavy_runs import Put, put_off
from etl_assets.backfill.off_peak_wait import until_open
from etl_assets.project import load_project
from etl_assets.run_sizes import RunSizes
from etl_resources.closure import Closure, ClosureNode
from etl_resources.errors import PermanentError
from etl_resources.ledger.history import History, PastAttempt
from etl_resources.ledger.state import Known, LedgerState
from etl_resources.reconcile import Request

__all__ = ["project"]  # a fixture is used by its name
TENANTS = "tenants: [acme]"
OFF_PEAK = f'off_peak: [{{from: "20:00", to: "06:00"}}]\n{TENANTS}'
NOON, NIGHT = datetime(2024, 5, 6, 12, tzinfo=UTC), datetime(2024, 5, 6, 21, tzinfo=UTC)
MONTHS = tuple(f"2024-{m:02d}" for m in range(1, 5))
ORDERS = "silver.sales_orders"


def test_a_backfill_waits_until_the_window_opens_and_tells_it_once(project: Path) -> None:
    """In short naps: the clock may be set, and the machine may sleep."""
    edit(project / PLATFORM, TENANTS, OFF_PEAK)
    now, told, naps = [NOON], list[str](), list[float]()

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        now[0] += timedelta(seconds=seconds)

    until_open(load_project(project), told.append, lambda: now[0], sleep)

    assert now[0] == datetime(2024, 5, 6, 20, tzinfo=UTC)
    assert max(naps) <= 30
    assert told == ["waits for off-peak: goes on at 2024-05-06 20:00 UTC (interrupt it, and start it again)"]
    until_open(load_project(project), told.append, lambda: NIGHT, sleep)
    assert len(told) == 1, "at night it starts at once"


def test_without_windows_it_refuses(project: Path) -> None:
    """Rather than never run, or by day."""
    with pytest.raises(PermanentError, match="has no off-peak window"):
        until_open(load_project(project), print, lambda: NOON)


def requests_at(root: Path, monkeypatch: pytest.MonkeyPatch, now: datetime, rule: str) -> tuple[Put, Sequence[Request]]:
    """One month and four of an asset of which a month takes five minutes."""
    edit(root / PLATFORM, TENANTS, f"keep_fresh: {rule}\n{OFF_PEAK}")
    attempts = {ORDERS: [PastAttempt(300.0 * n, 1000 * n, n) for n in (1, 2, 3, 4)]}
    monkeypatch.setattr(heavy_runs, "read_history", lambda *_: History(attempts))
    known = {m: Known(1, "t", "v", 1000, 1, 1000, (), None, "run", NOON) for m in MONTHS}
    published: Mapping[str, Mapping[str, Known]] = {ORDERS: known}
    closure = Closure([ClosureNode(ORDERS, "acme", "logic", MONTHS)], LedgerState(published))
    asked = [Request((ORDERS,), "2024-02", "2024-02", ()), Request((ORDERS,), "2024-01", "2024-04", ())]
    connection: Any = None
    return put_off(RunSizes(load_project(root)), connection, closure, asked, now), asked


def test_only_heavy_runs_wait(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A late order is a small run and is made at once; four months at five minutes each are not."""
    put, (small, heavy) = requests_at(project, monkeypatch, NOON, "{heavy_runs: off_peak, heavy_minutes: 10}")
    assert list(put.now) == [small]
    assert [r for r, _ in put.waiting] == [heavy]
    assert put.told() == (
        "waiting for off-peak, from 2024-05-06 20:00 on: silver.sales_orders 2024-01 … 2024-04, assets 1, some 20 min"
    )


@pytest.mark.parametrize(
    ("now", "rule"),
    [
        (NIGHT, "{heavy_runs: off_peak, heavy_minutes: 10}"),
        (NOON, "{heavy_runs: off_peak, heavy_minutes: 30}"),
        (NOON, "{heavy_minutes: 1}"),
    ],
)
def test_at_night_or_where_nobody_asked_nothing_waits(
    project: Path, monkeypatch: pytest.MonkeyPatch, now: datetime, rule: str
) -> None:
    """By default late data is never put off."""
    put, asked = requests_at(project, monkeypatch, now, rule)
    assert list(put.now) == list(asked)
    assert put.told() == ""


def test_waiting_without_a_window_is_a_mistake(project: Path) -> None:
    """It would wait for ever."""
    edit(project / PLATFORM, TENANTS, f"keep_fresh: {{heavy_runs: off_peak}}\n{TENANTS}")
    (error,) = errors_of(project)
    assert "keep_fresh waits for off-peak, and there is no window: add `off_peak`" in error
