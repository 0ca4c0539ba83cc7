"""What the reconcile sensor asks for, tick by tick: it ends, all is fresh then, and nothing else was asked for."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl_resources.calendar import keys_between, stretches
from etl_resources.closure import Closure
from etl_resources.ledger.marks import CHANGED, POLL, SWEEP, Mark
from etl_resources.ledger.pins import Pin
from etl_resources.ledger.requests import Asked
from etl_resources.ledger.state import Place, Waiting
from etl_resources.reconcile import Decision, Facts, Request, Rules, decide
from etl_resources.run_grouping import grouped
from etl_resources.verdicts import State
from tests.property.closure_model import LINES, MONTHS, NODES, ORDERS, RATES, SILVER_RATES, Flow
from tests.property.test_closure import flows

START = datetime(2026, 1, 1, tzinfo=UTC)
FOLLOW = Rules(follow_logic=True)


def places(request: Request) -> set[Place]:
    """What a run of the request computes, or prunes."""
    partitions = ["all"] if request.first == "all" else keys_between(request.first, request.last)
    return {(asset, p) for asset in request.assets for p in partitions}


def count(decision: Decision, before: Mapping[Place, Asked], now: datetime) -> dict[Place, Asked]:
    """What the ledger remembers of the requests."""
    roots = [(r, request.key) for request in decision.requests for r in request.roots]
    return {**before, **{r.place: Asked(r.state, r.since, r.tries, key, now) for r, key in roots}}


def run(flow: Flow, requests: Iterable[Request]) -> None:
    for request in requests:
        wanted: dict[str, list[str]] = {}
        for asset, partition in sorted(places(request)):
            wanted.setdefault(asset, []).append(partition)
        flow.run(wanted)


@given(flows(), st.lists(st.booleans(), max_size=4))
def test_it_settles_and_everything_published_is_fresh(flow: Flow, fails: list[bool]) -> None:
    """Whatever changed, was published in part, or failed: nothing that was published stays out of date."""
    now, asked, published = START, dict[Place, Asked](), set(flow.contents)
    for tick in range(20):
        closure = flow.closure()
        decision = decide(closure, Facts(now, asked=asked), FOLLOW)
        wanted = [place for r in decision.requests for place in places(r)]
        assert len(wanted) == len(set(wanted)), "no partition is in two runs"
        assert set(wanted) <= published
        for request in decision.requests:
            assert all(closure.verdict(*root.place).state is not State.FRESH for root in request.roots)
            for root in request.roots:
                assert not {r for r in closure.reads(*root.place) if r in wanted}, "upstream first"
        if not decision.requests and not decision.waiting:
            break
        asked = count(decision, asked, now)
        if not (tick < len(fails) and fails[tick]):
            run(flow, decision.requests)
        now += timedelta(hours=2)
    else:
        pytest.fail("it doesn't settle")
    assert not decision.stuck
    closure = flow.closure()
    assert {closure.verdict(*place).state for place in published} <= {State.FRESH}
    assert set(flow.contents) == published


@given(flows(), st.sets(st.sampled_from([(n.name, p) for n in NODES for p in n.partitions])))
def test_grouping_takes_no_more_runs_or_steps_than_a_run_for_all_of_a_partition(flow: Flow, going: set[Place]) -> None:
    """Each place once, with what it reads of its own partition, and an asset's neighbours never apart for nothing."""
    closure, by_partition = flow.closure(), dict[str, list[str]]()
    runs = grouped(closure, going)
    for name, partition in sorted(going):
        by_partition.setdefault(partition, []).append(name)
    whole: dict[tuple[str, ...], list[str]] = {}
    for partition, names in by_partition.items():
        whole.setdefault(tuple(names), []).append(partition)
    former = [(s, names) for names, ps in whole.items() for s in stretches(closure.nodes[names[0]].partitions, ps)]
    assert len(runs) <= len(former)
    assert sum(map(len, runs.values())) <= sum(len(names) for _, names in former)

    run_of = [((name, p), number) for number, (ps, names) in enumerate(runs.items()) for name in names for p in ps]
    assert sorted(place for place, _ in run_of) == sorted(going)
    found = dict(run_of)
    for name, partition in going:
        beside = [(n, partition) for n in closure.nodes[name].captured_with]
        for read in (*beside, *(r for r in closure.reads(name, partition) if r[1] == partition)):
            assert found.get(read, found[name, partition]) == found[name, partition]
    for ps, names in former:
        assert all(len({found[name, p] for p in ps}) == 1 for name in names), "what was one step is one step"
    for ps, names in runs.items():
        assert list(names) == [n for n in closure.nodes if n in names], "inputs first"
        assert list(ps) in stretches(closure.nodes[names[0]].partitions, set(ps))


