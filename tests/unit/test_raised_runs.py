"""Runs of the reconcile sensor take the size that keeps a freshness, by their tags; a plan has the size in its hash."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from project_edits import GDP, edit, project

from etl_assets.automation import raised_runs as raised
from etl_assets.backfill.plan import BackfillPlan
from etl_assets.freshness import Lag
from etl_assets.project import load_project
from etl_assets.run_sizes import RunSizes
from etl_resources.closure import Closure, ClosureNode
from etl_resources.ledger.history import History, PastAttempt
from etl_resources.ledger.state import Known, LedgerState
from etl_resources.reconcile import Request
from etl_resources.sizes import MANIFESTS, RAISED_TAG, SizeChoice

__all__ = ["project"]  # a fixture is used by its name
NOW = datetime(2024, 5, 6, 12, tzinfo=UTC)
SALES, MONTHS = "gdp.gdp_sales", ("2024-01", "2024-02", "2024-03")


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A month takes 20 minutes at medium, 5 at large; half an hour of four is left."""
    attempts = [PastAttempt(1200.0 * n, 1000 * n, n, "medium", "duckdb") for n in (1, 2, 3)]
    attempts += [PastAttempt(300.0 * n, 1000 * n, n, "large", "spark") for n in (1, 2, 3)]
    monkeypatch.setattr(raised, "read_history", lambda *_: History({SALES: attempts}))
    monkeypatch.setattr(raised, "read_lags", lambda *_: [Lag(SALES, NOW, 3.5 * 3600, 4 * 3600, "")])


def of_sensor(root: Path, choice: SizeChoice = MANIFESTS) -> dict[str, dict[str, str]]:
    """Months of a request → tags of its run."""
    known = {m: Known(1, "t", "v", 1000, 1, 1000, (), None, "run", NOW) for m in MONTHS}
    closure = Closure([ClosureNode(SALES, "acme", "logic", MONTHS)], LedgerState({SALES: known}))
    asked = [Request((SALES,), MONTHS[0], last, ()) for last in (MONTHS[0], MONTHS[2])]
    connection: Any = None
    found = raised.raised_runs(RunSizes(load_project(root), choice), connection, closure, asked, NOW)
    return {r.last: dict(found[r.key].choice.tags) for r in asked if r.key in found}


@pytest.mark.usefixtures("ledger")
def test_the_run_that_would_be_late_is_raised_and_no_other(project: Path) -> None:
    """Three months at 20 minutes are late, at 5 they aren't; one month is in time as it is."""
    assert of_sensor(project) == {}, "no manifest allows it"
    edit(project / GDP, "gdp:\n", "runner: {up_to: large}\ngdp:\n")
    assert of_sensor(project) == {MONTHS[2]: {RAISED_TAG: "large"}}
    assert of_sensor(project, SizeChoice("medium")) == {}, "ETL_SIZE says what every run is"


def test_a_plan_is_found_by_its_hash_at_the_size_that_it_was_looked_at(project: Path) -> None:
    """`backfill --plan HASH` runs that size, and a hash of another state is none."""
    sizes, nothing = RunSizes(load_project(project)), SimpleNamespace(digest="0123456789abcdef")
    of_plan: list[Any] = [("all",), "2024-01", "2024-03", (), None, nothing, (), None, sizes, "process", {}, (), None]
    plan = BackfillPlan(*of_plan)
    large, up_to = plan.at(SizeChoice("large")), plan.at(SizeChoice(raised_to="large"))
    assert plan.hash == nothing.digest, "a plan of before has the hash that it had"
    assert len({plan.hash, large.hash, up_to.hash}) == 3
    for wanted in (plan, large, up_to):
        found = plan.of_hash(wanted.hash)
        assert found is not None
        assert found.choice == wanted.choice
    assert plan.of_hash("fedcba9876543210") is None
