"""Stage: one catalog commit that puts an attempt's files on its own branch; main is untouched."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_resources.conventions import branch_name, parse_staged_path
from etl_resources.errors import FencedError, PermanentError, UnknownCommitError
from etl_resources.failpoints import failpoint
from etl_resources.tables.commit import build_snapshot, compare_and_swap, point_branch, ref_is, retry_conflicts
from etl_resources.tables.head import read_head
from etl_resources.tables.version_numbers import PARTITIONS_KEY

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

ATTEMPT_KEY = "etl.attempt"
RUN_KEY = "etl.run-id"


@dataclass(frozen=True)
class StagedPartition:
    """One partition of a staged snapshot, as the commit's summary carries it."""

    partition: str
    token: str
    epoch: int
    version: str
    rows: int
    alias_of: int | None = None
    """Epoch whose published content equals this one: the staged file is a rowless marker that raises the epoch."""
    rollback_to: int | None = None
    """Version of the table whose content a rollback puts back: the files are that version's own."""

    def as_summary(self) -> dict[str, Any]:
        entry = {"token": self.token, "epoch": self.epoch, "version": self.version, "rows": self.rows}
        details = {"alias_of": self.alias_of, "rollback_to": self.rollback_to}
        return entry | {k: v for k, v in details.items() if v is not None}


def summary_of(attempt: str, run_id: str, partitions: Sequence[StagedPartition]) -> dict[str, str]:
    """Summary of a snapshot: which attempt, and partition → token, epoch, version, rows."""
    entries = {p.partition: p.as_summary() for p in partitions}
    return {
        PARTITIONS_KEY: json.dumps(entries, separators=(",", ":"), sort_keys=True),
        ATTEMPT_KEY: attempt,
        RUN_KEY: run_id,
    }


def partitions_of(summary: Mapping[str, str]) -> dict[str, StagedPartition]:
    """The partition map of a summary; empty for a snapshot that isn't ours."""
    entries = json.loads(summary.get(PARTITIONS_KEY, "{}"))
    return {p: StagedPartition(partition=p, **e) for p, e in entries.items()}


def properties_of(table: "Table", snapshot_id: int) -> dict[str, str]:
    """Our properties in a snapshot's summary."""
    snapshot = table.snapshot_by_id(snapshot_id)
    return dict(snapshot.summary.additional_properties) if snapshot and snapshot.summary else {}


def committed_by(table: "Table", attempt: str) -> tuple[int, dict[str, str]] | None:
    """(snapshot id, our properties) of what an attempt committed, read back from main's history; None: nothing."""
    from pyiceberg.table.snapshots import ancestors_of

    for snapshot in ancestors_of(table.current_snapshot(), table.metadata):
        properties = properties_of(table, snapshot.snapshot_id)
        if properties.get(ATTEMPT_KEY) == attempt:
            return snapshot.snapshot_id, properties
    return None


def stage(
    catalog: "Catalog",
    identifier: str,
    attempt: str,
    run_id: str,
    files: Sequence["DataFile"],
    partitions: Sequence[StagedPartition],
) -> int:
    """Snapshot id on the attempt's branch. Aliased partitions keep their data; the others are replaced.

    Raises FencedError when the branch exists already: attempts are never shared.
    """
    from pyiceberg.table.update import SetSnapshotRefUpdate

    branch = branch_name(attempt)

    def once(_: int) -> int:
        table = catalog.load_table(identifier)
        if branch in table.refs():
            raise FencedError(f"{identifier}: branch {branch} exists already. Attempts are never shared; run again.")
        producer, updates = build_snapshot(
            table,
            add=files,
            delete=replaced_files(table, partitions),
            summary=summary_of(attempt, run_id, partitions),
        )
        updates = (
            *(u for u in updates if not isinstance(u, SetSnapshotRefUpdate)),
            point_branch(branch, producer.snapshot_id),
        )
        failpoint("stage.before_swap", identifier)
        try:
            compare_and_swap(catalog, table, (ref_is(branch, None),), updates, producer)
        except UnknownCommitError:
            ref = catalog.load_table(identifier).refs().get(branch)
            if ref is None or ref.snapshot_id != producer.snapshot_id:
                raise
        failpoint("stage.after_swap", identifier)
        return int(producer.snapshot_id)

    return retry_conflicts(once)


def prove_rows(identifier: str, partitions: Iterable[StagedPartition], files: Iterable["DataFile"]) -> None:
    """The files to commit hold the rows that were audited. Raises PermanentError; an alias has a rowless marker."""
    rows: dict[str, int] = {}
    for file in files:
        partition = parse_staged_path(file.file_path)[0]
        rows[partition] = rows.get(partition, 0) + file.record_count
    for p in partitions:
        if p.alias_of is None and rows.get(p.partition, 0) != p.rows:
            raise PermanentError(
                f"{identifier}, partition {p.partition}: {p.rows} rows were audited and {rows.get(p.partition, 0)} "
                "would be published. Nothing is: this is a defect of the platform."
            )


def replaced_files(table: "Table", partitions: Sequence[StagedPartition]) -> list["DataFile"]:
    """Files of main that the partitions replace: all of a partition, or the old markers of an aliased one."""
    heads = read_head(table)
    return [
        f
        for p in partitions
        if p.partition in heads
        for f in heads[p.partition].files
        if p.alias_of is None or (not f.record_count and len(heads[p.partition].files) > 1)
    ]
