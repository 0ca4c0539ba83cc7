"""Versions of a table: what each publish made, and names given to some of them (releases)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from etl_resources.conventions import BRANCH_PREFIX
from etl_resources.errors import PermanentError, UnknownCommitError
from etl_resources.suggest import hint
from etl_resources.tables.commit import compare_and_swap, ref_is, retry_conflicts
from etl_resources.tables.head import PartitionHead, read_head
from etl_resources.tables.stage import RUN_KEY, StagedPartition, partitions_of, properties_of
from etl_resources.tables.version_numbers import PARTITIONS_KEY, snapshot_numbers

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

CURRENT = "current"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}")
_RESERVED = re.compile(rf"(?i)main|{CURRENT}|v?\d+|{BRANCH_PREFIX}.*")


@dataclass(frozen=True)
class Version:
    """One version that can still be read."""

    number: int
    snapshot_id: int
    """Newest snapshot with this content: a compaction rearranges files and keeps the number."""
    published_at: datetime
    run_id: str
    partitions: Mapping[str, StagedPartition]
    """What the publish replaced; empty where only a compacted snapshot of the version is left."""
    rows: int | None
    rows_added: int | None
    """Rows more (or, negative, fewer) than before."""
    names: tuple[str, ...]
    current: bool

    @property
    def rollback_to(self) -> int | None:
        """Version whose content was put back; None: computed."""
        return next((p.rollback_to for p in self.partitions.values() if p.rollback_to is not None), None)


def versions(table: "Table") -> list[Version]:
    """Every version whose snapshot is still there, newest first."""
    from pyiceberg.table.snapshots import ancestors_of

    numbers: dict[int, int] = {}
    head = table.current_snapshot()
    names: dict[int, list[str]] = {}
    for name, ref in sorted(table.refs().items()):
        if ref.snapshot_ref_type == "tag":
            names.setdefault(ref.snapshot_id, []).append(name)
    for snapshot_id in [*([head.snapshot_id] if head else []), *names]:
        known = snapshot_numbers(table, snapshot_id)
        numbers |= {s: n for s, n in known.items() if s not in numbers}
    if not head:
        return []
    on_main = [s.snapshot_id for s in ancestors_of(head, table.metadata)]
    order = {s: n for n, s in enumerate([*on_main, *(s for s in numbers if s not in on_main)])}
    by_number: dict[int, list[int]] = {}
    for snapshot_id in sorted(numbers, key=order.__getitem__):
        by_number.setdefault(numbers[snapshot_id], []).append(snapshot_id)
    return [
        _version(
            table, number, snapshots, [n for s in snapshots for n in names.get(s, [])], head.snapshot_id in snapshots
        )
        for number, snapshots in sorted(by_number.items(), reverse=True)
        if number > 0
    ]


def _version(table: "Table", number: int, snapshots: Sequence[int], names: Sequence[str], current: bool) -> Version:
    """snapshots: of this number, newest first; the last one is the publish, if it is still there."""
    first = table.snapshot_by_id(snapshots[-1])
    assert first is not None  # noqa: S101  (read from the same metadata)
    properties = properties_of(table, first.snapshot_id)
    publish = PARTITIONS_KEY in properties
    return Version(
        number,
        snapshots[0],
        datetime.fromtimestamp(first.timestamp_ms / 1000, UTC),
        properties.get(RUN_KEY, ""),
        partitions_of(properties),
        _count(first, "total-records"),
        (_count(first, "added-records") or 0) - (_count(first, "deleted-records") or 0) if publish else None,
        tuple(names),
        current,
    )


def _count(snapshot: "Snapshot", key: str) -> int | None:
    value = snapshot.summary.additional_properties.get(key) if snapshot.summary else None
    return None if value is None else int(value)


def find_version(table: "Table", asset: str, wanted: str) -> Version:
    """A version by number, release name or `current`. Raises PermanentError naming the versions that there are."""
    found = versions(table)
    if not found:
        raise PermanentError(f"{asset} has no version yet. Materialize it first.")
    number = int(wanted.lstrip("vV")) if re.fullmatch(r"[vV]?\d{1,18}", wanted) else None
    for version in found:
        if version.number == number or wanted in version.names or (wanted == CURRENT and version.current):
            return version
    names = [name for version in found for name in version.names]
    if number is None:
        raise PermanentError(f"{asset} has no release {wanted!r}; {hint(wanted, [*names, CURRENT])}.")
    what = "has expired" if 0 < number < found[0].number else "does not exist"
    raise PermanentError(f"{asset}: version {number} {what}. Available: {available(found)}.")


def available(found: Sequence[Version]) -> str:
    """Numbers as ranges, with release names: 3 (2026-Q2), 7-12."""
    ranges: list[list[int]] = []
    for number in sorted(v.number for v in found):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [str(a) if a == b else f"{a}-{b}" for a, b in ranges]
    named = [f"{name} = {v.number}" for v in reversed(found) for name in v.names]
    return ", ".join([*texts, *named]) or "none"


def version_head(table: "Table", asset: str, version: Version) -> dict[str, PartitionHead]:
    """Partition → what a version holds of it. Raises PermanentError when its manifests are gone."""
    try:
        return read_head(table, version.snapshot_id)
    except FileNotFoundError as e:
        raise files_gone(table, asset, (version,), str(e)) from e


def files_gone(table: "Table", asset: str, read: Sequence[Version], why: str) -> PermanentError:
    """The error of versions whose files somebody removed, with the versions to use instead."""
    numbers = [v.number for v in read]
    others = [v for v in versions(table) if v.number not in numbers]
    return PermanentError(
        f"{asset}: files of version {' or '.join(map(str, numbers))} are gone ({why.splitlines()[0]}). "
        f"Available: {available(others)}."
    )


def check_release_name(name: str) -> None:
    """Raises PermanentError for a name that is none, or that could be taken for something else."""
    if not _NAME.fullmatch(name) or _RESERVED.fullmatch(name):
        raise PermanentError(
            f"{name!r} can't name a release: a letter, then at most 62 letters, digits, dots, underscores or hyphens; "
            f"not main, {CURRENT}, a version number, or {BRANCH_PREFIX}…"
        )


def release(
    catalog: "Catalog", identifier: str, asset: str, name: str, wanted: str, *, dry_run: bool = False
) -> Version:
    """Name a version by an Iceberg tag, which expiry spares. The version.

    Raises PermanentError when the name is taken by another version; the same version again changes nothing.
    """
    check_release_name(name)

    def once(_: int) -> Version:
        table = catalog.load_table(identifier)
        version = find_version(table, asset, wanted)
        taken = next((v for v in versions(table) if name in v.names), None)
        if taken is not None and taken.number == version.number:
            return version
        if taken is not None or name in table.refs():
            what = f"version {taken.number}" if taken else "a branch"
            raise PermanentError(f"{asset}: {name!r} names {what} already. Choose another name.")
        if not dry_run:
            try:
                compare_and_swap(catalog, table, (ref_is(name, None),), (_tag(name, version.snapshot_id),))
            except UnknownCommitError:
                ref = catalog.load_table(identifier).refs().get(name)
                if ref is None or ref.snapshot_id != version.snapshot_id:
                    raise
        return version

    return retry_conflicts(once)


def _tag(name: str, snapshot_id: int) -> object:
    from pyiceberg.table.update import SetSnapshotRefUpdate

    return SetSnapshotRefUpdate.model_validate({"ref-name": name, "type": "tag", "snapshot-id": snapshot_id})
