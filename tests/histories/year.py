"""A platform of which only the ledger is real: ticks of the reconcile sensor through months of simulated time.

The tick is the product's, with its observation, its requests and its cursor, on a real Postgres. Sources are numbers;
runs publish by the product's records what the product's verdicts say, and take their time, fail, or die; Dagster is no
more than what a sensor sees of it, and starts a run key once. Time is the simulation's.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
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
from etl_assets.backfill.closure_nodes import closure_nodes
from etl_assets.graph.runtime import Runtime
from etl_resources.calendar import keys_between
from etl_resources.extract.watermark import Bound, Changes
from etl_resources.ledger import requests
from etl_resources.ledger.ledger import Ledger
from etl_resources.reconcile import Decision, Request, Root, Rules, decide
from tests.histories import oracle
from tests.histories.oracle import MONTHS, WHOLE, Place
from tests.histories.simulated_runs import Flight, Runs, found, made, version

START = datetime(2100, 1, 1, tzinfo=UTC)
"""After every real publish, whose time is the database's: a poll is due an hour after the last one."""
ERP = ("bronze.orders", "bronze.lines")


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
    asked: dict[Place, list[tuple[datetime, str]]] = field(default_factory=dict)
    """Partition → when it was asked for, and for which state of its inputs, since a run got it done, it was found
    fresh, or a person said that it is mended.
    """
    ticks: int = 0
    summary: str = ""
    alerts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.nodes = closure_nodes(self.runtime.project)
        self._runs = Runs(self.runtime.settings, self.nodes, self.contents, self.poisoned)
        for asset in ERP:
            for month in MONTHS:
                self.contents[asset, month], self.stamps[asset, month] = self.random.randrange(1000), 0
        for asset in ("bronze.customers", "bronze.rates"):
            self.contents[asset, WHOLE] = self.random.randrange(10_000)

    def publish_all(self) -> None:
        """As a first run of everything does."""
        assets = tuple(n.name for n in self.nodes)
        self._runs.compute(Flight(Request(assets, MONTHS[0], MONTHS[-1], ()), self.now, None, False))

    # time

    def tick(self) -> None:
        """One tick, and Dagster's part."""
        decisions: list[Decision] = []
        known = self._requested()
        self.asked = {place: tries for place, tries in self.asked.items() if place in known}
        with self._simulated(decisions):
            ticked = tick(self.runtime, self._instance, self.cursor, lambda _: None)  # type: ignore[arg-type]
        self.cursor, self.summary, self.ticks = ticked.cursor, ticked.summary, self.ticks + 1
        chosen = decisions[0].requests[:RUNS_MAX] if decisions else []
        assert len(chosen) == len(ticked.run_requests)
        for run, request in zip(ticked.run_requests, chosen, strict=True):
            for root in request.roots:
                self._prove_bounded(root)
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
            for place in self._runs.compute(flight):
                self.asked.pop(place, None)

    def _prove_bounded(self, root: Root) -> None:
        """Five tries that lead to nothing, then one an hour, and only for other inputs than the last."""
        tries = self.asked.setdefault(root.place, [])
        if len(tries) >= Rules.tries:
            at, state = tries[-1]
            assert self.now - at >= timedelta(hours=1), (root, tries)
            assert state != root.state, (root, tries)
        tries.append((self.now, root.state))

    def _requested(self) -> set[Place]:
        with Ledger.open(self.runtime.settings) as ledger:
            return {*requests.asked(ledger.connection)}

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
                place = (node.name, partition)
                if node.is_source or partition not in (*MONTHS, WHOLE):
                    continue
                if {_named(r) for r in oracle.reads(*place)} & reached:
                    reached.add(place)
        return reached

    # what the tick sees of the world

    def _start(self, request: Request) -> None:
        fails = self.random.random() < 0.15
        self.flights.append(Flight(
            request, self.now + timedelta(seconds=30 * self.random.randint(0, 4)),
            self.random.randint(0, 12) if fails else None, dies=self.random.random() < 0.3,
        ))  # fmt: skip

    @contextmanager
    def _simulated(self, decisions: list[Decision]) -> Iterator[None]:
        def deciding(*arguments: Any, **options: Any) -> Decision:
            decisions.append(decide(*arguments, **options))
            return decisions[-1]

        running = {
            (a, p)
            for f in self.flights
            for a in f.request.assets
            for p in ([WHOLE] if f.request.first == WHOLE else keys_between(f.request.first, f.request.last))
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

    def _changes(self, _: Any, node: Any, __: Any, bound: Bound, ___: datetime, digests: Mapping[str, str]) -> Changes:
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


def _named(place: Place) -> Place:
    """What is looked up by the name of the table in which it is."""
    asset, _ = place
    return (asset.replace("looked up ", "silver."), WHOLE) if asset.startswith("looked up ") else place
