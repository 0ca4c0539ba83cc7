"""A platform of which only the ledger is real: ticks of the reconcile sensor through months of simulated time.

The tick is the product's, with its observation, its requests and its cursor, on a real Postgres. Sources are numbers;
runs publish by the product's records what the product's verdicts say, and take their time, fail, or die; Dagster is no
more than what a sensor sees of it, and starts a run key once. Time is the simulation's.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

from etl_assets.automation import observe_sources, reconcile_tick
from etl_assets.automation.reconcile_tick import RUNS_MAX, tick
from etl_assets.automation.stuck import ask_again
from etl_assets.backfill.closure_nodes import closure_nodes, state_of
from etl_assets.graph.runtime import Runtime
from etl_resources.calendar import months_between
from etl_resources.closure import Closure, ClosureNode
from etl_resources.extract.watermark import Bound, Changes
from etl_resources.ledger import marks
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.records import IntendedPartition
from etl_resources.lookups import LookupTable
from etl_resources.reconcile import Decision, Request, decide
from etl_resources.run_token import InputVersion, run_token
from etl_resources.verdicts import State
from tests.histories import oracle
from tests.histories.oracle import MONTHS, WHOLE, Place

START = datetime(2026, 1, 1, tzinfo=UTC)
ERP = ("bronze.orders", "bronze.lines")
KEYS = 4
"""An ERP's month looks up one of so many keys of the customers, and of the rates."""


def version(number: int) -> str:
    """As the ledger's versions look."""
    return f"1-{number:016x}-h2"


def number(of: str) -> int:
    """The content behind a version."""
    return int(of.split("-")[1], 16)


