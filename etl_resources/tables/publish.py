"""Publish: one compare-and-swap that makes audited partitions visible, fenced by epoch and by the attempt's branch."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from etl_resources.conventions import branch_name, parse_staged_path
from etl_resources.errors import FencedError, RestartError, UnknownCommitError
from etl_resources.failpoints import failpoint
from etl_resources.tables.commit import (
    build_snapshot,
    compare_and_swap,
    point_branch,
    ref_is,
    remove_branch,
    retry_conflicts,
)
from etl_resources.tables.head import added_files, read_head
from etl_resources.tables.stage import (
    ATTEMPT_KEY,
    RUN_KEY,
    StagedPartition,
    committed_by,
    partitions_of,
    properties_of,
    prove_rows,
    replaced_files,
    summary_of,
)
from etl_resources.tables.version_numbers import head_number, snapshot_numbers

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table


@dataclass(frozen=True)
class PublishOutcome:
    """What one publish did. Fenced partitions lost to a newer epoch and were left as they are."""

    snapshot_id: int
    published: tuple[StagedPartition, ...]
    fenced: tuple[str, ...]
    how: str
    """fast_forward | rebase | fenced | read_back"""
    tries: int = 1
    number: int | None = None
    """Version of the table that this publish made."""


def publish(
    catalog: "Catalog",
    identifier: str,
    attempt: str,
    staged_id: int,
    good: Collection[str] | None = None,
    prove: Callable[["Table"], None] | None = None,
) -> PublishOutcome:
    """Publish the audited snapshot `staged_id` for the partitions in `good` (default: all).

    prove: called with the table as it is before each try; raises when what was audited no longer holds beside it.

    Fast-forward where nothing intervened, else the audited files are appended to the new head; data is never
    rewritten. Raises FencedError when the attempt's branch is gone or moved (recovery, or another attempt).
    """

    def once(n: int) -> PublishOutcome:
        table = catalog.load_table(identifier)
        if prove is not None:
            prove(table)
        failpoint("publish.proved", identifier)
        try:
            outcome = _publish_once(catalog, table, identifier, attempt, staged_id, good, n)
        except UnknownCommitError:
            settled = find_published(catalog.load_table(identifier), attempt)
            if settled is None:
                raise
            return replace(settled, fenced=_left_out(table, staged_id, settled, good), tries=n)
        failpoint("publish.after_swap", identifier)
        return outcome

    return retry_conflicts(once)


def _publish_once(
    catalog: "Catalog",
    table: "Table",
    identifier: str,
    attempt: str,
    staged_id: int,
    good: Collection[str] | None,
    tries: int,
) -> PublishOutcome:
    branch = branch_name(attempt)
    ref = table.refs().get(branch)
    if ref is None or ref.snapshot_id != staged_id:
        raise FencedError(f"{identifier}: branch {branch} is gone or moved; this attempt may no longer publish.")
    staged_snapshot, head = table.snapshot_by_id(staged_id), table.current_snapshot()
    assert staged_snapshot is not None  # noqa: S101  (the ref above points at it)
    assert head is not None  # noqa: S101  (tables are created with a snapshot)
    properties = properties_of(table, staged_id)
    staged = partitions_of(properties)
    wanted = [p for name, p in sorted(staged.items()) if good is None or name in good]
    heads = read_head(table)
    winners = [p for p in wanted if p.partition not in heads or heads[p.partition].epoch < p.epoch]
    fenced = tuple(p.partition for p in wanted if p not in winners)
    guards = (
        ref_is("main", head.snapshot_id),
        ref_is(branch, staged_id),
    )
    drop = remove_branch(branch)
    if not winners:
        compare_and_swap(catalog, table, guards, (drop,))
        return PublishOutcome(head.snapshot_id, (), fenced, "fenced", tries)
    # also before a fast-forward: the head may have moved before staging
    prove_aliases(identifier, winners, {name: head.epoch for name, head in heads.items()})
    names = {p.partition for p in winners}
    added = [f for f in added_files(table, staged_id) if parse_staged_path(f.file_path)[0] in names]
    prove_rows(identifier, winners, added)
    if staged_snapshot.parent_snapshot_id == head.snapshot_id and len(winners) == len(staged):
        forward = point_branch("main", staged_id)
        failpoint("publish.before_swap", identifier)
        compare_and_swap(catalog, table, guards, (forward, drop))
        return PublishOutcome(staged_id, tuple(winners), fenced, "fast_forward", tries, head_number(table) + 1)
    producer, updates = build_snapshot(
        table,
        add=added,
        delete=replaced_files(table, winners),
        summary=summary_of(properties[ATTEMPT_KEY], properties[RUN_KEY], winners),
    )
    failpoint("publish.rebased", identifier)
    compare_and_swap(catalog, table, guards, (*updates, drop), producer)
    return PublishOutcome(producer.snapshot_id, tuple(winners), fenced, "rebase", tries, head_number(table) + 1)


def _left_out(table: "Table", staged_id: int, outcome: PublishOutcome, good: Collection[str] | None) -> tuple[str, ...]:
    """Staged partitions that were wanted and not published: they were fenced."""
    wanted = {p for p in partitions_of(properties_of(table, staged_id)) if good is None or p in good}
    return tuple(sorted(wanted - {p.partition for p in outcome.published}))


def prove_aliases(name: str, winners: Collection[StagedPartition], published: Mapping[str, int]) -> None:
    """An alias holds only for the content that it was compared with. Raises RestartError.

    name: table or target, for the message. published: partition → epoch of what is published now.
    """
    moved = [p.partition for p in winners if p.alias_of is not None and published.get(p.partition) != p.alias_of]
    if moved:
        raise RestartError(f"{name}: {', '.join(moved)} changed since this attempt compared its content. Run again.")


def find_published(table: "Table", attempt: str) -> PublishOutcome | None:
    """What an attempt published, read back from main's history; None when it didn't."""
    found = committed_by(table, attempt)
    if found is None:
        return None
    snapshot_id, properties = found
    published = tuple(partitions_of(properties).values())
    number = snapshot_numbers(table, snapshot_id)[snapshot_id] if published else None
    return PublishOutcome(snapshot_id, published, (), "read_back", number=number)


def drop_branch(catalog: "Catalog", identifier: str, attempt: str) -> bool:
    """Fence an attempt: without its branch it can't publish. Whether there was a branch."""
    branch = branch_name(attempt)

    def once(_: int) -> bool:
        table = catalog.load_table(identifier)
        ref = table.refs().get(branch)
        if ref is None:
            return False
        guard = ref_is(branch, ref.snapshot_id)
        try:
            compare_and_swap(catalog, table, (guard,), (remove_branch(branch),))
        except UnknownCommitError:
            if branch in catalog.load_table(identifier).refs():
                raise
        return True

    return retry_conflicts(once)
