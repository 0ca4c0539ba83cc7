"""Named points of the commit protocol at which a test may end, stop or break this process.

A failpoint does nothing unless the environment variable ETL_TEST_FAILPOINTS is set. It is for tests only: it is no
field of Settings, so neither a manifest nor `.etl/stack.json` can set it. Its value is a JSON list of objects:

    point    a name of FAILPOINTS
    action   "kill" (SIGKILL to this process), "stop" (create the file `reached`, then SIGSTOP), "raise" (a crash),
             "restart" (a session is lost) or "unknown" (so is a commit's answer): Dagster starts the step again
    match    text that the call must be about, e.g. an asset's name (default: any)
    nth      which of the matching calls acts (default 1)
    reached  path of a file that is created when the point is reached, with the process's id (optional but for "stop")
    once     true: only where that file doesn't exist yet, so in one of many processes

It is read when the first failpoint is passed. Unknown names and actions are refused.
"""

import json
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from etl_resources.errors import RestartError, UnknownCommitError

SETTING = "ETL_TEST_FAILPOINTS"
ACTIONS = ("kill", "stop", "raise", "restart", "unknown")

FAILPOINTS: Mapping[str, str] = {
    "plan.inputs_read": "Inside the planning transaction: input versions are read, nothing is drawn or intended.",
    "plan.intended": "Inside the planning transaction: epoch drawn and intent written, not committed.",
    "plan.recorded": "The planning transaction is committed, nothing is computed.",
    "capture.snapshot_taken": "The source's snapshot is taken and its epoch drawn, nothing is read.",
    "capture.schema_recorded": "What became of the source's columns is recorded, the table doesn't follow yet.",
    "capture.observed": "The source is compared with what is published, nothing is captured.",
    "capture.intended": "A table's intent is written, none of its files.",
    "capture.files_written": "A table's files are in S3, the ledger knows nothing of them.",
    "capture.totals_recorded": "Control totals are recorded, no table is staged.",
    "deliver.observed": "A delivered source is observed, its epoch drawn, its attempt open; no file is landed.",
    "deliver.landed": "The original bytes are in the raw zone, nothing is made of them.",
    "deliver.files_written": "A delivered table's files are in S3, not audited.",
    "stage.file_written": "A computed partition's file is in S3, not audited.",
    "spark.files_written": "In an executor: a task's files are in S3, its driver hasn't heard of them.",
    "stage.rejected_kept": "A partition's rejected rows are in a file that no table knows, its good rows not audited.",
    "letters.before_swap": "Letters are about to be committed to their table.",
    "letters.committed": "An attempt's letters are in their table, the ledger's index doesn't know them.",
    "letters.indexed": "The index has an attempt's letters, nothing of its data is staged.",
    "replay.recorded": "What a replay will recompute is in the ledger, no run has begun.",
    "backfill.recorded": "A backfill is in the ledger, no run of it was asked for.",
    "backfill.submitted": "Dagster's daemon has a backfill, nobody waits for it yet.",
    "acceptance.held": "A KPI's partition waits for a person, nothing of it is published.",
    "acceptance.recorded": "A person's acceptance is in the ledger, nothing is published by it.",
    "close.published": "A closing is published and recorded, no tag names it.",
    "close.tagged": "A closing's tag is at the table, the ledger doesn't know it.",
    "notice.sent": "The webhook took a restatement notice, the ledger doesn't know it.",
    "audit.passed": "A partition of an Iceberg table passed its audit, nothing is staged.",
    "stage.recorded": "What will be staged is in the ledger, no snapshot of it exists.",
    "stage.before_swap": "The staged snapshot's manifests are written, the catalog doesn't know them.",
    "stage.after_swap": "The staged snapshot is on the attempt's branch, the process hasn't heard so.",
    "stage.committed": "The batch is staged, its publish hasn't begun.",
    "publish.proved": "What was audited still holds beside the head, the commit isn't built.",
    "publish.rebased": "The head moved: the snapshot on the new head is built, not committed.",
    "publish.before_swap": "The compare-and-swap of main is about to be sent.",
    "publish.after_swap": "Main moved, the process hasn't heard so.",
    "publish.committed": "Main moved, the ledger doesn't know it.",
    "evidence.recording": "Inside the ledger's transaction: publishes are written, the attempt isn't closed.",
    "evidence.recorded": "The ledger knows the publish, Dagster doesn't.",
    "abandon.fenced": "A failed publish's branch is dropped, the ledger doesn't know that it failed.",
    "settle.fenced": "A dead attempt's branch is dropped, the ledger doesn't know what became of it.",
    "postgres.staging_created": "The serving target's staging table exists and is empty.",
    "postgres.copied": "A partition is in the staging table, not audited.",
    "serving.audited": "A partition that was written for a serving target passed its audit.",
    "postgres.before_transaction": "All partitions are staged, the serving transaction hasn't begun.",
    "postgres.locked": "Inside the serving transaction: commit rows locked, epochs checked, nothing replaced.",
    "postgres.replaced": "Inside the serving transaction: rows are replaced, commit rows are old.",
    "postgres.before_commit": "Inside the serving transaction: COMMIT is about to be sent.",
    "postgres.after_commit": "The serving transaction is committed, the ledger doesn't know it.",
    "postgres.recorded": "The ledger knows the serving publish, Dagster doesn't.",
    "postgres.abandon_fenced": "A failed attempt's staging table is dropped, the ledger doesn't know that it failed.",
    "postgres.settle_fenced": "A dead attempt's staging table is dropped, the ledger doesn't know what became of it.",
    "elasticsearch.index_created": "A partition's index exists and is empty; nobody searches it.",
    "elasticsearch.held": "The attempt holds the target that it upserts; no older one can write to it any more.",
    "elasticsearch.sending": "A partition's documents are about to be sent.",
    "elasticsearch.filled": "A partition's documents are sent, nothing is reread.",
    "elasticsearch.before_swap": "All partitions are written and described, the aliases' swap is about to be sent.",
    "elasticsearch.before_commit": "All partitions are upserted, a commit record is about to be sent.",
    "elasticsearch.published": "The swap or the commit records are done, the ledger doesn't know it.",
    "elasticsearch.recorded": "The ledger knows the publish; what was superseded is still there.",
    "elasticsearch.abandon_fenced": "A failed attempt can't publish any more, the ledger doesn't know that it failed.",
    "elasticsearch.settle_fenced": "A dead attempt can't publish any more, the ledger doesn't know what became of it.",
}
"""Name → the state in which a process that ends here leaves everything."""


