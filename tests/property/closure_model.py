"""A small flow in plain Python: what each partition must hold, what it read, and what a run of some of them does.

It knows nothing of tokens: a partition is computed again if any content that it reads differs from what it read.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from etl_resources.calendar import WHOLE, keys_around
from etl_resources.closure import Closure, ClosureNode
from etl_resources.contract import Contract
from etl_resources.ledger.state import Known, LedgerState, Place
from etl_resources.lookups import LookupTable
from etl_resources.run_token import ABSENT, InputVersion, run_token
from etl_resources.verdicts import ChangeKind, Observation
from etl_resources.windows import InputWindow

MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04")
RATES, SILVER_RATES = "bronze.rates", "silver.rates"
ORDERS, LINES = "bronze.orders", "bronze.lines"
KEYS = 4
"""A month of orders looks up one of so many keys."""
AT = datetime(2026, 1, 1, tzinfo=UTC)


def lookup(source: str) -> LookupTable:
    return LookupTable(SILVER_RATES, source, {}, None, None, None, (), Contract((), (), None), f"rates for {source}")


def months(first: int, last: int, *, allow_missing: bool = False) -> InputWindow:
    return InputWindow(MONTHS, (first, last), allow_missing)


EVERYTHING = InputWindow(MONTHS, None)
CAPTURED = (ORDERS, LINES)


def node(name: str, *inputs: str, **more: object) -> ClosureNode:
    partitions = (WHOLE,) if name in (RATES, SILVER_RATES, "kpi.history") else MONTHS
    return ClosureNode(name, "acme", f"logic of {name}", partitions, inputs, **more)  # type: ignore[arg-type]


NODES = (
    node(ORDERS, captured_with=CAPTURED),
    node(LINES, captured_with=CAPTURED),
    node(RATES),
    node("silver.orders", ORDERS),
    node("silver.lines", LINES),
    node(SILVER_RATES, RATES),
    node("gdp.sales", "silver.lines", "silver.orders", lookups=(lookup("silver.orders"),)),
    node("kpi.revenue", "gdp.sales"),
    node("kpi.growth", "gdp.sales", windows={"gdp.sales": months(-1, 0)}),
    node("kpi.trailing", "gdp.sales", windows={"gdp.sales": months(-2, 0, allow_missing=True)}),
    node("kpi.history", "gdp.sales", windows={"gdp.sales": EVERYTHING}),
    node("postgres.revenue", "kpi.revenue"),
    node("postgres.growth", "kpi.growth"),
)
COARSE = {"silver.lines": 2, "kpi.revenue": 3}
"""What these hold is a number modulo so much: a changed input often gives what was there."""


@dataclass
class Flow:
    """Sources, and what is published of every table."""

    orders: dict[str, int]
    lines: dict[str, int]
    rates: dict[int, int]
    logic: dict[str, str] = field(default_factory=dict)
    contents: dict[Place, str] = field(default_factory=dict)
    """What is published."""
    read: dict[Place, Mapping[Place, str]] = field(default_factory=dict)
    """What it was made from."""
    epoch: int = 0
    epochs: dict[Place, int] = field(default_factory=dict)
    read_epochs: dict[Place, Mapping[Place, int]] = field(default_factory=dict)
    rate_contents: dict[int, str] = field(default_factory=dict)
    """Epoch of silver.rates → its content."""

    def now(self, name: str, partition: str) -> str:
        """Content of a source."""
        if name == RATES:
            return json.dumps(self.rates, sort_keys=True)
        return str((self.orders if name == ORDERS else self.lines)[partition])

    def reads(self, n: ClosureNode, partition: str) -> dict[Place, str]:
        """What a partition would read of what is published now."""
        found: dict[Place, str] = {}
        for name in n.inputs:
            window = n.windows.get(name)
            wanted = [WHOLE if name == SILVER_RATES or (n.partitions == (WHOLE,) and window is None) else partition]
            if name == RATES:
                wanted = [WHOLE]
            if window is not None and window.periods is None:
                wanted = [p for p in MONTHS if (name, p) in self.contents]
            elif window is not None and window.periods is not None:
                wanted = [m for m in keys_around(partition, *window.periods) if m in MONTHS]
            found |= {(name, p): self.contents.get((name, p), ABSENT) for p in wanted}
        for x in n.lookups:
            found[x.asset, WHOLE] = self.looked_up(
                found[x.source, partition], self.contents.get((x.asset, WHOLE), ABSENT)
            )
        return found

    @staticmethod
    def looked_up(source: str, rates: str) -> str:
        """The value of the one key that a source's content looks up, or that it was missed."""
        if ABSENT in (source, rates):
            return ABSENT
        return f"{int(source) % KEYS}={json.loads(rates).get(str(int(source) % KEYS))}"

    def can_run(self, n: ClosureNode, partition: str) -> bool:
        """Whether all that must be there is."""
        strict = [w for w in n.windows.values() if w.allow_missing]
        read = self.reads(n, partition)
        return bool(read) and (bool(strict) or ABSENT not in read.values())

    def run(self, wanted: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
        """Asset → partitions that were computed, inputs first. What reads what it read, by the same logic, isn't."""
        computed: dict[str, set[str]] = {}
        self.epoch += 1
        captured = {p for s in CAPTURED for p in wanted.get(s, ()) if self._differs(p)}
        for n in NODES:
            if n.is_source:
                due = captured if n.name in CAPTURED else {p for p in wanted.get(n.name, ()) if self._is_due(n.name, p)}
                for p in due:
                    self._publish(n.name, p, self.now(n.name, p), {(n.name, p): self.now(n.name, p)})
                computed[n.name] = set(due)
                continue
            for p in wanted.get(n.name, ()):
                read = {**self.reads(n, p), ("logic", ""): self.logic.get(n.name, "")}
                if self.can_run(n, p) and self.read.get((n.name, p)) != read:
                    self._publish(n.name, p, self.made(n.name, read), read)
                    computed.setdefault(n.name, set()).add(p)
        return computed

    def _differs(self, partition: str) -> bool:
        return any(self._is_due(s, partition) for s in CAPTURED)

    def _is_due(self, name: str, partition: str) -> bool:
        return self.contents.get((name, partition)) != self.now(name, partition)

    @staticmethod
    def made(name: str, read: Mapping[Place, str]) -> str:
        """What a table makes of what it reads."""
        if name == SILVER_RATES:
            return read[RATES, WHOLE]
        number = sum((i + 1) * sum(map(ord, content)) for i, (_, content) in enumerate(sorted(read.items())))
        if name.startswith("silver."):
            number = int(next(c for place, c in read.items() if place[0].startswith("bronze.")))
        return str(number % COARSE.get(name, 1_000_003))

    def _publish(self, name: str, partition: str, content: str, read: Mapping[Place, str]) -> None:
        place = (name, partition)
        self.contents[place], self.read[place], self.epochs[place] = content, read, self.epoch
        self.read_epochs[place] = {r: self.epochs.get(r, 0) for r in read}
        if place == (SILVER_RATES, WHOLE):
            self.rate_contents[self.epoch] = content

    def closure(self, *, look: bool = True) -> Closure:
        """The product's view of this flow. look: sources and looked-up rows are looked at."""
        nodes = [ClosureNode(**{**vars(n), "logic_version": self._logic(n.name)}) for n in NODES]
        published: dict[str, dict[str, Known]] = {}
        for (name, partition), content in self.contents.items():
            published.setdefault(name, {})[partition] = self._known(name, partition, content)
        whole = {(SILVER_RATES, e): f"v:{c}" for e, c in self.rate_contents.items()}
        observed = {
            (n.name, p): Observation(
                self.now(n.name, p), (ChangeKind.SOURCE,) * (self.contents.get((n.name, p)) != self.now(n.name, p))
            )
            for n in NODES if n.is_source for p in n.partitions
        }  # fmt: skip
        rates = self.contents.get((SILVER_RATES, WHOLE), ABSENT)

        def evaluate(x: LookupTable, partition: str) -> str:
            return f"v:{self.looked_up(self.contents[x.source, partition], rates)}"

        state = LedgerState(published, whole_versions=whole)
        return Closure(nodes, state, observed if look else None, evaluate if look else None)

    def _logic(self, name: str) -> str:
        return f"logic of {name}{self.logic.get(name, '')}"

    def _known(self, name: str, partition: str, content: str) -> Known:
        place = (name, partition)
        read = {r: c for r, c in self.read[place].items() if r[0] != "logic"}
        source = name.startswith("bronze.")
        used = tuple(
            InputVersion(
                f"erp:{asset}" if source else asset, p, c if c == ABSENT else f"v:{c}",
                0 if source else self.read_epochs[place][asset, p],
                looked_up=name == "gdp.sales" and asset == SILVER_RATES,
            )
            for (asset, p), c in read.items()
        )  # fmt: skip
        logic = f"logic of {name}{self.read[place].get(('logic', ''), '')}"
        token = run_token(tenant="acme", asset=name, partition=partition, logic_version=logic, inputs=used)
        return Known(self.epochs[place], token, f"v:{content}", 1, 1, 1, used, None, "run", AT)