def test_a_month_of_one_table_does_not_cut_the_months_of_another(flow: Flow) -> None:
    """A late order: three months of a trailing figure are one run beside a growth that goes for one of them."""
    trailing = {("kpi.trailing", m) for m in MONTHS}
    runs = grouped(flow.closure(), {*trailing, ("kpi.growth", MONTHS[1]), ("postgres.growth", MONTHS[1])})
    assert runs == {tuple(MONTHS): ("kpi.trailing",), (MONTHS[1],): ("kpi.growth", "postgres.growth")}
    same = grouped(flow.closure(), {*trailing, *(("kpi.growth", m) for m in MONTHS)})
    assert same == {tuple(MONTHS): ("kpi.growth", "kpi.trailing")}, "for the same months they are one run"


@given(flows())
def test_a_change_of_logic_alone_asks_for_nothing(flow: Flow) -> None:
    """A deploy must not recompute the world by surprise; what is out of date otherwise takes it along."""
    closure = flow.closure()
    decision = decide(closure, Facts(START), Rules())
    for request in decision.requests:
        for root in request.roots:
            assert any(c.kind != "logic changed" for c in closure.verdict(*root.place).changes)
    assert all(closure.verdict(*place).state is State.STALE for place in decision.logic)


@given(flows())
def test_two_daemons_ask_for_the_same_runs(flow: Flow) -> None:
    """The key of a run follows from the state: Dagster starts one of them."""
    first, second = (decide(flow.closure(), Facts(START), FOLLOW) for _ in range(2))
    assert [r.key for r in first.requests] == [r.key for r in second.requests]
    again = decide(flow.closure(), Facts(START + timedelta(seconds=5), asked=count(first, {}, START)), FOLLOW)
    assert again.requests == [], "what was asked for a moment ago is on its way"


@pytest.fixture
def flow() -> Flow:
    """Everything is published and fresh."""
    made = Flow(dict.fromkeys(MONTHS, 1), dict.fromkeys(MONTHS, 2), {1: 3})
    made.run({n.name: n.partitions for n in NODES})
    made.run({n.name: n.partitions for n in NODES})
    return made


def test_nothing_is_asked_for_when_nothing_changed(flow: Flow) -> None:
    """The tick of every half minute."""
    decision = decide(flow.closure(), Facts(START), FOLLOW)
    assert decision.requests == []
    assert decision.unsettled == set()


def test_a_window_follows_in_the_next_tick(flow: Flow) -> None:
    """The month after reads this one: it is no part of this one's run."""
    flow.lines["2024-02"] += 1
    first = decide(flow.closure(), Facts(START), FOLLOW)
    assert {(r.first, r.last) for r in first.requests} == {("2024-02", "2024-02")}
    assert ("kpi.growth", "2024-03") in first.waiting
    run(flow, first.requests)
    second = decide(flow.closure(), Facts(START), FOLLOW)
    assert ("kpi.growth", "2024-03") in {place for r in second.requests for place in places(r)}


def test_what_is_running_is_waited_for(flow: Flow) -> None:
    """Also by what reads it: its content of tomorrow would be computed twice."""
    flow.lines["2024-02"] += 1
    running = {(LINES, "2024-02"), (ORDERS, "2024-02")}
    decision = decide(flow.closure(), Facts(START, running), FOLLOW)
    assert decision.requests == []
    assert ("gdp.sales", "2024-02") in decision.waiting