class FailpointError(Exception):
    """What action "raise" raises: a crash that no code foresees."""


@dataclass
class _Armed:
    """One entry of the setting."""

    point: str
    action: str
    match: str = ""
    nth: int = 1
    reached: str | None = None
    once: bool = False
    passed: int = 0
    counting: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.point not in FAILPOINTS:
            raise ValueError(f"{SETTING}: there is no failpoint {self.point!r}. One of: {', '.join(FAILPOINTS)}.")
        if self.action not in ACTIONS:
            raise ValueError(f"{SETTING}: there is no action {self.action!r}. One of: {', '.join(ACTIONS)}.")
        if (self.action == "stop" or self.once) and self.reached is None:
            raise ValueError(f"{SETTING}: action 'stop', and once, need `reached`, the file that says so.")

    def is_due(self, about: str) -> bool:
        """Whether this call is the one; several threads may pass at once."""
        if self.match not in about:
            return False
        with self.counting:
            self.passed += 1
            return self.passed == self.nth

    def act(self) -> None:
        if self.reached is not None and not self._tell(Path(self.reached)):
            return
        if self.action == "raise":
            raise FailpointError(f"Failpoint {self.point}.")
        if self.action == "restart":
            raise RestartError(f"Failpoint {self.point}.")
        if self.action == "unknown":
            raise UnknownCommitError(f"Failpoint {self.point}.")
        os.kill(os.getpid(), signal.SIGKILL if self.action == "kill" else signal.SIGSTOP)

    def _tell(self, reached: Path) -> bool:
        """Whether this process is to act."""
        written = reached.with_name(f"{reached.name}.{os.getpid()}")
        written.write_text(str(os.getpid()))
        try:
            if self.once:
                reached.hardlink_to(written)
            else:
                written.replace(reached)
        except FileExistsError:
            return False
        finally:
            written.unlink(missing_ok=True)
        return True


def failpoint(name: str, about: str = "") -> None:
    """Pass a point of FAILPOINTS; `about` is what the call deals with, e.g. the asset's name."""
    if name not in FAILPOINTS:
        raise ValueError(f"There is no failpoint {name!r}: add it to FAILPOINTS.")
    for armed in _armed():
        if armed.point == name and armed.is_due(about):
            armed.act()


@cache
def _armed() -> tuple[_Armed, ...]:
    entries: list[dict[str, Any]] = json.loads(os.environ.get(SETTING) or "[]")
    return tuple(_Armed(**e) for e in entries)
