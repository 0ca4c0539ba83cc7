"""Planned partitions as runs: few, contiguous, and what a partition reads never after it."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_assets.backfill.runs import PlannedRun, build_runs, daemon_runs
from etl_resources.calendar import WHOLE, keys_between
from etl_resources.closure import Closure
from etl_resources.closure_plan import Action, PlannedStep
from etl_resources.ledger.state import LedgerState
from etl_resources.verdicts import State, Verdict
from tests.property.closure_model import NODES

CLOSURE = Closure(NODES, LedgerState())
PLACES = [(n.name, p) for n in NODES for p in n.partitions]


def steps(places: list[tuple[str, str]]) -> list[PlannedStep]:
    return [PlannedStep(*p, Action.COMPUTE, Verdict(*p, State.NEVER)) for p in places]


Build = Callable[[Closure, Sequence[PlannedStep]], list[PlannedRun]]
BY = pytest.mark.parametrize("build", [build_runs, daemon_runs])


@BY
@settings(max_examples=60)
@given(places=st.lists(st.sampled_from(PLACES), unique=True))
def test_every_partition_runs_once_and_after_what_it_reads(places: list[tuple[str, str]], build: Build) -> None:
    """A KPI of February in a run before January's sales would be of the old ones."""
    runs = build(CLOSURE, steps(places))
    assert [run.wave for run in runs] == sorted(run.wave for run in runs)
    ran = [(s.asset, s.partition) for run in runs for s in run.steps]
    assert sorted(ran) == sorted(places)
    number = {(s.asset, s.partition): i for i, run in enumerate(runs) for s in run.steps}
    for place in places:
        assert all(number[r] <= number[place] for r in CLOSURE.reads(*place) if r in number)


@BY
@settings(max_examples=60)
@given(places=st.lists(st.sampled_from(PLACES), unique=True, min_size=1))
def test_a_run_is_one_range_of_its_assets(places: list[tuple[str, str]], build: Build) -> None:
    """Dagster runs a range of every asset of it: a month between two planned ones would be asked for as well."""
    for run in build(CLOSURE, steps(places)):
        whole = keys_between(run.first, run.last) if run.first != WHOLE else []
        for asset in run.assets:
            partitions = [s.partition for s in run.steps if s.asset == asset]
            assert partitions in (whole, [WHOLE])


def test_a_full_backfill_is_one_run() -> None:
    """Not one per asset: a process costs more than a partition."""
    assert len(build_runs(CLOSURE, steps(PLACES))) == 1


def test_months_apart_are_runs_of_their_own_through_all_layers() -> None:
    """And not one per layer and month."""
    same_period = [n for n in NODES if not n.windows and n.partitioned]
    runs = build_runs(CLOSURE, steps([(n.name, p) for n in same_period for p in ("2024-01", "2024-03")]))
    assert [str(r) for r in runs] == ["2024-01", "2024-03"]


def test_the_daemon_makes_other_runs_than_this_process() -> None:
    """Seen on Dagster 1.13: assets without partitions are in runs of their own; what reads other months may wait."""
    runs = daemon_runs(CLOSURE, steps(PLACES))
    assert [(r.wave, len(r.assets)) for r in runs] == [(0, 4), (0, 2), (1, 6), (2, 1)]
    one = [("silver.lines", "2024-01"), ("gdp.sales", "2024-01"), ("kpi.growth", "2024-01"), ("kpi.growth", "2024-02")]
    assert [(r.wave, str(r)) for r in daemon_runs(CLOSURE, steps(one))] == [(0, "2024-01"), (1, "2024-01 … 2024-02")]
