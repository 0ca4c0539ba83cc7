"""A size is raised when, and only when, a freshness is missed, a manifest allows it, and it helps (M15b)."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from project_edits import GDP, edit, project

from etl_assets.freshness import Lag
from etl_assets.project import load_project
from etl_assets.raised_sizes import Due, due, largest, raise_size
from etl_resources.sizes import MANIFESTS, SizeChoice

__all__ = ["project"]  # a fixture is used by its name
HOUR = 3600.0
NEEDED = Due("gdp.gdp_sales", 1800.0, 2.0)


def taking(**seconds: float) -> Callable[[SizeChoice], float]:
    """Seconds by size; `manifests`: without a choice."""
    return lambda choice: seconds[choice.raised_to or "manifests"]


@pytest.mark.parametrize(
    ("seconds", "raised_to", "told"),
    [
        ({"manifests": 1800}, None, ""),
        ({"manifests": 1801, "large": 900, "huge": 100}, "large", "fresh within 2 h, has 30.0 minutes left"),
        ({"manifests": 9000, "large": 1900, "huge": 1700}, "huge", "raised up to size huge: 150.0 minutes"),
        ({"manifests": 9000, "large": 4000, "huge": 4000}, "huge", "misses the freshness as well"),
        ({"manifests": 9000, "large": 3000, "huge": 4000}, "large", "misses the freshness as well"),
        ({"manifests": 9000, "large": 9001, "huge": 9001}, None, "no larger size that is allowed was faster"),
    ],
)
def test_the_smallest_size_that_keeps_the_promise(seconds: dict[str, float], raised_to: str | None, told: str) -> None:
    """Larger ones cost more; where none keeps it, the fastest, and where nothing is known to be slower, the largest."""
    raised = raise_size([s for s in ("large", "huge") if s in seconds], NEEDED, taking(**seconds))
    assert raised.choice == (SizeChoice(raised_to=raised_to) if raised_to else MANIFESTS)
    assert told in raised.why
    assert bool(raised.why) == bool(told)


def test_nothing_is_raised_that_nobody_allowed_or_that_promises_nothing() -> None:
    """A larger size costs money: a manifest must say so."""
    slow = taking(manifests=9000.0, large=1.0)
    assert raise_size([], NEEDED, slow).choice == MANIFESTS
    assert raise_size(["large"], None, slow).choice == MANIFESTS


def test_seconds_are_told_as_seconds_and_what_is_late_as_late() -> None:
    """0.0 minutes say nothing."""
    why = raise_size(["large"], Due("gdp.gdp_sales", -5.0, 2.0), taking(manifests=4.0, large=9.0)).why
    assert "4 seconds at the sizes of the manifests, and gdp.gdp_sales, fresh within 2 h, is late already" in why


def test_only_sizes_that_a_manifest_names_are_allowed(project: Path) -> None:
    """`up_to` of a dataset that isn't in the run allows nothing."""
    edit(project / GDP, "gdp:\n", "runner: {up_to: large}\ngdp:\n")
    loaded = load_project(project)
    assert largest(loaded, ["gdp.gdp_sales", "silver.sales_lines"]) == ["large"]
    assert largest(loaded, ["silver.sales_lines"]) == []


def test_what_is_made_from_a_run_is_late_with_it(project: Path) -> None:
    """The objective of a KPI is missed by the silver table that it waits for; what was never published has all its
    time, as no history of it says when it should have been there."""
    loaded, now = load_project(project), datetime(2024, 5, 1, tzinfo=UTC)
    lags = [
        Lag("silver.sales_lines", now, 9 * HOUR, None, ""),
        Lag("gdp.gdp_sales", now, 1 * HOUR, 6 * HOUR, ""),
        Lag("kpi.kpi_net_revenue", now, 3 * HOUR, 4 * HOUR, ""),
    ]
    assert due(loaded, lags, ["silver.sales_lines"]) == Due("kpi.kpi_net_revenue", HOUR, 4)
    assert due(loaded, lags, ["bronze.sales_lines"]) == Due("kpi.kpi_net_revenue", HOUR, 4)
    assert due(loaded, lags[:1], ["silver.sales_lines"]) is None
    never = [Lag("gdp.gdp_sales", None, float("inf"), 6 * HOUR, "")]
    assert due(loaded, never, ["gdp.gdp_sales"]) == Due("gdp.gdp_sales", 6 * HOUR, 6)
