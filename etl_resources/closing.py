"""Close a partition, and reopen it: a commit like any other that changes no row.

The content is republished as an alias with a new epoch: an attempt that was planned before is fenced, and whoever plans
later sees the closing, which is written with the intent (ledger/closings). The commit is then named by an Iceberg tag,
so that the closed figures stay readable for ever, whatever is published later.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from etl_resources.dead_letters.address import LettersAddress
from etl_resources.dead_letters.writing import Letters
from etl_resources.errors import PermanentError, TransientError
from etl_resources.extract.capture import write_empty
from etl_resources.failpoints import failpoint
from etl_resources.ledger.closings import (
    Closing,
    closings_of,
    names_taken,
    write_closing,
)
from etl_resources.ledger.held import forget
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.pins import pins_of
from etl_resources.ledger.records import IntendedPartition, Publish
from etl_resources.run_token import run_token
from etl_resources.runless_attempts import settled_when_failed
from etl_resources.tables.address import TableAddress
from etl_resources.tables.closing_tags import tag_closings
from etl_resources.tables.head import read_head
from etl_resources.tables.publish import PublishOutcome
from etl_resources.tables.schema import field_ids
from etl_resources.tables.stage import StagedPartition
from etl_resources.tables.table_store import TableStore, WrittenPartition

if TYPE_CHECKING:
    import duckdb

Prove = Callable[[Publish], None]
"""Called with what is published, inside the planner's lock; raises when that may not be closed."""


@dataclass(frozen=True)
class Done:
    """A closing, or a reopening, that was published."""

    closing: Closing
    current: Publish
    """What was closed or reopened."""
    outcome: PublishOutcome
    run_id: str


@dataclass(frozen=True)
class Closer:
    """Closes and reopens partitions of one table."""

    store: TableStore
    ledger: Ledger
    engine: "duckdb.DuckDBPyConnection"
    address: TableAddress
    letters: LettersAddress

    def close(self, partition: str, by: str, note: str, run_id: str, prove: Prove) -> Done:
        """Close a partition as it is published now, and name it.

        Raises PermanentError when it isn't published, is closed or pinned, or when `prove` says so; TransientError
        when somebody publishes meanwhile.
        """
        done = self._commit("closed", partition, by, note, run_id, prove)
        failpoint("close.published", self.address.asset)
        tag_closings(self.store.catalog, self.ledger, self.address)
        return done

    def reopen(self, partition: str, by: str, reason: str, run_id: str) -> Done:
        """Let a closed partition follow its inputs again. Its closed figures stay readable under their name.

        Raises PermanentError when it isn't closed, TransientError when somebody publishes meanwhile.
        """
        return self._commit("reopened", partition, by, reason, run_id, lambda _: None)

    def _commit(self, kind: str, partition: str, by: str, note: str, run_id: str, prove: Prove) -> Done:
        started, asset = time.monotonic(), self.address.asset
        self.store.settle(self.ledger, self.address)
        self.store.pin(self.ledger, self.address, strict=False)  # the ledger knows every publish from here on
        closing, current, made_as = self._intend(kind, partition, by, note, run_id, prove)
        attempt, epoch = closing.attempt, closing.epoch
        with settled_when_failed(self.ledger, attempt, f"{asset}, partition {partition}: {kind}"):
            ids = field_ids(self.store.catalog.load_table(self.address.identifier).schema(), self.address.columns)
            marker = write_empty(
                self.engine, self.address, partition, epoch=epoch, token=made_as.token, field_ids=ids
            )  # fmt: skip
            letters = Letters(self.store, self.ledger, self.letters, attempt, run_id, asset)
            letters.carry(self.engine, {partition: made_as.epoch}, epoch)
            staged = StagedPartition(partition, made_as.token, epoch, current.version, current.rows, current.epoch)
            written = WrittenPartition(staged, (marker,), _evidence(made_as, time.monotonic() - started))
            batch = self.store.stage(self.ledger, self.address, attempt, run_id, [written])
        outcome = batch.publish()
        if outcome.fenced:
            raise TransientError(f"{asset}, partition {partition} was published meanwhile. Look at it, and try again.")
        if kind == "reopened":
            forget(self.ledger.connection, asset, partition)
        return Done(replace(closing, snapshot_id=outcome.snapshot_id), current, outcome, run_id)

    def _intend(
        self, kind: str, partition: str, by: str, note: str, run_id: str, prove: Prove
    ) -> tuple[Closing, Publish, Publish]:
        """(closing, what is published, the publish by which its content was made): intent and closing in one
        transaction, ordered with planners: a later one sees the closing, an older one is fenced by its epoch."""
        asset, ledger = self.address.asset, self.ledger
        with ledger.planning(asset):
            table = self.store.catalog.load_table(self.address.identifier)
            heads = {p: h.epoch for p, h in read_head(table).items()}
            current = ledger.at_epochs(asset, {p: e for p, e in heads.items() if p == partition}).get(partition)
            if current is None:
                raise PermanentError(f"{asset}, partition {partition} is not published: there is nothing to close.")
            before = closings_of(ledger.connection, asset).get(partition)
            made_as, tag = current, ""
            if kind == "closed":
                if before is not None:
                    raise PermanentError(f"{asset}, partition {partition} was {before}.")
                if pin := pins_of(ledger.connection, asset).get(partition):
                    raise PermanentError(f"{asset}, partition {partition} is {pin}, before it can be closed.")
                prove(current)
                tag = _free_name(partition, {*table.refs(), *names_taken(ledger.connection, asset)})
            elif before is None:
                raise PermanentError(f"{asset}, partition {partition} is not closed.")
            elif current.restated is not None:  # its inputs gave another content since: it is out of date again
                made_as = ledger.at_epochs(asset, {partition: before.epoch}).get(partition) or self._of_nothing(current)
            epoch = ledger.draw_epoch(above=max(heads.values(), default=0))
            attempt = ledger.open_attempt(asset, run_id)
            ledger.intend(attempt, [IntendedPartition(partition, epoch, made_as.token, made_as.inputs)])
            now, version, rows = datetime.now(UTC), current.version, current.rows
            closing = Closing(asset, partition, epoch, attempt, by, note, version, rows, tag, now, None)
            write_closing(ledger.connection, kind, closing)
        return closing, current, made_as

    def _of_nothing(self, current: Publish) -> Publish:
        """As what was closed is known where the ledger lost from what it was made: whatever its inputs are, they are
        others, so that it is out of date."""
        token = run_token(
            tenant=self.address.tenant, asset=current.asset, partition=current.partition,
            logic_version=self.address.logic_version, inputs=[],
        )  # fmt: skip
        return replace(current, token=token, inputs=(), account=current.own_account)


def _free_name(partition: str, taken: set[str]) -> str:
    """close-2024-05; close-2024-05-2 when it is closed for the second time."""
    name, n = f"close-{partition}", 2
    while name in taken:
        name, n = f"close-{partition}-{n}", n + 1
    return name


def _evidence(made_as: Publish, seconds: float) -> dict[str, object]:
    """What the ledger keeps of a publish that made no row, as of the one that did."""
    return {
        "counts": dict(made_as.counts),
        "account": made_as.account,
        "linked": [],
        "inputs": [vars(i) for i in made_as.inputs],
        "stage_s": round(seconds, 3),
    }
