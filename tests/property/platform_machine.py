"""What may happen to a platform, as rules: the state machine of test_stateful.py."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import ClassVar

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from etl_assets.graph.runtime import Runtime
from etl_assets.recover import recover
from etl_resources.dead_letters.upkeep import clean_letters
from etl_resources.engines import embedded
from etl_resources.errors import PermanentError, TransientError, UnknownCommitError
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.pins import unpin
from etl_resources.settings import load_settings
from etl_resources.tables.expiry import Retention
from etl_resources.tables.maintenance import MaintenancePolicy, maintain_table
from tests.property.machine_steps import MAX_HELD, Steps
from tests.property.published_model import TABLES, Proof, PublishedModel, prove_all_current
from tests.property.tiny_sales import FLOW, MONTHS, Erp, State
from tests.property.tiny_sources import CHANGES, TOUCH_ALL, change, without_bad_rows
from tests.property.writers import (
    IN_CAPTURE,
    IN_PUBLISH,
    IN_STAGE,
    STAGES,
    CaptureWriter,
    Died,
    Held,
    RollbackWriter,
    Servers,
    failing_at,
    overtaken,
    writer_of,
)

RANGES = st.sampled_from([MONTHS, MONTHS[:2], MONTHS[1:], MONTHS[:1], MONTHS[1:2], MONTHS[2:]])
ASSETS, UNTIL = st.sampled_from(FLOW), st.sampled_from(STAGES[1:])

GREEDY = MaintenancePolicy(Retention(keep_versions=1, keep_s=0, max_versions=1, guard_s=0), file_bytes=1 << 20)


class Platform(Steps, RuleBasedStateMachine):
    """Rules are what happens to a platform; the model says what must be published then."""

    servers: ClassVar[Servers]

    @initialize()
    def start(self) -> None:
        dsn = self.servers.new_database()
        self.servers.set_erp(dsn)
        self.erp = Erp(dsn)
        settings_ = load_settings(
            postgres_dsn=self.servers.new_database(), home=self.servers.folder, lock_timeout_s=1, maintain_guard_s=0
        )
        self.runtime = Runtime(self.servers.project, settings_)
        self.model, self.held = PublishedModel(), list[Held]()
        self.proof = Proof(self.runtime)
        self._watch = Ledger.open(settings_)
        self.ledger = self._watch.__enter__()
        self._change(CHANGES["fill"], 0)
        self._capture(MONTHS)
        for asset in FLOW:
            self._compute(asset, MONTHS)

    # What happens to the source

    @rule(kind=st.sampled_from(sorted(CHANGES)), seed=st.integers(0, 9999))
    def source_changes(self, kind: str, seed: int) -> None:
        self._change(CHANGES[kind], seed)

    @rule(back=st.integers(1, 4))
    def source_reverts(self, back: int) -> None:
        """A → B → A: an earlier content must not be taken for an earlier publish."""
        self._show(self.model.states[max(0, len(self.model.states) - 1 - back)])

    def _change(self, how: Callable[[State, int], State], seed: int) -> None:
        self._show(change(self.model.states[-1], how, seed))

    def _show(self, state: State) -> None:
        self.erp.show(state)
        self.model.states.append(state)

    # Runs, at once or held in the middle

    @rule(months=RANGES)
    def run_everything(self, months: Sequence[str]) -> None:
        """Of some months, undisturbed; but writers that are held may be older or newer."""
        self._capture(months)
        for asset in FLOW:
            self._compute(asset, months)

    @rule(months=RANGES, hold=st.booleans(), fault=st.sampled_from([None, None, *IN_CAPTURE]))
    def capture(self, months: Sequence[str], hold: bool, fault: str | None) -> None:
        self._capture(months, fault, hold=hold)

    @rule(asset=ASSETS, months=RANGES, until=UNTIL, fault=st.sampled_from([None, None, *IN_STAGE]))
    def compute(self, asset: str, months: Sequence[str], until: str, fault: str | None) -> None:
        self._compute(asset, months, until, fault)

    @precondition(lambda self: self.held)
    @rule(n=st.integers(0, MAX_HELD - 1), fault=st.sampled_from([None, None, *IN_PUBLISH, *IN_STAGE]))
    def go_on(self, n: int, fault: str | None) -> None:
        """A writer that slept does its next stage."""
        held = self.held.pop(n % len(self.held))
        if isinstance(held.writer, CaptureWriter):
            self._publish_capture(held, fault)
        else:
            self._advance(held, fault, STAGES[STAGES.index(held.writer.stage) + 1])

    @rule(asset=ASSETS, first=RANGES, second=RANGES, kind=st.sampled_from([TOUCH_ALL, "move", "empty a month"]),
          seed=st.integers(0, 9999))  # fmt: skip
    def publish_at_once(self, asset: str, first: Sequence[str], second: Sequence[str], kind: str, seed: int) -> None:
        """Two writers of one table: the second one publishes when the first one is about to."""
        self._change(CHANGES[kind], seed)
        self._capture(MONTHS)
        for above in FLOW[: FLOW.index(asset)]:
            self._compute(above, MONTHS)
        already = len(self.held)
        for months in (first, second):
            self._advance(Held(writer_of(self.runtime, asset, months), {asset: {}}), None, "staged")
        staged = [self.held.pop() for _ in self.held[already:]]

        def publish_next() -> None:
            if staged:
                self._advance(staged.pop(), None, "published")

        with overtaken(asset, publish_next):
            publish_next()
        publish_next()  # the first one had nothing to commit

    @precondition(lambda self: self.held)
    @rule(n=st.integers(0, MAX_HELD - 1))
    def die(self, n: int) -> None:
        self.held.pop(n % len(self.held)).writer.end()

    @rule(lost=st.sampled_from(["", "", "publishes", "dead_letter_files"]))
    def recover(self, lost: str) -> None:
        """Everything that died is settled, the living are left alone; what the ledger lost is rebuilt."""
        if lost and not self.held:
            self._recover()  # a publish that nobody knows yet has only its open intent
            self.ledger.connection.execute(f"delete from etl.{lost}".encode())
        self._recover()

    def _recover(self) -> None:
        recovery = recover(self.runtime)
        assert not recovery.unsettled, recovery.unsettled
        self.model.unrecorded.clear()

    @rule(asset=st.sampled_from(TABLES))
    def maintain(self, asset: str) -> None:
        """As greedy as can be: what held writers and readers of the current version need is kept all the same."""
        with embedded.connect(self.runtime.settings) as engine:
            maintain_table(self.runtime.store.catalog, self.ledger, engine, self.runtime.addresses[asset], GREEDY)
        letters, data = self.runtime.letters_addresses[asset], self.runtime.addresses[asset].identifier
        clean_letters(self.runtime.store.catalog, self.ledger, letters, data, timedelta(0))
        for month in MONTHS:
            self.model.unrecorded.discard((asset, month))

    @rule(asset=st.sampled_from(TABLES), back=st.integers(1, 3), only=st.sampled_from([(), MONTHS[:1], MONTHS[1:2]]),
          fault=st.sampled_from([None, None, *IN_PUBLISH, *IN_STAGE]))  # fmt: skip
    def roll_back(self, asset: str, back: int, only: Sequence[str], fault: str | None) -> None:
        """A table, or one month of it, to one of its versions that are still there."""
        numbers = sorted(self.model.versions[asset])[:-1][-back:]
        if not numbers:
            return
        writer = RollbackWriter(self.runtime, asset)
        try:
            with failing_at(fault):
                epoch = writer.roll_back(numbers[0], only)
            self.model.roll_back(asset, numbers[0], only, epoch)
        except Died:
            published = fault in ("published, no evidence", "published, evidence written")
            if published:
                recorded = fault == "published, evidence written"
                self.model.roll_back(asset, numbers[0], only, writer.epoch(), recorded=recorded)
        except (PermanentError, UnknownCommitError, TransientError) as e:
            event(f"roll back: {type(e).__name__}")
        else:
            event(f"roll back: {'done' if epoch else 'nothing differs'}")
        writer.end()

    @rule(asset=st.sampled_from(TABLES))
    def unpin(self, asset: str) -> None:
        """Let the table follow its inputs again."""
        self.runtime.store.settle(self.ledger, self.runtime.addresses[asset])
        for month in MONTHS:
            self.model.unrecorded.discard((asset, month))
        released = unpin(self.ledger.connection, asset, MONTHS)
        assert set(released) == self.model.pinned[asset], f"{asset}: unpinned {released}"
        self.model.pinned[asset].clear()

    @invariant()
    def readers_see_the_model(self) -> None:
        if hasattr(self, "ledger"):
            self.proof.check(self.model, self.ledger)

    def teardown(self) -> None:
        """If nothing failed: whatever happened, a race is won as it should, and one undisturbed run makes all right."""
        if not hasattr(self, "ledger"):
            return
        try:
            if sys.exc_info()[0] is None:
                self._finish()
        finally:
            for held in self.held:
                with suppress(Exception):
                    held.writer.end()
            self._watch.__exit__(None, None, None)
            self.runtime.store.catalog.engine.dispose()  # type: ignore[attr-defined]
            self.erp.close()
            self.servers.empty_bucket()

    def _finish(self) -> None:
        while self.held:
            self.held.pop().writer.end()
        self._recover()
        for asset in TABLES:
            self.unpin(asset)
        self._show(without_bad_rows(self.model.states[-1]))
        self.publish_at_once(FLOW[len(self.model.states) % len(FLOW)], MONTHS, MONTHS[1:], TOUCH_ALL, 0)
        self.run_everything(MONTHS)
        self._recover()
        self.proof.check(self.model, self.ledger)
        prove_all_current(self.model)
        self.proof.nothing_left()
        for asset in FLOW:
            assert self._compute(asset, MONTHS).plan.attempt is None, f"{asset} is computed twice"