def test_tries_are_bounded_and_another_input_is_tried_at_once(flow: Flow) -> None:
    """With growing waits between them; a stuck table doesn't hold what reads it, and counts until it is published."""
    flow.lines["2024-02"] += 1
    flow.run({LINES: ["2024-02"]})
    now, asked, waits = START, dict[Place, Asked](), []
    for _ in range(FOLLOW.tries):
        decision = decide(flow.closure(), Facts(now, asked=asked), FOLLOW)
        (root,) = decision.requests[0].roots
        assert root.place == ("silver.lines", "2024-02")
        asked = count(decision, asked, now)
        due = FOLLOW.due(asked[root.place])
        waits.append((due - now).total_seconds())
        assert decide(flow.closure(), Facts(due - timedelta(seconds=1), asked=asked), FOLLOW).requests == []
        now = due
    assert waits == [60, 240, 960, 3600, 3600]
    decision = decide(flow.closure(), Facts(now, asked=asked), FOLLOW)
    assert (decision.requests, list(decision.stuck)) == ([], [("silver.lines", "2024-02")])
    flow.orders["2024-02"] += 1
    flow.run({ORDERS: ["2024-02"]})
    decision = decide(flow.closure(), Facts(now, asked=asked), FOLLOW)
    assert ("gdp.sales", "2024-02") in places(decision.requests[0]), "its other input changed"
    flow.lines["2024-02"] += 1
    flow.run({LINES: ["2024-02"]})
    decision = decide(flow.closure(), Facts(now, asked=asked), FOLLOW)
    assert {(r.place, r.tries) for request in decision.requests for r in request.roots} >= {
        (("silver.lines", "2024-02"), 6)
    }
    run(flow, decision.requests)
    flow.lines["2024-02"] += 1
    flow.run({LINES: ["2024-02"]})
    (first, *_) = decide(flow.closure(), Facts(now, asked=asked), FOLLOW).requests
    assert {(r.place, r.tries) for r in first.roots} == {(("silver.lines", "2024-02"), 1)}, "published since"


@pytest.mark.parametrize("kind", [CHANGED, SWEEP, POLL])
def test_a_source_that_changes_all_the_time_and_never_gets_captured_is_stuck(flow: Flow, kind: str) -> None:
    """Each new mark is another state. Ten hours of ticks: five tries, told as stuck, then one an hour."""
    place, now, asked = (RATES, "all"), START, dict[Place, Asked]()
    tried, stuck = [], []
    for i in range(1200):
        marked = {place: Mark(100 + i, kind, now, first_seen=100)}
        decision = decide(flow.closure(), Facts(now, marks=marked, asked=asked), FOLLOW)
        tried += [now - START for r in decision.requests for root in r.roots if root.place == place]
        stuck += [now - START] if place in decision.stuck else []
        asked = count(decision, asked, now)
        now += timedelta(seconds=30)
    assert [t.total_seconds() / 60 for t in tried[:7]] == [0, 1, 5, 10, 15, 75, 135]
    assert stuck == tried[5:], "somebody is told, and it is tried again with what is new"
    assert len(tried) == 14
    looked = {place: replace(marked[place], first_seen=1300)}
    (request,) = decide(flow.closure(), Facts(now, marks=looked, asked=asked), FOLLOW).requests
    assert [r.tries for r in request.roots if r.place == place] == [1], "a capture has looked since"


def with_state(closure: Closure, **changed: object) -> Closure:
    return Closure(list(closure.nodes.values()), replace(closure.state, **changed), closure.observed)  # type: ignore[arg-type]


def test_a_pin_is_respected_and_a_held_kpi_waits_for_a_person(flow: Flow) -> None:
    """Neither is asked for again and again; what was held is, when its inputs change or somebody accepted it."""
    flow.lines["2024-02"] += 1
    flow.run({LINES: ["2024-02"], "silver.lines": ["2024-02"]})
    gdp, kpi = ("gdp.sales", "2024-02"), ("kpi.revenue", "2024-02")
    pin = Pin(*gdp, number=1, reason="disputed", epoch=9, attempt="a", pinned_at=START)
    decision = decide(with_state(flow.closure(), pins={gdp: pin}), Facts(START), FOLLOW)
    assert (decision.requests, set(decision.kept)) == ([], {gdp})

    flow.run({"gdp.sales": ["2024-02"], "kpi.growth": MONTHS, "kpi.trailing": MONTHS, "kpi.history": ["all"]})
    flow.run({"postgres.growth": MONTHS})
    token = flow.closure().verdict(*kpi).token or ""
    held = with_state(flow.closure(), waiting={kpi: Waiting(token, START, None)})
    decision = decide(held, Facts(START), FOLLOW)
    assert (decision.requests, set(decision.kept)) == ([], {kpi})
    for waiting in (Waiting("another", START, None), Waiting(token, START, "ana")):
        decision = decide(with_state(flow.closure(), waiting={kpi: waiting}), Facts(START), FOLLOW)
        assert kpi in {r.place for request in decision.requests for r in request.roots}


