"""What is planned is what a full restatement would change, for any history of sources, lookups, windows and logic."""

from collections.abc import Mapping
from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st

from etl_resources.closure_plan import Action, plan_closure
from etl_resources.verdicts import State
from tests.property.closure_model import KEYS, LINES, MONTHS, NODES, ORDERS, RATES, SILVER_RATES, Flow

ALL = {n.name: n.partitions for n in NODES}
numbers = st.integers(0, 7)
months = st.sampled_from(MONTHS)
changes = st.one_of(
    st.tuples(st.just("orders"), months, numbers),
    st.tuples(st.just("lines"), months, numbers),
    st.tuples(st.just("rates"), st.integers(0, KEYS), st.integers(0, 3)),
    st.tuples(st.just("logic"), st.sampled_from([n.name for n in NODES if not n.is_source]), numbers),
)


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    """A flow that was published whole, or in part, and then changed."""
    every = {m: draw(numbers) for m in MONTHS}
    flow = Flow(dict(every), {m: draw(numbers) for m in MONTHS}, draw(st.dictionaries(st.integers(0, KEYS), numbers)))
    published = draw(st.sampled_from([MONTHS, MONTHS[:2], MONTHS[1:]]))
    flow.run({n: [p for p in partitions if p in published or p not in MONTHS] for n, partitions in ALL.items()})
    for kind, what, value in draw(st.lists(changes, max_size=4)):
        if kind == "logic":
            flow.logic[what] = f" {value}"
        else:
            getattr(flow, kind)[what] = value
    between = draw(
        st.sampled_from([{RATES, SILVER_RATES}, {LINES, ORDERS}, draw(st.sets(st.sampled_from(sorted(ALL))))])
    )
    flow.run({n: ALL[n] for n in between})
    return flow


def planned(flow: Flow, *actions: Action, wanted: Mapping[str, tuple[str, ...]] = ALL) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for step in plan_closure(flow.closure(), wanted).of(*actions):
        found.setdefault(step.asset, set()).add(step.partition)
    return found


@given(flows())
def test_the_plan_computes_all_that_a_run_of_everything_would(flow: Flow) -> None:
    """A partition that it misses stays wrong; one that it is certain of and that isn't computed is a wrong price."""
    certain, perhaps = planned(flow, Action.COMPUTE), planned(flow, Action.COMPUTE, Action.MAY_CHANGE)
    computed = flow.run(ALL)
    assert {(a, p) for a, ps in computed.items() for p in ps} <= {(a, p) for a, ps in perhaps.items() for p in ps}
    for asset, partitions in certain.items():
        assert partitions <= computed.get(asset, set()), asset


@given(flows())
def test_running_the_plan_is_a_full_restatement(flow: Flow) -> None:
    """Nothing else has to run, and afterwards nothing is stale."""
    flow.run(planned(flow, Action.COMPUTE, Action.MAY_CHANGE))
    contents = dict(flow.contents)
    flow.run(ALL)
    assert flow.contents == contents
    closure = flow.closure()
    assert {closure.verdict(n, p).state for n, ps in ALL.items() for p in ps if (n, p) in contents} <= {State.FRESH}
    assert planned(flow, Action.COMPUTE, Action.MAY_CHANGE) == {}


@given(flows(), st.sets(st.sampled_from(sorted(ALL))), st.sets(months))
def test_what_a_part_of_the_plan_leaves_behind_is_named(flow: Flow, assets: set[str], periods: set[str]) -> None:
    """Who backfills a month, or the sources alone, is told all that follows from it, however far down."""
    downstream = {n.name: n.partitions for n in NODES if not n.is_source}
    anyway = deepcopy(flow).run(downstream)
    plan = plan_closure(
        flow.closure(), {a: tuple(p for p in ALL[a] if p in periods or p not in MONTHS) for a in assets}
    )
    before = set(flow.contents)
    flow.run({a: [s.partition for s in plan.of(Action.COMPUTE, Action.MAY_CHANGE) if s.asset == a] for a in ALL})
    follows = flow.run(downstream)
    new = {(a, p) for a, ps in follows.items() for p in ps - anyway.get(a, set())} & before
    told = {(a, p) for a, ps in plan.left_behind.items() for p in ps}
    if plan.built_on:  # told too: what the plan makes from what is out of date is made again
        told |= {(s.asset, s.partition) for s in plan.of(Action.COMPUTE, Action.MAY_CHANGE)}
    assert new <= told


@given(flows())
def test_without_looking_nothing_that_is_certain_is_wrong(flow: Flow) -> None:
    """From the ledger alone less is known, and what is said still holds."""
    blind, seeing = flow.closure(look=False), flow.closure()
    for name, partitions in ALL.items():
        for partition in partitions:
            told, true = blind.verdict(name, partition).state, seeing.verdict(name, partition).state
            if told is State.UNKNOWN:
                assert true in (State.FRESH, State.STALE)
            elif told is not State.FRESH or not name.startswith("bronze."):
                assert told is true, (name, partition)


@given(flows())
def test_the_digest_is_of_the_state(flow: Flow) -> None:
    """The same state gives the same digest; another change to something that is planned, another one."""
    first = plan_closure(flow.closure(), ALL).digest
    assert plan_closure(flow.closure(), ALL).digest == first
    flow.lines[MONTHS[0]] += 100
    assert plan_closure(flow.closure(), ALL).digest != first
