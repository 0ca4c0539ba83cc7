"""`data-pipeline dead-letters replay`: rejected rows whose rule, transform or reference was fixed are brought back.

By the ordinary protocol: partitions of which a row comes back are recomputed with what depends on them, by runs of the
project's own definitions. Planning prunes what is current, the commit fences what is old: a replay that is repeated, or
run twice at once, brings no row back twice. What it is about to do is recorded first: the next one goes on where a
killed one ended.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from uuid import uuid4

from etl_assets.account import in_words
from etl_assets.backfill.closure_nodes import closure_nodes, state_of
from etl_assets.graph.runtime import Runtime
from etl_assets.letters.choice import Choice, assets_of, is_discarded
from etl_assets.letters.dependants import dependants, run_ranges, upstream_of
from etl_assets.letters.judging import Verdict, compare, judging
from etl_resources.calendar import WHOLE
from etl_resources.closure import Closure, ClosureNode
from etl_resources.dead_letters.discards import load
from etl_resources.dead_letters.index import LetterFile, files
from etl_resources.dead_letters.reading import letters
from etl_resources.engines.embedded import connect
from etl_resources.engines.transform import engine_error
from etl_resources.errors import TransientError
from etl_resources.failpoints import failpoint
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import alone
from etl_resources.ledger.pins import current_pins

Runner = Callable[[Sequence[str], str, str, str], tuple[str, Sequence[str]]]
"""(assets, table that is replayed, first, last partition) → run id and errors."""
STORE_REFUSED = "its store refused these rows: correct the table or the store, then materialize the target again"


@dataclass
class Replay:
    """What a replay did, or in a dry run would do."""

    dry_run: bool
    verdicts: list[Verdict] = field(default_factory=list)
    recomputed: dict[str, list[str]] = field(default_factory=dict)
    """Table or target → partitions that a run was asked for; it prunes those that are current."""
    run_ids: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def restored(self) -> int:
        """Rows that came back, or would."""
        return sum(v.back for v in self.verdicts)

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "dry_run": self.dry_run, "restored": self.restored, "partitions": [vars(v) for v in self.verdicts],
            "recomputed": self.recomputed, "run_ids": self.run_ids, "errors": self.errors,
        }  # fmt: skip


def replay(runtime: Runtime, choice: Choice, run: Runner | None, progress: Callable[[str], None]) -> Replay:
    """Judge the chosen open letters again and bring back what is good now; run None: only tell.

    Tables are taken in the order of the flow: what is judged reads what was brought back before it. Letters are judged
    by whole partitions, so with the chosen ones come others that are good by now. Raises TransientError when another
    replay of a table is under way.
    """
    with ExitStack() as until_done:
        ledger = until_done.enter_context(Ledger.open(runtime.settings))
        return _Session(runtime, ledger, choice, run, progress, until_done).replay()


@dataclass
class _Session:
    """One replay."""

    runtime: Runtime
    ledger: Ledger
    choice: Choice
    run: Runner | None
    progress: Callable[[str], None]
    locks: ExitStack
    found: Replay = field(default_factory=lambda: Replay(dry_run=True))
    needed: dict[str, set[str]] = field(default_factory=dict)
    """Table or target → partitions to recompute."""
    pending: dict[str, set[str]] = field(default_factory=dict)
    """Of these, what no run was asked for yet."""
    replays: list[str] = field(default_factory=list)
    changed: list[LetterFile] = field(default_factory=list)
    """Letters whose partition is recomputed, as they were."""

    def replay(self) -> Replay:
        self.found.dry_run = self.run is None
        wanted = set(assets_of(self.runtime, self.choice.tables))
        for asset in self.runtime.letters_addresses:
            if asset in wanted:
                self._take(asset)
            if asset in self.needed:
                self.pending[asset] = self.needed[asset]
        self._flush()
        if self.run is not None:
            if not self.found.errors:
                _finish(self.ledger, self.replays)
            self.found.verdicts += [_became(self.runtime, self.ledger, before) for before in self.changed]
        self.found.verdicts.sort(key=lambda v: list(self.runtime.letters_addresses).index(v.table))
        self.found.recomputed = {name: sorted(partitions) for name, partitions in self.needed.items()}
        return self.found

    def _take(self, asset: str) -> None:
        """Judge a table's letters, and note what has to be recomputed for those that come back."""
        begun = _unfinished(self.ledger, asset)
        if not begun and not files(self.ledger.connection, "current", [asset]):
            return
        if self.pending.keys() & upstream_of(self._nodes, asset):
            self._flush()
        files_found = _files_to_judge(self.runtime, self.ledger, asset, self.choice)
        if not files_found and not begun:
            return
        if asset not in self.runtime.addresses:
            self.found.verdicts += [
                Verdict(asset, f.partition, f.rows, still=f.rows, note=STORE_REFUSED) for f in files_found
            ]
            return
        if not self.locks.enter_context(alone(self.ledger, f"replay:{asset}")):
            raise TransientError(f"Another replay of {asset} is under way. Try again when it has ended.")
        self.progress(f"{asset}: judging the letters of {len(files_found)} partitions again")
        judged = _judge(self.runtime, self.ledger, asset, files_found)
        touched = {v.partition for v in judged if v.back} | {p for ps in begun.values() for p in ps}
        for name, partitions in dependants(self._closure(), asset, touched).items() if touched else ():
            self.needed[name] = self.needed.get(name, set()) | partitions
        if self.run is None or not touched:
            self.found.verdicts += judged
            return
        self.replays.append(_begin(self.ledger, asset, sorted(touched), begun))
        failpoint("replay.recorded", asset)
        self.changed += [f for f in files_found if f.partition in touched]
        self.found.verdicts += [v for v in judged if v.partition not in touched]

    def _flush(self) -> None:
        calendar = self.runtime.project.platform.calendar
        for part in run_ranges(self._nodes, self.pending) if self.run is not None else ():
            assert self.run is not None  # noqa: S101  (as above)
            self.progress(f"recomputing {', '.join(part.assets)}: {in_words(part.partitions)}")
            # what has no partitions takes part in a run of any
            first, last = (calendar.start if p == WHOLE else p for p in (part.partitions[0], part.partitions[-1]))
            run_id, errors = self.run(part.assets, part.assets[0], first, last)
            self.found.run_ids.append(run_id)
            self.found.errors += errors
        self.pending.clear()

    def _closure(self) -> Closure:
        """As the ledger is now: a run in between changes it."""
        nodes = [*self._nodes.values()]
        return Closure(nodes, state_of(self.ledger, nodes))

    @cached_property
    def _nodes(self) -> Mapping[str, ClosureNode]:
        return {n.name: n for n in closure_nodes(self.runtime.project)}


