"""Expiry of snapshots: which ones nobody needs any more, and the commit that forgets them.

A snapshot of main is kept while it is current, tagged, the head of a branch, one of the newest versions, or young, and
until `guard_s` after it was superseded: a reader or an attempt that began while it was current may still read it. What
expires is the old end of main's history, without gaps (settling walks it), and snapshots that no branch holds.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from etl_resources.errors import UnknownCommitError
from etl_resources.tables.commit import compare_and_swap
from etl_resources.tables.stage import properties_of
from etl_resources.tables.version_numbers import PARTITIONS_KEY

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot


@dataclass(frozen=True)
class Retention:
    """How long published versions are kept."""

    keep_versions: int = 20
    """The newest versions are kept, however old."""
    keep_s: float = 7 * 86_400.0
    """Versions that were current within this time are kept …"""
    max_versions: int = 50
    """… but not more than this many: metadata stays bounded however often a table is published."""
    guard_s: float = 3_600.0
    """A version is kept this long after it was superseded: the longest time that a reader may take."""


def expirable(
    table: "Table", retention: Retention, *, now: datetime, pinned_since: datetime | None, needed: Collection[int] = ()
) -> list[int]:
    """Snapshot ids that may be forgotten, oldest first.

    pinned_since: when the oldest attempt under way began; what was current since then is kept. needed: kept as well,
    with everything newer.
    """
    from pyiceberg.table.snapshots import ancestors_of

    main = list(ancestors_of(table.current_snapshot(), table.metadata))
    guard = now - timedelta(seconds=retention.guard_s)
    limit_ms = _millis(guard if pinned_since is None else min(guard, pinned_since))
    held = {ref.snapshot_id for ref in table.refs().values()}
    tail = main[_cut(table, main, retention, now, limit_ms, needed) :]
    history = {s.snapshot_id for s in main}
    loose = [s for s in table.snapshots() if s.snapshot_id not in history and s.timestamp_ms <= limit_ms]
    gone = sorted([*tail, *loose], key=lambda s: s.sequence_number or 0)
    return [s.snapshot_id for s in gone if s.snapshot_id not in held]


def _cut(
    table: "Table",
    main: "Sequence[Snapshot]",
    retention: Retention,
    now: datetime,
    limit_ms: int,
    needed: Collection[int],
) -> int:
    """Index in main's history (newest first) from which on everything may go."""
    became_current = {e.snapshot_id: e.timestamp_ms for e in table.metadata.snapshot_log}
    old_ms = _millis(now - timedelta(seconds=retention.keep_s))
    versions, cut = 0, len(main)
    for n, snapshot in enumerate(main):
        if n:
            newer = main[n - 1]
            superseded_ms = became_current.get(newer.snapshot_id, newer.timestamp_ms)
            rank = versions + 1
            too_many = rank > retention.keep_versions and (rank > retention.max_versions or superseded_ms <= old_ms)
            if too_many and superseded_ms <= limit_ms:
                cut = n
                break
        versions += PARTITIONS_KEY in properties_of(table, snapshot.snapshot_id)
    return max([cut, *(n + 1 for n, s in enumerate(main) if s.snapshot_id in needed)])


def expire(catalog: "Catalog", table: "Table", snapshot_ids: Sequence[int]) -> None:
    """Forget the snapshots in one commit. Raises ConflictError when a tag, a branch or main points at one by now."""
    from pyiceberg.table.update import RemoveSnapshotsUpdate

    if not snapshot_ids:
        return
    update = RemoveSnapshotsUpdate.model_validate({"snapshot-ids": list(snapshot_ids)})
    try:
        compare_and_swap(catalog, table, (_unreferenced(snapshot_ids),), (update,))
    except UnknownCommitError:
        left = {s.snapshot_id for s in catalog.load_table(table.name()).snapshots()}
        if left & set(snapshot_ids):
            raise


def _unreferenced(snapshot_ids: Sequence[int]) -> Any:
    """Requirement: the snapshots are there and no ref points at them: removing a snapshot removes its tags.

    Iceberg has no such requirement. This one is checked by the SQL and Glue catalogs of PyIceberg, which validate in
    the client before their own compare-and-swap of the metadata file; a REST catalog refuses it.
    """
    from pyiceberg.exceptions import CommitFailedException
    from pyiceberg.table.update import ValidatableTableRequirement

    wanted = set(snapshot_ids)

    class AssertSnapshotsUnreferenced(ValidatableTableRequirement):
        type: str = "assert-snapshots-unreferenced"

        def validate(self, base_metadata: "TableMetadata | None") -> None:  # type: ignore[override]  # as PyIceberg's do
            known = {s.snapshot_id for s in base_metadata.snapshots} if base_metadata else set()
            held = {r.snapshot_id for r in base_metadata.refs.values()} if base_metadata else set()
            if wanted & held or wanted - known:
                raise CommitFailedException("Requirement failed: a snapshot to expire is gone or was referenced")

    return AssertSnapshotsUnreferenced()


def _millis(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp() * 1000)
