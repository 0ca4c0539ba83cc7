"""How far assets are behind: from when on each may lack something, against what its manifest promises (M15b)."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from project_edits import KPI, edit, project

from etl_assets import freshness
from etl_assets.freshness import Lag, read_lags
from etl_assets.project import load_project
from etl_resources.ledger.freshness import Sight

__all__ = ["project"]  # a fixture is used by its name
NOW = datetime(2024, 6, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SEEN = Sight("2024-05", NOW - 3 * HOUR, NOW - HOUR, has_watermark=True)
ALL = {
    name: SEEN
    for layer, datasets in {"bronze": ("sales_orders", "sales_lines"), "silver": ("sales_orders", "sales_lines"),
                            "gdp": ("gdp_sales",), "kpi": ("kpi_net_revenue",)}.items()
    for name in (f"{layer}.{d}" for d in datasets)
} | {"postgres.analytics.kpi_net_revenue": SEEN}  # fmt: skip
KPI_TABLE, SERVED = "kpi.kpi_net_revenue", "postgres.analytics.kpi_net_revenue"


def lags(root: Path, monkeypatch: pytest.MonkeyPatch, known: Mapping[str, Sight]) -> Mapping[str, Lag]:
    """With what the ledger knows."""
    edit(root / KPI, "description:", "freshness: {within_hours: 24}\ndescription:")
    monkeypatch.setattr(freshness, "sights", lambda _: known)
    connection: Any = None
    return {lag.asset: lag for lag in read_lags(load_project(root), connection, NOW)}


def test_at_rest_everything_is_as_old_as_the_last_look(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A KPI that nobody had to compute for weeks is fresh when its sources were looked at an hour ago."""
    found = lags(project, monkeypatch, ALL)
    assert {lag.lag_s for lag in found.values()} == {3600.0}
    assert not any(lag.is_late for lag in found.values())
    assert {name for name, lag in found.items() if lag.objective_s == 24 * 3600} == {KPI_TABLE, SERVED}


def test_what_waits_upstream_makes_all_that_follows_old(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that silver couldn't take in is missing in the KPI, whose own runs are all fine."""
    stuck = Sight("2024-05", NOW, None, wanting_since=NOW - 30 * HOUR)
    found = lags(project, monkeypatch, {**ALL, "silver.sales_lines": stuck})
    assert found["silver.sales_orders"].lag_s == 3600
    assert found[KPI_TABLE].lag_s == found[SERVED].lag_s == 30 * 3600
    assert {name for name, lag in found.items() if lag.is_late} == {KPI_TABLE, SERVED}
    assert "kpi.kpi_net_revenue is 30.0 h behind; its freshness is 24 h: silver.sales_lines has changes" in str(
        found[KPI_TABLE]
    )


def test_a_complete_period_that_is_missing_counts_from_its_end(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """May ended ten days ago and is in nobody's KPI: an old month that was published today doesn't help."""
    april = Sight("2024-04", NOW, None)
    found = lags(project, monkeypatch, {**ALL, KPI_TABLE: april})
    assert found[KPI_TABLE].complete_until == datetime(2024, 6, 1, tzinfo=UTC)
    assert found["gdp.gdp_sales"].lag_s == 3600
    assert "2024-05 isn't published" in found[KPI_TABLE].why


def test_what_was_never_published_is_infinitely_old(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure would be true."""
    found = lags(project, monkeypatch, {n: s for n, s in ALL.items() if n != KPI_TABLE})
    assert found[KPI_TABLE].lag_s == found[SERVED].lag_s == float("inf")
    assert found[SERVED].is_late
    assert "kpi.kpi_net_revenue was never published" in found[SERVED].why


@pytest.mark.parametrize(
    ("look", "hours"),
    [({"looked_at": None}, 3), ({"has_watermark": False}, 3), ({"looked_at": NOW - 50 * HOUR}, 3)],
)
def test_a_look_that_sees_no_change_is_none(
    project: Path, monkeypatch: pytest.MonkeyPatch, look: dict[str, Any], hours: int
) -> None:
    """Without a watermark only a run compares, and a daemon that was away looked at nothing."""
    blind = Sight(**{**vars(SEEN), **look})
    found = lags(project, monkeypatch, {**ALL, "bronze.sales_lines": blind, "bronze.sales_orders": blind})
    assert found[SERVED].lag_s == hours * 3600


def test_without_the_sensor_an_asset_is_as_old_as_its_runs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks for what changed: only the asset's own run has seen its inputs."""
    edit(project / "platform.yaml", "tenants:", "keep_fresh: {enabled: false}\ntenants:")
    found = lags(project, monkeypatch, {**ALL, KPI_TABLE: Sight("2024-05", NOW - 40 * HOUR)})
    assert found["gdp.gdp_sales"].lag_s == 3 * 3600
    assert found[SERVED].lag_s == 40 * 3600