def test_what_exchanged_rows_with_what_a_person_keeps_is_not_asked_for(flow: Flow) -> None:
    """A run publishes both or none: five tries of the open month would fail, and an alert would follow."""
    silver, (january, february) = "silver.orders", MONTHS[:2]
    flow.orders |= {january: 5, february: 6}
    flow.run({ORDERS: MONTHS, LINES: MONTHS})
    closure = flow.closure()
    moved = {ORDERS: [(january, flow.epoch, [february]), (february, flow.epoch, [january])]}
    token = closure.verdict(silver, january).token or ""
    pin = Pin(silver, january, number=1, reason="disputed", epoch=9, attempt="a", pinned_at=START)
    for kept in ({"waiting": {(silver, january): Waiting(token, START, None)}}, {"pins": {(silver, january): pin}}):
        decision = decide(with_state(closure, exchanged=moved, **kept), Facts(START), FOLLOW)
        assert (decision.requests, set(decision.kept)) == ([], {(silver, january), (silver, february)})
        assert decision.kept[silver, february].startswith("exchanged rows with 2024-01, which ")
    accepted = {(silver, january): Waiting(token, START, "ana")}
    decision = decide(with_state(closure, exchanged=moved, waiting=accepted), Facts(START), FOLLOW)
    assert {(silver, january), (silver, february)} <= {r.place for q in decision.requests for r in q.roots}


def test_what_lacks_an_input_is_not_asked_for_until_that_is_there(flow: Flow) -> None:
    """A calendar that goes on a month gives the last week an input that isn't published yet: no run can make it."""
    closure = flow.closure()
    published = {n: dict(p) for n, p in closure.state.published.items()}
    del published["silver.lines"][MONTHS[0]]
    decision = decide(with_state(closure, published=published), Facts(START), FOLLOW)
    assert (decision.requests, decision.stuck) == ([], {})
    assert decision.kept == {("gdp.sales", MONTHS[0]): "silver.lines, partition 2024-01 isn't published"}


def test_a_sweep_asks_for_bronze_alone_and_a_change_for_all_that_is_made_from_it(flow: Flow) -> None:
    """Comparing isn't changing; a mark that a capture has answered asks for nothing."""
    closure = flow.closure()
    marked = {(LINES, m): Mark(99, SWEEP, START) for m in MONTHS}
    (request,) = decide(closure, Facts(START, marks=marked), FOLLOW).requests
    assert (request.assets, request.first, request.last) == ((ORDERS, LINES), MONTHS[0], MONTHS[-1])
    comparing = decide(closure, Facts(START, marked.keys(), marks=marked), FOLLOW)
    assert (comparing.requests, comparing.waiting, set(comparing.comparing)) == ([], {}, set(marked)), "nobody waits"
    (request,) = decide(closure, Facts(START, marks={(LINES, MONTHS[0]): Mark(99, CHANGED, START)}), FOLLOW).requests
    assert {ORDERS, LINES, "silver.orders", "gdp.sales", "kpi.revenue"} <= set(request.assets)
    old = {(LINES, m): Mark(0, CHANGED, START) for m in MONTHS}
    assert decide(closure, Facts(START, marks=old), FOLLOW).requests == []


def test_a_poll_takes_along_what_is_made_of_its_source_alone(flow: Flow) -> None:
    """What reads months beside it follows in the next tick, if there was anything new."""
    closure, marked = flow.closure(), {(RATES, "all"): Mark(99, POLL, START)}
    (request,) = decide(closure, Facts(START, marks=marked), FOLLOW).requests
    assert (request.assets, request.first, request.last) == ((RATES, SILVER_RATES), "all", "all")
    assert [r.place for r in request.roots] == [(RATES, "all")]
    running = {(RATES, "all"), (SILVER_RATES, "all")}
    assert decide(closure, Facts(START, running, marks=marked), FOLLOW).requests == []


def test_when_time_runs_out_the_rest_is_named(flow: Flow) -> None:
    """The next tick goes on with it."""
    decision = decide(flow.closure(), Facts(START), FOLLOW, until=0.0)
    assert set(decision.not_looked_at) == {n.name for n in NODES}