def made(asset: str, read: Mapping[Place, str]) -> str:
    """Content of a table or target by what it reads. Silver and the KPI are coarse: a change often stops there."""
    if asset.startswith("silver."):
        return version(number(next(iter(read.values()))) // 2)
    told = repr(sorted((place, v) for place, v in read.items() if v != "absent"))
    digest = int(hashlib.sha256(told.encode()).hexdigest()[:8], 16)
    return version(digest % 5 if asset == "kpi.revenue" else digest)


def found(source: str, looked_up: str) -> str:
    """What a content of orders finds in a content of customers or rates: one digit of it."""
    return version(1000 + number(looked_up) // 10 ** (number(source) % KEYS) % 10)


@dataclass
class Flight:
    """A run that has been started."""

    request: Request
    ends_at: datetime
    fails_at: int | None
    """After so many partitions; None: it succeeds."""
    dies: bool


@dataclass
class Platform:
    """The simulation."""

    runtime: Runtime
    random: Random
    now: datetime = START
    cursor: str | None = None
    contents: dict[Place, int] = field(default_factory=dict)
    """What the sources hold."""
    stamps: dict[Place, int] = field(default_factory=dict)
    """Of the ERP: what a look at its stamps finds."""
    hidden: set[Place] = field(default_factory=set)
    """What changed without a stamp, and is found by the sweep."""
    flights: list[Flight] = field(default_factory=list)
    started: set[str] = field(default_factory=set)
    poisoned: set[str] = field(default_factory=set)
    """Assets of which every attempt fails."""
    asked: Counter[tuple[Place, str]] = field(default_factory=Counter)
    """(partition, state of its inputs) → requests of it since a person last said that it is mended."""
    most: int = 0
    """Most requests of one partition for one state."""
    ticks: int = 0
    summary: str = ""
    alerts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.nodes = closure_nodes(self.runtime.project)
        for asset in ERP:
            for month in MONTHS:
                self.contents[asset, month], self.stamps[asset, month] = self.random.randrange(1000), 0
        for asset in ("bronze.customers", "bronze.rates"):
            self.contents[asset, WHOLE] = self.random.randrange(10_000)

    def publish_all(self) -> None:
        """As a first run of everything does."""
        assets = tuple(n.name for n in self.nodes)
        self._compute(Flight(Request(assets, MONTHS[0], MONTHS[-1], ()), self.now, None, False))

    # time

    def tick(self) -> None:
        """One tick, and Dagster's part."""
        decisions: list[Decision] = []
        with self._simulated(decisions):
            ticked = tick(self.runtime, self._instance, self.cursor, "all_layers", lambda _: None)  # type: ignore[arg-type]
        self.cursor, self.summary, self.ticks = ticked.cursor, ticked.summary, self.ticks + 1
        requests = decisions[0].requests[:RUNS_MAX] if decisions else []
        assert len(requests) == len(ticked.run_requests)
        for run, request in zip(ticked.run_requests, requests, strict=True):
            for root in request.roots:
                self.asked[root.place, root.state] += 1
                self.most = max(self.most, self.asked[root.place, root.state])
            assert run.run_key
            if run.run_key not in self.started:
                self.started.add(run.run_key)
                self._start(request)

    def pass_time(self, most: timedelta) -> None:
        """Until the next thing may happen, at most so long; runs that end meanwhile have ended."""
        step = timedelta(seconds=30) if self.flights else most
        step = min(step, timedelta(minutes=5)) if "waiting" in self.summary else step
        self.now += step
        for flight in [f for f in self.flights if f.ends_at <= self.now]:
            self.flights.remove(flight)
            self._compute(flight)

    @property
    def is_quiet(self) -> bool:
        """Nothing runs, and the last tick waits for nothing."""
        return not self.flights and "waiting" not in self.summary and "being compared" not in self.summary

    def mend(self) -> None:
        """What made attempts fail is gone, and a person says so."""
        self.poisoned.clear()
        self.asked.clear()
        ask_again(self.runtime.settings, None)

    # judgement

    def stale(self) -> set[Place]:
        """Places that don't hold what follows from the sources, by a recursion that knows no ledger."""
        expected: dict[Place, str] = {}

        def of(place: Place) -> str:
            if place not in expected:
                asset, partition = place
                if place in self.contents:
                    expected[place] = version(self.contents[place])
                elif asset.startswith("looked up "):
                    table = asset.replace("looked up ", "silver.")
                    expected[place] = found(of(("silver.orders", partition)), of((table, WHOLE)))
                else:
                    read = [r for r in oracle.reads(*place) if r[0] not in ("control totals", "rejected sales")]
                    expected[place] = made(asset, {_named(r): of(r) for r in read})
            return expected[place]

        return {place for place, v in self.published().items() if of(place) != v}

    def published(self) -> dict[Place, str]:
        """Versions in the ledger."""
        with Ledger.open(self.runtime.settings) as ledger:
            rows = ledger.connection.execute("select asset, partition, version from etl.current_versions").fetchall()
        return {(asset, partition): v for asset, partition, v in rows}

    def below(self, places: set[Place]) -> set[Place]:
        """All that is made from them, too."""
        reached = set(places)
        for node in self.nodes:
            for partition in node.partitions if node.partitioned else (WHOLE,):
                if not node.is_source and partition in (*MONTHS, WHOLE):
                    if {_named(r) for r in oracle.reads(node.name, partition)} & reached:
                        reached.add((node.name, partition))
        return reached

    # runs

    def _start(self, request: Request) -> None:
        fails = self.random.random() < 0.15
        self.flights.append(Flight(
            request, self.now + timedelta(seconds=30 * self.random.randint(0, 4)),
            self.random.randint(0, 12) if fails else None, dies=self.random.random() < 0.3,
        ))  # fmt: skip

    def _compute(self, flight: Flight) -> None:
        """What a run of the request does, assets in order; what follows a failure isn't reached."""
        request, left = flight.request, flight.fails_at
        months = [m for m in months_between(request.first, request.last)] if request.first != WHOLE else []
        wanted = {n.name: ([WHOLE] if not n.partitioned else months) for n in self.nodes if n.name in request.assets}
        with Ledger.open(self.runtime.settings) as ledger:
            _settle_dead(ledger)
            failed: set[str] = set()
            for node in self.nodes:
                if node.name not in wanted or failed & {*node.upstream}:
                    failed |= {node.name} if node.name in wanted else set()
                    continue
                for partition in wanted[node.name]:
                    if node.name in self.poisoned or left == 0:
                        self._fail(ledger, node, partition, dies=flight.dies)
                        failed.add(node.name)
                    elif self._run(ledger, node, partition) and left is not None:
                        left -= 1

    def _run(self, ledger: Ledger, node: ClosureNode, partition: str) -> bool:
        """One partition: whether there was something to do."""
        if node.is_source:
            return self._capture(ledger, node, partition)
        needed = [n for n in self.nodes if n.name in (node.name, *node.upstream)]
        closure = Closure(needed, state_of(ledger, needed), evaluate=self._evaluate(ledger))
        verdict = closure.verdict(node.name, partition)
        if verdict.state is State.FRESH or verdict.missing:
            return False
        assert verdict.token, verdict
        content = made(node.name, {(i.asset, i.partition): i.version for i in verdict.inputs})
        self._publish(ledger, node.name, {partition: (verdict.token, verdict.inputs, content, None)})
        return True

    def _capture(self, ledger: Ledger, node: ClosureNode, partition: str) -> bool:
        """Tables that are captured together, of one partition."""
        siblings = node.captured_with or (node.name,)
        known = {s: ledger.current(s, [partition]).get(partition) for s in siblings}
        if siblings[0] != node.name and all(known.values()):
            return False  # they were captured by the first of them
        epoch = ledger.draw_epoch()
        now = {s: version(self.contents[s, partition]) for s in siblings}
        same = all((k := known[s]) is not None and k.version == now[s] for s in siblings)
        if same:
            marks.looked_at(ledger.connection, siblings, [partition], epoch)
            return False
        for s in siblings:
            read = (InputVersion(f"source/{s}", partition, now[s]),)
            logic = next(n.logic_version for n in self.nodes if n.name == s)
            token = run_token(tenant=node.tenant, asset=s, partition=partition, logic_version=logic, inputs=read)
            self._publish(ledger, s, {partition: (token, read, now[s], now[s])}, epoch)
        return True

    def _publish(
        self,
        ledger: Ledger,
        asset: str,
        partitions: Mapping[str, tuple[str, tuple[InputVersion, ...], str, str | None]],
        epoch: int | None = None,
    ) -> None:
        attempt = ledger.open_attempt(asset, "simulated")
        drawn = epoch or ledger.draw_epoch()
        intended = [IntendedPartition(p, drawn, token, read) for p, (token, read, *_) in partitions.items()]
        ledger.intend(attempt, intended)
        ledger.record_staged(attempt, [
            (p, token, {"version": content, "rows": 1, "size_bytes": 1, "fingerprint": fingerprint})
            for p, (token, _, content, fingerprint) in partitions.items()
        ])  # fmt: skip
        ledger.record_published(attempt, list(partitions), None)

    def _fail(self, ledger: Ledger, node: ClosureNode, partition: str, *, dies: bool) -> None:
        """An attempt that publishes nothing; who dies leaves it open, until the next run settles it."""
        attempt = ledger.open_attempt(node.name, "simulated")
        ledger.intend(attempt, [IntendedPartition(partition, ledger.draw_epoch(), None)])
        if not dies:
            ledger.settle(attempt, "failed", "simulated")

    def _evaluate(self, ledger: Ledger) -> Callable[[LookupTable, str], str]:
        """As a step does: found, and remembered."""

        def evaluate(lookup: LookupTable, partition: str) -> str:
            source, table = (
                ledger.current(a, [p])[p].version for a, p in ((lookup.source, partition), (lookup.asset, WHOLE))
            )
            result = found(source, table)
            ledger.connection.execute(
                "with forgotten as (delete from etl.lookup_versions where definition = %s and source = %s) "
                "insert into etl.lookup_versions (definition, source, looked_up, version) values (%s, %s, %s, %s)",
                (lookup.definition, source, lookup.definition, source, table, result),
            )
            return result

        return evaluate

    # what the tick sees of the world

    @contextmanager
    def _simulated(self, decisions: list[Decision]) -> Iterator[None]:
        def deciding(*arguments: Any, **options: Any) -> Decision:
            decisions.append(decide(*arguments, **options))
            return decisions[-1]

        running = {
            (a, p)
            for f in self.flights
            for a in f.request.assets
            for p in ([WHOLE] if f.request.first == WHOLE else months_between(f.request.first, f.request.last))
        }
        place = {
            (reconcile_tick, "clock"): lambda _: self.now,
            (reconcile_tick, "running_places"): lambda *_: running,
            (reconcile_tick, "decide"): deciding,
            (reconcile_tick, "alert"): self._alert,
            (observe_sources, "open_source"): self._connected,
            (observe_sources, "read_bound"): lambda *_: Bound(self.now, self.now),
            (observe_sources, "ObjectStore"): SimpleNamespace(of=lambda *_: None),
            (observe_sources, "RawZone"): lambda *_: None,
            (observe_sources.SourceObserver, "_changes"): staticmethod(self._changes),
        }
        self.runtime.__dict__["store"] = SimpleNamespace(catalog=None)
        self.runtime.__dict__["delivered_source"] = self._delivered
        with ExitStack() as patches:
            for (holder, name), instead in place.items():
                patches.enter_context(mock.patch.object(holder, name, instead))
            yield

    @contextmanager
    def _connected(self, *_: Any, **__: Any) -> Iterator[Any]:
        yield SimpleNamespace(execute=lambda *_: None)

    def _changes(
        self, _: Any, node: Any, __: Any, bound: Bound, ___: datetime, digests: Mapping[str, str]
    ) -> Changes:
        now = {m: str(self.stamps[node.name, m]) for m in MONTHS}
        return Changes(frozenset(m for m in MONTHS if digests and digests.get(m) != now[m]), bound.until, now)

    def _delivered(self, node: Any, _: Any) -> Any:
        seen = SimpleNamespace(fingerprint=version(self.contents[node.name, WHOLE]))
        return SimpleNamespace(observe=lambda _: seen)

    def _alert(self, _: Any, kind: str, lines: list[str], *__: Any) -> bool:
        self.alerts[kind] += len(lines)
        return True

    @property
    def _instance(self) -> Any:
        return SimpleNamespace(report_runless_asset_event=lambda _: None)


def _settle_dead(ledger: Ledger) -> None:
    rows = ledger.connection.execute("select distinct asset from etl.intents where state = 'open'").fetchall()
    for (asset,) in rows:
        for attempt in ledger.dead_attempts(asset):
            ledger.settle(attempt, "abandoned", "simulated")


def _named(place: Place) -> Place:
    """What is looked up by the name of the table in which it is."""
    asset, _ = place
    return (asset.replace("looked up ", "silver."), WHOLE) if asset.startswith("looked up ") else place
