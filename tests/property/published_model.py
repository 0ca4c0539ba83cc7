"""What must be published, by three dictionaries, and the proof that tables, serving, ledger and dead letters agree."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from etl_assets.graph.runtime import Runtime
from etl_resources.dead_letters.index import LetterFile
from etl_resources.dead_letters.reading import letters
from etl_resources.engines.embedded import connect
from etl_resources.ledger.ledger import Ledger
from etl_resources.planning import Plan
from etl_resources.tables.head import read_head
from etl_resources.tables.versions import versions
from tests.databases import query
from tests.property.tiny_sales import (
    BRONZE,
    COLUMNS,
    INPUTS,
    MONTHS,
    REVENUE,
    SALES,
    SERVED,
    SILVER_LINES,
    SILVER_ORDERS,
    Rows,
    State,
    compute,
    key_of,
)

TABLES = (*BRONZE, SILVER_ORDERS, SILVER_LINES, SALES, REVENUE)


@dataclass(frozen=True)
class Content:
    """A partition of an attempt, or as published."""

    epoch: int
    rows: Rows
    rejected: Rows = frozenset()
    seen: Mapping[str, int] = field(default_factory=dict)
    """Source table → number of the source's state that this was made from."""


Contents = dict[str, Content]
"""Month → content."""


class PublishedModel:
    """Asset → month → content, and every state that the source ever had."""

    def __init__(self) -> None:
        self.states: list[State] = [State()]
        self.published: dict[str, Contents] = {name: {} for name in (*TABLES, SERVED)}
        self.versions: dict[str, dict[int, Contents]] = {name: {} for name in TABLES}
        """Asset → number of a version that somebody saw → content."""
        self.pinned: dict[str, set[str]] = {name: set() for name in (*TABLES, SERVED)}
        self.rolled_back = False
        self.unrecorded: set[tuple[str, str]] = set()
        """(asset, month) whose writer died before it could write evidence: the ledger may know, or not yet."""

    def captured(self, asset: str, epoch: int, months: Iterable[str], state: int) -> Contents:
        """What a capture of the source's state holds."""
        return {m: Content(epoch, self.states[state].bronze(asset, m), seen={asset: state}) for m in months}

    def planned(self, asset: str, plan: Plan) -> Contents:
        """What a plan that was just made must compute. Also proves that what it prunes is right as it is."""
        contents: Contents = {}
        for p in plan.todo:
            made = contents[p.partition] = self._made_now(asset, p.partition, p.epoch)
            assert self._source_of(p.partition, made) is not None, f"{asset} {p.partition}: of no single moment"
        for month in plan.pruned.keys() - self.pinned[asset]:
            now, made = self.published[asset][month], self._made_now(asset, month, 0)
            assert (now.rows, now.rejected) == (made.rows, made.rejected), f"{asset} {month} was pruned and is stale"
        return contents

    def _made_now(self, asset: str, month: str, epoch: int) -> Content:
        inputs = {name: self.published[name][month] for name in INPUTS[asset]}
        rows, rejected = compute(asset, {name: c.rows for name, c in inputs.items()})
        seen = {table: state for c in inputs.values() for table, state in c.seen.items()}
        return Content(epoch, rows, rejected, seen)

    def publish(self, asset: str, contents: Contents, *, recorded: bool = True) -> tuple[set[str], set[str]]:
        """(published, fenced) months of an attempt: the higher epoch wins."""
        current = self.published[asset]
        won = {m for m, c in contents.items() if m not in current or c.epoch > current[m].epoch}
        for month in won:
            old, new = current.get(month), contents[month]
            for table, state in new.seen.items():
                newer = old is None or state >= old.seen.get(table, 0)
                assert newer or self.rolled_back, f"{asset} {month}: older source over newer"
            current[month] = new
            (self.unrecorded.discard if recorded else self.unrecorded.add)((asset, month))
        return won, set(contents) - won

    def roll_back(
        self, asset: str, number: int, only: Sequence[str], epoch: int | None, *, recorded: bool = True
    ) -> None:
        """Months whose rows differ from that version have its content again, and are pinned. No epoch: none did."""
        then, now = self.versions[asset][number], self.published[asset]
        rolled: Contents = {}
        for month in set(only or MONTHS) & (set(then) | set(now)):
            old = then.get(month, Content(0, frozenset(), seen=now[month].seen if month in now else {}))
            if month not in now or now[month].rows != old.rows:
                rolled[month] = replace(old, epoch=epoch or 0)
        assert bool(rolled) == (epoch is not None), f"{asset}: rolled back {sorted(rolled)} with epoch {epoch}"
        self.rolled_back = True
        won, fenced = self.publish(asset, rolled, recorded=recorded)
        assert not fenced
        self.pinned[asset] |= won

    def acceptable(self, month: str, content: Content) -> bool:
        """Whether a KPI equals the control totals of the capture that it is made from."""
        source = self._source_of(month, content)
        return source is not None and content.rows == source.totals(month)

    def _source_of(self, month: str, content: Content) -> State | None:
        """A moment at which the source's tables had, together, what this is made from."""
        parts = {table: self.states[n].bronze(table, month) for table, n in content.seen.items()}
        states = (s for s in self.states if all(s.bronze(table, month) == rows for table, rows in parts.items()))
        return next(states, None)

    def prove_no_row_twice_or_lost(self) -> None:
        """Captures of different months see different states; still a row that moved is in one place, not in two."""
        for asset in (*BRONZE, SILVER_ORDERS, SILVER_LINES, SALES):
            contents = self.published[asset]
            found = Counter(key_of(asset, row) for c in contents.values() for row in c.rows)
            twice = [key for key, n in found.items() if n > 1]
            assert not twice, f"{asset}: {twice} in more than one partition"
            if set(contents) == set(MONTHS):
                lost = self._always_there(asset, [s for c in contents.values() for s in c.seen.values()]) - set(found)
                assert not lost, f"{asset}: {lost} was in the source all the time and is in no partition"

    def _always_there(self, asset: str, seen: Sequence[int]) -> set[tuple[Any, ...]]:
        """Keys that a layer must have, because every state that any of its partitions was made from has them."""
        keys = [
            {key_of(asset, row) for rows in _layers(state, MONTHS)[asset].values() for row in rows}
            for state in self.states[min(seen) : max(seen) + 1]
        ]
        return set.intersection(*keys)


