"""Roll back: the content of an older version becomes the newest one, in a commit like any other.

The old version's own files are put back beside a rowless marker with a new epoch, so that no writer older than the
rollback can publish over it. Partitions are pinned with the intent, before anything is committed (ledger/pins).
"""

import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etl_resources.dead_letters.address import LettersAddress
from etl_resources.dead_letters.writing import Letters
from etl_resources.errors import PermanentError, TransientError
from etl_resources.extract.capture import write_empty
from etl_resources.ledger.closings import refuse_closed
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.pins import write_pins
from etl_resources.ledger.records import IntendedPartition
from etl_resources.progress import report
from etl_resources.rollback_plan import RollbackPlan, RollbackPlanner, RolledPartition
from etl_resources.runless_attempts import settled_when_failed
from etl_resources.tables.address import TableAddress
from etl_resources.tables.head import read_head
from etl_resources.tables.publish import PublishOutcome
from etl_resources.tables.schema import field_ids
from etl_resources.tables.stage import StagedPartition
from etl_resources.tables.table_store import TableStore, WrittenPartition
from etl_resources.tables.versions import available, versions

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.table import Table

MAX_TRIES = 10
"""A publish between planning and committing makes the rollback plan again, so often at most."""


@dataclass(frozen=True)
class RollbackOutcome:
    """A rollback that was committed."""

    plan: RollbackPlan
    attempt: str
    run_id: str
    epoch: int
    published: PublishOutcome


@dataclass(frozen=True)
class Rollback:
    """One table to be rolled back. `captured_in`: what orders the captures that write it (Ledger.ordering_captures)."""

    store: TableStore
    ledger: Ledger
    engine: "duckdb.DuckDBPyConnection"
    address: TableAddress
    letters: LettersAddress
    captured_in: tuple[str, ...] = ()

    def plan(self, wanted: str, partitions: Collection[str] = ()) -> RollbackPlan:
        """What differs from the version, in these partitions (default: all); writes nothing.

        Raises as RollbackPlanner.plan.
        """
        table = self.store.catalog.load_table(self.address.identifier)
        return RollbackPlanner(self.ledger, self.engine, self.address, table).plan(wanted, partitions)

    def run(self, wanted: str, partitions: Collection[str], run_id: str, reason: str) -> RollbackOutcome | None:
        """Commit it; None when nothing differs. Raises TransientError when publishers were faster every time."""
        for n in range(1, MAX_TRIES + 1):
            self.store.settle(self.ledger, self.address)
            self.store.pin(self.ledger, self.address, strict=False)  # the ledger knows every publish from here on
            plan = self.plan(wanted, partitions)
            if not plan.partitions:
                return None
            try:
                return self._commit(plan, run_id, reason)
            except _OvertakenError:
                if n == MAX_TRIES:
                    raise
                report(self.address.asset, "planning the rollback again: the table changed", tries=n)
        raise AssertionError("unreachable")

    def _commit(self, plan: RollbackPlan, run_id: str, reason: str) -> RollbackOutcome:
        started, asset = time.monotonic(), self.address.asset
        attempt, epoch = self._intend(plan, run_id, reason)
        with settled_when_failed(self.ledger, attempt, f"Rolling back {asset}"):
            table = self.store.catalog.load_table(self.address.identifier)
            written = [self._written(plan, rolled, epoch, table, started) for rolled in plan.partitions]
            self._carry_letters(plan, attempt, run_id, epoch)
            batch = self.store.stage(
                self.ledger, self.address, attempt, run_id, written, prove=lambda head: _prove_head(head, asset, plan)
            )
        outcome = batch.publish()
        report(asset, "rolled back", partitions=len(outcome.published), to=plan.version.number, version=outcome.number)
        return RollbackOutcome(plan, attempt, run_id, epoch, outcome)

    def _intend(self, plan: RollbackPlan, run_id: str, reason: str) -> tuple[str, int]:
        """Intent and pins in one transaction, ordered with planners and captures: a later one sees the pins."""
        asset = self.address.asset
        with ExitStack() as locks:
            if self.captured_in:
                locks.enter_context(self.ledger.ordering_captures(*self.captured_in))
            locks.enter_context(self.ledger.planning(asset))
            refuse_closed(self.ledger.connection, asset, [r.partition for r in plan.partitions])
            epoch = self.ledger.draw_epoch(above=max(plan.epochs.values(), default=0))
            attempt = self.ledger.open_attempt(asset, run_id)
            intended = [IntendedPartition(r.partition, epoch, r.token(self.address), r.inputs) for r in plan.partitions]
            self.ledger.intend(attempt, intended)
            pinned = {r.partition: epoch for r in plan.partitions}
            write_pins(self.ledger.connection, attempt, asset, pinned, plan.version.number, reason)
        return attempt, epoch

    def _written(
        self, plan: RollbackPlan, rolled: RolledPartition, epoch: int, table: "Table", started: float
    ) -> WrittenPartition:
        """The version's files beside a marker that carries the epoch."""
        partition, token, after = rolled.partition, rolled.token(self.address), rolled.after
        ids = field_ids(table.schema(), self.address.columns)
        marker = write_empty(self.engine, self.address, partition, epoch=epoch, token=token, field_ids=ids)
        staged = StagedPartition(partition, token, epoch, rolled.version, rolled.rows, rollback_to=plan.version.number)
        evidence = {
            "counts": dict(after.counts) if after else {},
            "account": after.own_account if after else None,
            "linked": list(rolled.linked),
            "fingerprint": after.fingerprint if after else None,
            "inputs": [vars(i) for i in rolled.inputs],
            "stage_s": round(time.monotonic() - started, 3),
        }
        head = plan.files.get(partition)
        kept = tuple(f for f in head.files if f.record_count) if head else ()
        return WrittenPartition(staged, (marker,), evidence, kept)

    def _carry_letters(self, plan: RollbackPlan, attempt: str, run_id: str, epoch: int) -> None:
        """The rejected rows of the publishes whose content is put back, as this attempt's."""
        back = {r.partition: r.after.epoch for r in plan.partitions if r.after and r.after.counts.get("rejected")}
        letters = Letters(self.store, self.ledger, self.letters, attempt, run_id, self.address.asset)
        letters.carry(self.engine, back, epoch)


class _OvertakenError(TransientError):
    """Something was published after the rollback was planned."""


def _prove_head(head: "Table", asset: str, plan: RollbackPlan) -> None:
    """The head is the one that was compared, and the version still there: its files can't have been cleaned away."""
    if head.snapshot_by_id(plan.version.snapshot_id) is None:
        raise PermanentError(
            f"{asset}: version {plan.version.number} expired meanwhile. Available: {available(versions(head))}."
        )
    if {p: h.epoch for p, h in read_head(head).items()} != dict(plan.epochs):
        raise _OvertakenError(f"{asset}: published meanwhile. Roll back again.")
