"""Runs of a simulated platform: by the product's verdicts and records, on its real ledger, with numbers for tables."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from etl_assets.backfill.closure_nodes import state_of
from etl_resources.calendar import keys_between
from etl_resources.closure import Closure, ClosureNode
from etl_resources.ledger import marks
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.records import IntendedPartition
from etl_resources.lookups import LookupTable
from etl_resources.reconcile import Request
from etl_resources.run_token import ABSENT, InputVersion, run_token
from etl_resources.settings import Settings
from etl_resources.verdicts import State
from tests.histories.oracle import WHOLE, Place

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
    told = repr(sorted((place, v) for place, v in read.items() if v != ABSENT))
    digest = int(hashlib.sha256(told.encode()).hexdigest()[:8], 16)
    return version(digest % 5 if asset == "kpi.revenue" else digest)


def found(source: str, looked_up: str) -> str:
    """What a content of orders finds in a content of customers or rates: one digit of it."""
    return version(1000 + number(looked_up) // 10 ** (number(source) % KEYS) % 10)


@dataclass(frozen=True)
class Made:
    """A partition to publish."""

    partition: str
    epoch: int
    token: str
    read: tuple[InputVersion, ...]
    content: str
    fingerprint: str | None = None


@dataclass
class Flight:
    """A run that has been started."""

    request: Request
    ends_at: datetime
    fails_at: int | None
    """After so many partitions; None: it succeeds."""
    dies: bool


class Runs:
    """contents: of the sources. poisoned: assets of which every attempt fails."""

    def __init__(
        self, settings: Settings, nodes: Sequence[ClosureNode], contents: Mapping[Place, int], poisoned: set[str]
    ) -> None:
        self._settings, self._nodes, self._contents, self._poisoned = settings, nodes, contents, poisoned

    def compute(self, flight: Flight) -> set[Place]:
        """What a run of the request does, assets in order; what follows a failure isn't reached. What it got done."""
        request, left = flight.request, flight.fails_at
        months = list(keys_between(request.first, request.last)) if request.first != WHOLE else []
        wanted = {n.name: ([WHOLE] if not n.partitioned else months) for n in self._nodes if n.name in request.assets}
        with Ledger.open(self._settings) as ledger:
            _settle_dead(ledger)
            failed: set[str] = set()
            done: set[Place] = set()
            for node in self._nodes:
                if node.name not in wanted or failed & {*node.upstream}:
                    failed |= {node.name} if node.name in wanted else set()
                    continue
                partitions = wanted[node.name]
                if left is not None:
                    partitions, left = partitions[:left], left - len(partitions)
                broken = node.name in self._poisoned
                if partitions and not broken:
                    done |= {(node.name, p) for p in partitions}
                    (self._capture if node.is_source else self._make)(ledger, node, partitions)
                if wanted[node.name] and (broken or (left is not None and left < 0)):
                    self._fail(ledger, node, wanted[node.name][len(partitions) * (not broken) :], dies=flight.dies)
                    failed.add(node.name)
        return done

    def _make(self, ledger: Ledger, node: ClosureNode, partitions: Sequence[str]) -> None:
        """What is out of date of them."""
        needed = [n for n in self._nodes if n.name in (node.name, *node.upstream)]
        closure = Closure(needed, state_of(ledger, needed), evaluate=self._evaluate(ledger))
        verdicts = {p: closure.verdict(node.name, p) for p in partitions}
        self._publish(ledger, node.name, [
            Made(p, ledger.draw_epoch(), v.token, v.inputs,
                 made(node.name, {(i.asset, i.partition): i.version for i in v.inputs}))
            for p, v in verdicts.items() if v.state is not State.FRESH and not v.missing and v.token
        ])  # fmt: skip

    def _capture(self, ledger: Ledger, node: ClosureNode, partitions: Sequence[str]) -> None:
        """Tables that are captured together, by the first of them."""
        siblings = node.captured_with or (node.name,)
        if siblings[0] != node.name:
            return
        known, epoch = {s: ledger.current(s, partitions) for s in siblings}, ledger.draw_epoch()
        now = {(s, p): version(self._contents[s, p]) for s in siblings for p in partitions}
        differs = [
            p for p in partitions if any(p not in known[s] or known[s][p].version != now[s, p] for s in siblings)
        ]
        marks.looked_at(ledger.connection, siblings, [p for p in partitions if p not in differs], epoch)
        for s in siblings:
            logic = next(n.logic_version for n in self._nodes if n.name == s)
            found = []
            for p in differs:
                read = (InputVersion(f"source/{s}", p, now[s, p]),)
                token = run_token(tenant=node.tenant, asset=s, partition=p, logic_version=logic, inputs=read)
                found.append(Made(p, epoch, token, read, now[s, p], now[s, p]))
            self._publish(ledger, s, found)

    @staticmethod
    def _publish(ledger: Ledger, asset: str, found: "Sequence[Made]") -> None:
        if not found:
            return
        attempt = ledger.open_attempt(asset, "simulated")
        ledger.intend(attempt, [IntendedPartition(m.partition, m.epoch, m.token, m.read) for m in found])
        ledger.record_staged(attempt, [
            (m.partition, m.token, {"version": m.content, "rows": 1, "size_bytes": 1, "fingerprint": m.fingerprint})
            for m in found
        ])  # fmt: skip
        ledger.record_published(attempt, [m.partition for m in found], None)

    @staticmethod
    def _fail(ledger: Ledger, node: ClosureNode, partitions: Sequence[str], *, dies: bool) -> None:
        """An attempt that publishes nothing; who dies leaves it open, until the next run settles it."""
        attempt = ledger.open_attempt(node.name, "simulated")
        ledger.intend(attempt, [IntendedPartition(p, ledger.draw_epoch(), None) for p in partitions])
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
                "insert into etl.lookup_versions (definition, source, looked_up, version) values (%s, %s, %s, %s) "
                "on conflict do nothing",
                (lookup.definition, source, lookup.definition, source, table, result),
            )
            return result

        return evaluate


def _settle_dead(ledger: Ledger) -> None:
    rows = ledger.connection.execute("select distinct asset from etl.intents where state = 'open'").fetchall()
    for (asset,) in rows:
        for attempt in ledger.dead_attempts(asset):
            ledger.settle(attempt, "abandoned", "simulated")