def _layers(state: State, months: Sequence[str]) -> dict[str, dict[str, Rows]]:
    """Asset → month → rows: the whole flow in plain Python, of one state of the source."""
    made: dict[str, dict[str, Rows]] = {name: {m: state.bronze(name, m) for m in months} for name in BRONZE}
    for asset, inputs in INPUTS.items():
        made[asset] = {m: compute(asset, {i: made[i][m] for i in inputs})[0] for m in months}
    return made


def prove_all_current(model: PublishedModel) -> None:
    """Every layer is what plain Python makes of the source as it is now."""
    for asset, months in _layers(model.states[-1], MONTHS).items():
        assert {m: c.rows for m, c in model.published[asset].items()} == months, asset


class Proof:
    """Reads what is really there, as any reader does. Tables that did not change since the last look are skipped."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._dsn = runtime.settings.require_postgres()
        self._seen: dict[str, str] = {}

    def check(self, model: PublishedModel, ledger: Ledger) -> None:
        """Raises AssertionError where the platform differs from the model."""
        for asset in TABLES:
            self._check_table(asset, model.published[asset], model.versions[asset])
        self._check_served(model.published[SERVED])
        self._check_ledger(model, ledger)
        model.prove_no_row_twice_or_lost()

    def _check_table(self, asset: str, expected: Contents, seen: dict[int, Contents]) -> None:
        from pyiceberg.exceptions import NoSuchTableError

        try:
            table = self._runtime.store.catalog.load_table(self._runtime.addresses[asset].identifier)
        except NoSuchTableError:
            assert not expected, f"{asset} has no table"
            return
        if self._seen.get(asset) == table.metadata_location:
            return
        epochs = {m: head.epoch for m, head in read_head(table).items()}
        assert epochs == {m: c.epoch for m, c in expected.items()}, f"{asset}: epochs"
        names = COLUMNS[asset].split(", ")
        found = Counter(tuple(row[n] for n in names) for row in table.scan().to_arrow().to_pylist())
        assert found == Counter(row for c in expected.values() for row in c.rows), f"{asset}: rows"
        newest = max(versions(table), key=lambda v: v.number, default=None)
        assert newest is None or newest.current, f"{asset}: version {newest and newest.number} is not the current one"
        if newest is not None:
            assert not seen or newest.number >= max(seen), f"{asset}: version numbers go back"
            known = seen.setdefault(newest.number, dict(expected))
            assert {m: c.rows for m, c in known.items()} == {m: c.rows for m, c in expected.items()}
        self._seen[asset] = table.metadata_location

    def _check_served(self, expected: Contents) -> None:
        if query(self._dsn, "select to_regclass('analytics.revenue')") == [(None,)]:
            assert not expected
            return
        found = Counter(query(self._dsn, f"select {COLUMNS[SERVED]} from analytics.revenue"))
        assert found == Counter(row for c in expected.values() for row in c.rows), "served rows"
        epochs = dict(query(self._dsn, "select partition, epoch from etl_serving.commits where epoch > 0"))
        assert epochs == {m: c.epoch for m, c in expected.items()}, "served epochs"

    def _check_ledger(self, model: PublishedModel, ledger: Ledger) -> None:
        for asset, contents in model.published.items():
            recorded = ledger.current(asset)
            for month, content in contents.items():
                known = recorded[month].epoch if month in recorded else 0
                if known != content.epoch:
                    assert (asset, month) in model.unrecorded, f"{asset} {month}: the ledger's epoch is {known}"
                    assert known < content.epoch, f"{asset} {month}: the ledger is ahead of the table"
                else:
                    assert recorded[month].rows == len(content.rows), f"{asset} {month}: rows in the ledger"
            assert set(recorded) <= set(contents), f"{asset}: the ledger knows what no table has"
        self._check_dead_letters(model)

    def _check_dead_letters(self, model: PublishedModel) -> None:
        visible: dict[tuple[str, str], Counter[tuple[Any, ...]]] = {}
        found = query(self._dsn, "select asset, partition, epoch, attempt, run_id, path, rows, version "
                      "from etl.current_dead_letter_files")  # fmt: skip
        if found:
            every = f"select asset, partition, key from {letters([LetterFile(*row) for row in found])}"
            with connect(self._runtime.settings) as engine:
                for asset, month, key in engine.execute(every).fetchall():
                    visible.setdefault((asset, month), Counter())[tuple(json.loads(key).values())] += 1
        for asset, contents in model.published.items():
            for month, content in contents.items():
                if (asset, month) not in model.unrecorded:
                    found = visible.pop((asset, month), Counter())
                    assert found == Counter(content.rejected), f"{asset} {month}: dead letters"
        assert set(visible) <= model.unrecorded, f"dead letters of what is not published: {visible}"

    def nothing_left(self) -> None:
        """No branch, no staging table, no open intent."""
        for asset in TABLES:
            table = self._runtime.store.catalog.load_table(self._runtime.addresses[asset].identifier)
            assert set(table.refs()) == {"main"}, f"{asset}: {sorted(table.refs())}"
        left = query(self._dsn, "select relname from pg_class where relnamespace = to_regnamespace('etl_staging')")
        assert left == [], "staging tables"
        assert query(self._dsn, "select attempt, asset from etl.intents where state = 'open'") == []