def _files_to_judge(runtime: Runtime, ledger: Ledger, asset: str, choice: Choice) -> list[LetterFile]:
    """Files with a chosen letter that nobody discarded."""
    found = [f for f in files(ledger.connection, "current", [asset]) if choice.partition_holds(f.partition)]
    if not found:
        return []
    with connect(runtime.settings) as engine:
        load(ledger, engine, [asset])
        rows = engine.execute(
            f"select distinct partition from {letters(found)} l where not {is_discarded()} and {choice.condition()}"
        ).fetchall()
    wanted = {partition for (partition,) in rows}
    return [f for f in found if f.partition in wanted]


def _judge(runtime: Runtime, ledger: Ledger, asset: str, found: Sequence[LetterFile]) -> list[Verdict]:
    import duckdb

    pins = {p: str(pin) for (_, p), pin in current_pins(ledger.connection, [asset]).items()}
    verdicts = [
        Verdict(asset, f.partition, f.rows, still=f.rows, note=pins[f.partition]) for f in found if f.partition in pins
    ]
    free = [f for f in found if f.partition not in pins]
    if not free:
        return verdicts
    try:
        with judging(runtime, asset, [f.partition for f in free]) as judge:
            verdicts += [judge.judge(f) for f in free]
    except duckdb.Error as e:
        raise engine_error(f"Judging the letters of {asset} again", e) from e
    return sorted(verdicts, key=lambda v: v.partition)


def _became(runtime: Runtime, ledger: Ledger, before: LetterFile) -> Verdict:
    """What became of the letters of a partition that was recomputed."""
    verdict = Verdict(before.asset, before.partition, before.rows)
    now = files(ledger.connection, "current", [before.asset], [before.partition])
    if now and now[0].epoch == before.epoch:
        verdict.still, verdict.note = before.rows, "nothing was published"
        return verdict
    address = runtime.addresses[before.asset]
    table = runtime.store.pin(ledger, address)
    with connect(runtime.settings) as engine:
        after = letters(now) if now else None
        return compare(engine, before, after, table.scan([before.partition]), address.contract.key, verdict)


def _unfinished(ledger: Ledger, asset: str) -> Mapping[str, list[str]]:
    """Replay → partitions of replays that began and didn't end."""
    rows = ledger.connection.execute(
        "select replay, partitions from etl.replays where asset = %s and finished_at is null", (asset,)
    ).fetchall()
    return dict(rows)


def _begin(ledger: Ledger, asset: str, touched: Sequence[str], begun: Mapping[str, Sequence[str]]) -> str:
    """Record what will be recomputed; it takes in what others left undone."""
    replay_id = uuid4().hex
    with ledger.connection.transaction():
        ledger.connection.execute("delete from etl.replays where replay = any(%s)", (list(begun),))
        ledger.connection.execute(
            "insert into etl.replays (replay, asset, partitions) values (%s, %s, %s)",
            (replay_id, asset, list(touched)),
        )
    return replay_id


def _finish(ledger: Ledger, replays: Sequence[str]) -> None:
    ledger.connection.execute("update etl.replays set finished_at = now() where replay = any(%s)", (list(replays),))
