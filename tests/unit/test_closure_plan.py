"""What a plan does with moved rows, pins, held KPIs, missing inputs and sources that nobody can look at."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from etl_resources.calendar import WHOLE
from etl_resources.closure import Closure
from etl_resources.closure_plan import Action, ClosurePlan, plan_closure
from etl_resources.ledger.pins import Pin
from etl_resources.ledger.state import LedgerState, Waiting
from etl_resources.run_token import InputVersion, run_token
from etl_resources.verdicts import ChangeKind, State, Verdict
from tests.property.closure_model import MONTHS, NODES, ORDERS, RATES, Flow

JANUARY, FEBRUARY, MARCH, _ = MONTHS
ALL = {n.name: n.partitions for n in NODES}
SILVER, REVENUE = "silver.orders", "kpi.revenue"
AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def flow() -> Flow:
    """Everything is published."""
    made = Flow(dict.fromkeys(MONTHS, 1), dict.fromkeys(MONTHS, 1), {1: 1})
    made.run(ALL)
    return made


def plan(flow: Flow, wanted: dict[str, tuple[str, ...]], **state: object) -> ClosurePlan:
    """From the ledger as the flow has it, with these differences."""
    seen = flow.closure()
    changed: LedgerState = replace(seen.state, **state)  # type: ignore[arg-type]
    return plan_closure(Closure(list(seen.nodes.values()), changed, seen.observed), wanted)


def actions(made: ClosurePlan, asset: str) -> dict[str, Action]:
    return {p: s.action for (a, p), s in made.steps.items() if a == asset}


def pin(asset: str, partition: str) -> dict[tuple[str, str], Pin]:
    return {(asset, partition): Pin(asset, partition, 1, "wrong", 1, "attempt", AT)}


def move(flow: Flow) -> dict[str, list[tuple[str, int, list[str]]]]:
    """A row moved from January to February in the source, and was captured."""
    flow.orders |= {JANUARY: 3, FEBRUARY: 4}
    flow.run({ORDERS: MONTHS})
    return {ORDERS: [(JANUARY, flow.epoch, [FEBRUARY]), (FEBRUARY, flow.epoch, [JANUARY])]}


def test_a_moved_row_brings_its_other_partition_along(flow: Flow) -> None:
    """Computed alone, January would lose the row before February has it."""
    made = plan(flow, {SILVER: (JANUARY,)}, exchanged=move(flow))
    assert actions(made, SILVER) == {JANUARY: Action.COMPUTE, FEBRUARY: Action.COMPUTE}
    assert made.steps[SILVER, FEBRUARY].note == "exchanged rows with 2024-01"


def test_a_move_that_was_read_brings_nothing(flow: Flow) -> None:
    """A year later it links nothing any more."""
    exchanged = move(flow)
    flow.run({SILVER: MONTHS})
    flow.orders[JANUARY] = 5
    flow.run({ORDERS: MONTHS})
    assert actions(plan(flow, {SILVER: (JANUARY,)}, exchanged=exchanged), SILVER) == {JANUARY: Action.COMPUTE}


def test_a_pin_stands_in_the_way_of_a_moved_row(flow: Flow) -> None:
    """The run refuses, and the plan says so before."""
    made = plan(flow, {SILVER: (JANUARY,)}, exchanged=move(flow), pins=pin(SILVER, FEBRUARY))
    assert actions(made, SILVER) == {JANUARY: Action.BLOCKED}
    assert "unpin silver.orders" in made.steps[SILVER, JANUARY].note


def test_a_pin_keeps_its_partition_and_what_follows(flow: Flow) -> None:
    """Whatever its inputs are."""
    flow.orders[JANUARY] = 9
    made = plan(flow, ALL, pins=pin(SILVER, JANUARY))
    assert actions(made, SILVER)[JANUARY] is Action.PINNED
    assert actions(made, "bronze.lines")[JANUARY] is Action.COMPUTE
    pinned = plan(flow, ALL, pins=pin("bronze.lines", JANUARY))  # its system is captured as one
    assert actions(pinned, ORDERS)[JANUARY] is Action.PINNED


def test_what_waits_for_a_person_is_left_until_its_inputs_change(flow: Flow) -> None:
    """The same inputs would be refused again; accepted ones are published."""
    flow.logic[REVENUE] = " stricter"
    token = plan(flow, ALL).steps[REVENUE, JANUARY].verdict.token
    assert token is not None
    held = {(REVENUE, JANUARY): Waiting(token, AT, None)}
    assert actions(plan(flow, ALL, waiting=held), REVENUE)[JANUARY] is Action.HELD
    accepted = {(REVENUE, JANUARY): Waiting(token, AT, "ana")}
    assert actions(plan(flow, ALL, waiting=accepted), REVENUE)[JANUARY] is Action.COMPUTE
    flow.orders[JANUARY] = 9
    assert actions(plan(flow, ALL, waiting=held), REVENUE)[JANUARY] is Action.COMPUTE


def test_what_exchanged_rows_with_what_waits_for_a_person_waits_as_well(flow: Flow) -> None:
    """A row moved from a closed January to February, and on to March: a run publishes all three or none."""
    flow.orders |= {JANUARY: 3, FEBRUARY: 4, MARCH: 5}
    flow.run({ORDERS: MONTHS})
    links = {JANUARY: [FEBRUARY], FEBRUARY: [JANUARY, MARCH], MARCH: [FEBRUARY]}
    exchanged = {ORDERS: [(p, flow.epoch, others) for p, others in links.items()]}
    token = plan(flow, {SILVER: MONTHS}).steps[SILVER, JANUARY].verdict.token or ""
    waiting = {(SILVER, JANUARY): Waiting(token, AT, None)}
    for asked in ((MARCH,), MONTHS[:3]):
        made = plan(flow, {SILVER: asked, REVENUE: asked}, exchanged=exchanged, waiting=waiting)
        assert actions(made, SILVER) == dict.fromkeys(MONTHS[:3], Action.HELD)
        assert made.steps[SILVER, MARCH].note == "exchanged rows with 2024-01, which waits for a person"
        assert set(actions(made, REVENUE).values()) == {Action.PRUNE}
    accepted = {(SILVER, JANUARY): Waiting(token, AT, "ana")}
    made = plan(flow, {SILVER: (MARCH,)}, exchanged=exchanged, waiting=accepted)
    assert actions(made, SILVER) == dict.fromkeys(MONTHS[:3], Action.COMPUTE)


def test_a_missing_input_is_planned_first_or_blocks() -> None:
    """A plan whose run would fail says so, and what is missing."""
    empty = Flow(dict.fromkeys(MONTHS, 1), dict.fromkeys(MONTHS, 1), {})
    made = plan(empty, {"gdp.sales": (JANUARY,), "kpi.trailing": MONTHS})
    assert actions(made, "gdp.sales") == {JANUARY: Action.BLOCKED}
    assert "silver.lines 2024-01" in made.steps["gdp.sales", JANUARY].note
    assert set(actions(made, "kpi.trailing").values()) == {Action.COMPUTE}  # its months may be missing
    assert {s.action for s in plan(empty, ALL).steps.values()} == {Action.COMPUTE}


def test_a_source_that_only_a_run_can_look_at_is_taken_as_unchanged(flow: Flow) -> None:
    """Else one HTTP API made a plan of everything out of every plan."""
    made = plan_closure(flow.closure(look=False), ALL, unobservable={RATES: "it is an API"})
    assert actions(made, RATES) == {WHOLE: Action.LOOK}
    assert {s.action for s in made.steps.values()} == {Action.LOOK, Action.PRUNE}


def test_other_control_totals_are_a_change_and_newer_equal_ones_are_none(flow: Flow) -> None:
    """A row that silver rejects changes no table that a KPI reads, and yet what it is compared with."""
    seen = flow.closure()
    nodes = [replace(n, controls=("c",)) if n.name == REVENUE else n for n in seen.nodes.values()]
    known = seen.state.published[REVENUE][JANUARY]
    totals = InputVersion("control:c", JANUARY, "of 5", 5, looked_up=True)
    inputs = (*known.inputs, totals)
    token = run_token(
        tenant="acme", asset=REVENUE, partition=JANUARY, logic_version=f"logic of {REVENUE}", inputs=inputs
    )
    revenue = {JANUARY: known._replace(inputs=inputs, token=token)}
    published = {**seen.state.published, REVENUE: revenue}
    asked = []

    def verdict(newest: int, found: str, problem: str | None = None) -> Verdict:
        def compare(*place: object) -> tuple[list[InputVersion], str | None]:
            asked.append(place)
            return ([] if problem else [replace(totals, version=found, epoch=newest)]), problem

        state = replace(seen.state, published=published, newest_totals={("control:c", JANUARY): newest})
        return Closure(nodes, state, compare=compare).verdict(REVENUE, JANUARY)

    assert verdict(5, "never asked for").state is State.FRESH
    assert asked == []
    assert verdict(6, "of 5").state is State.FRESH
    changed = verdict(6, "of 6")
    assert (changed.state, [c.kind for c in changed.changes]) == (State.STALE, [ChangeKind.TOTALS])
    assert [c.kind for c in verdict(6, "", "no totals").changes] == [ChangeKind.NO_TOTALS]


def test_what_is_out_of_date_by_an_input_that_changes_again_may_turn_out_as_it_was(flow: Flow) -> None:
    """A served copy of A beside a KPI of B that becomes A again is pruned, and is no certain price."""
    flow.logic[REVENUE] = " 2"
    flow.run({REVENUE: MONTHS})
    served = "postgres.revenue"
    assert actions(plan(flow, {served: MONTHS}), served) == dict.fromkeys(MONTHS, Action.COMPUTE)
    del flow.logic[REVENUE]
    made = plan(flow, ALL)
    assert actions(made, REVENUE) == dict.fromkeys(MONTHS, Action.COMPUTE)
    assert actions(made, served) == dict.fromkeys(MONTHS, Action.MAY_CHANGE)
    assert served not in flow.run(ALL)
