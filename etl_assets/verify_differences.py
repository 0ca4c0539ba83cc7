"""The comparisons of `data-pipeline verify`: readings of the stores in, differences out. Reads nothing itself."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from etl_assets.verify_report import Difference
from etl_resources.ledger.records import Publish
from etl_resources.quality.stored_content import EMPTY, DuplicateKeys, StoredContent
from etl_resources.tables.head import PartitionHead

RESTORE = (
    "Its files changed after they were published, or the ledger did: restore them from a backup. "
    "A rerun prunes the partition while its inputs are the same."
)
RECOVER = "Its index or its files of dead letters are incomplete: run `data-pipeline recover`, or restore a backup."
OUTDATED = "It was published under another version of its manifest, so hashes may differ: materialize it, then verify."
MATERIALIZE = "Materialize this partition: the run settles what an interrupted one left."
LOST = (
    "The target lost what was published, or another server is asked: check its settings, then materialize this "
    "partition."
)
REPLACE = "Delete its row from etl_serving.commits, then materialize this partition: the run replaces it."


@dataclass(frozen=True)
class TableReading:
    """An Iceberg table as found: its head, its files' content, and what the ledger says."""

    asset: str
    heads: Mapping[str, PartitionHead]
    ledger: Mapping[str, Publish]
    content: Mapping[str, StoredContent] = field(default_factory=dict)
    """Partition → reread files; partitions that can't be read are in `unreadable`."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    scanned: Mapping[str, int] | None = None
    """Partition → rows by iceberg_scan; None when it failed because of unreadable files."""
    duplicates: Sequence[DuplicateKeys] = ()
    missing_columns: Sequence[str] = ()
    """Columns of the contract that the table doesn't have yet; nothing is reread then."""
    foreign: str | None = None
    """A file that this platform didn't write, in words; nothing is reread then."""
    outdated: Collection[str] = frozenset()
    """Partitions whose token isn't what today's manifests give for the same inputs."""
    letters: Mapping[str, int] | None = None
    """Partition → dead letters, reread; None: not looked at."""


@dataclass(frozen=True)
class Commit:
    """A partition's row in the commit table of the serving database."""

    epoch: int
    version: str


@dataclass(frozen=True)
class ServedReading:
    """A target as found: its rows or documents, its commit records, the ledger, and its table's reread content."""

    asset: str
    source: str
    content: Mapping[str, StoredContent]
    commits: Mapping[str, Commit]
    ledger: Mapping[str, Publish]
    published: Mapping[str, StoredContent]
    """Partition → reread content of the Iceberg table that it serves."""
    missing_columns: Sequence[str] = ()
    outdated: Collection[str] = frozenset()
    foreign: Sequence[str] = ()
    """What readers find beside the target's own, in words."""


def table_differences(reading: TableReading) -> list[Difference]:
    """Files against ledger, ledger against table, Iceberg reader against files, keys."""
    if reading.foreign is not None:
        advice = "Another writer committed to the table: set its main branch back to the snapshot before."
        return [Difference(reading.asset, None, "files", "this platform's only", reading.foreign, advice)]
    found = [_columns(reading.asset, reading.missing_columns)] if reading.missing_columns else []
    found += [d for p in sorted(reading.heads) for d in _partition(reading, p)]
    for partition in sorted(set(reading.ledger) - set(reading.heads)):
        known = reading.ledger[partition]
        advice = "The table lost a published partition: restore it, or materialize it again."
        found.append(Difference(reading.asset, partition, "table", f"epoch {known.epoch} (ledger)", "no files", advice))
    if reading.scanned is not None:
        found += _scan(reading, reading.scanned)
    for twice in reading.duplicates:
        where = twice.first if twice.first == twice.last else f"{twice.first} and {twice.last}"
        advice = f"Materialize {where} together, from bronze on: a row that moved left its old copy behind."
        surplus = f"{twice.keys} keys with {twice.surplus_rows} surplus rows in {where}"
        found.append(Difference(reading.asset, twice.first, "keys", "each key once", surplus, advice))
    return found


def _columns(asset: str, missing: Sequence[str]) -> Difference:
    advice = "The contract is newer than the table: materialize the asset, which adds them."
    return Difference(asset, None, "columns", "the contract's", f"no {', '.join(missing)}", advice)


def _partition(reading: TableReading, partition: str) -> Iterator[Difference]:
    asset, head, known = reading.asset, reading.heads[partition], reading.ledger.get(partition)
    if known is None:
        yield Difference(asset, partition, "ledger", f"epoch {head.epoch} (table)", "no publish", MATERIALIZE)
    elif known.epoch != head.epoch or not _wrote(known, head):
        expected = f"epoch {head.epoch}, {head.token_prefix} (table)"
        found = f"epoch {known.epoch}, token {known.token[:16]}, attempt {known.attempt} (ledger)"
        yield Difference(asset, partition, "epoch", expected, found, MATERIALIZE)
    if partition in reading.unreadable:
        yield Difference(asset, partition, "files", "readable", reading.unreadable[partition], RESTORE)
    content = reading.content.get(partition)
    if content is None or known is None:
        return
    if content.rows != known.rows:
        yield Difference(asset, partition, "rows", f"{known.rows} (ledger)", f"{content.rows} (files)", RESTORE)
    if content.version != known.version:
        expected, found = f"{known.version} (ledger)", f"{content.version} (files)"
        advice = OUTDATED if partition in reading.outdated else RESTORE
        yield Difference(asset, partition, "content", expected, found, advice)
    rejected = known.counts.get("rejected", 0)
    if reading.letters is not None and reading.letters.get(partition, 0) != rejected:
        letters = f"{reading.letters.get(partition, 0)} (files)"
        yield Difference(asset, partition, "dead letters", f"{rejected} (ledger)", letters, RECOVER)
    if content.outside:
        found = f"{content.outside} rows of another one"
        yield Difference(asset, partition, "files", "rows of this partition only", found, RESTORE)


def _wrote(known: Publish, head: PartitionHead) -> bool:
    """A path carries its token, or the attempt where the token is known only after writing (captures)."""
    return known.token.startswith(head.token_prefix) or known.attempt.endswith(head.token_prefix)


def _scan(reading: TableReading, scanned: Mapping[str, int]) -> Iterator[Difference]:
    advice = "The table's metadata and its files disagree: another writer committed to it. Restore the table."
    for partition in sorted(set(scanned) | set(reading.content)):
        content, seen = reading.content.get(partition), scanned.get(partition, 0)
        rows = content.rows if content else 0
        if rows != seen:
            expected, found = f"{rows} (files)", f"{seen} (iceberg_scan)"
            yield Difference(reading.asset, partition, "rows", expected, found, advice)


def served_differences(reading: ServedReading) -> list[Difference]:
    """What is served against its commit records and the ledger, and against the Iceberg content (parity)."""
    if reading.missing_columns:
        return [_columns(reading.asset, reading.missing_columns)]
    advice = "Somebody else added it: take it out. Or the target's `load` changed: materialize all its partitions."
    found = [Difference(reading.asset, None, "readers", "the target's only", f, advice) for f in reading.foreign]
    found += [d for p in sorted(reading.commits) for d in _committed(reading, p)]
    for partition in sorted(set(reading.ledger) - set(reading.commits) - set(reading.content)):
        epoch = f"epoch {reading.ledger[partition].epoch} (ledger)"
        found.append(Difference(reading.asset, partition, "served", epoch, "nothing", LOST))
    for partition in sorted(set(reading.content) - set(reading.commits)):
        rows = f"{reading.content[partition].rows} rows"
        known = partition in reading.published
        next_step = "Materialize this partition: the run replaces them." if known else "Delete them."
        advice = f"Somebody else wrote them, or the commit row was deleted. {next_step}"
        found.append(Difference(reading.asset, partition, "commit", "no rows without one", rows, advice))
    return found


def _committed(reading: ServedReading, partition: str) -> Iterator[Difference]:
    asset, commit = reading.asset, reading.commits[partition]
    known, published = reading.ledger.get(partition), reading.published.get(partition)
    content = reading.content.get(partition) or EMPTY
    if content.version != commit.version:
        expected, found = f"{commit.version} (commit table)", f"{content.version} (rows)"
        advice = OUTDATED if partition in reading.outdated else REPLACE
        yield Difference(asset, partition, "content", expected, found, advice)
    if known is None or (known.epoch, known.version) != (commit.epoch, commit.version):
        found = f"epoch {known.epoch}, {known.version} (ledger)" if known else "no publish (ledger)"
        expected = f"epoch {commit.epoch}, {commit.version} (commit table)"
        yield Difference(asset, partition, "epoch", expected, found, MATERIALIZE)
    if published is None:
        advice = f"Materialize {reading.source} for this partition, or delete its rows and its commit row."
        yield Difference(asset, partition, "parity", f"published in {reading.source}", "served only", advice)
    elif published.version != content.version and not _but_for_refused(known, published, content):
        expected, found = f"{published.version} ({reading.source})", f"{content.version} (rows)"
        behind = commit.version == content.version
        advice = "It is behind: materialize this partition of the target." if behind else REPLACE
        yield Difference(asset, partition, "parity", expected, found, advice)


def _but_for_refused(known: Publish | None, published: StoredContent, content: StoredContent) -> bool:
    """Whether it is served but for the rows that the store refused, each of which is a dead letter."""
    refused = known.counts.get("rejected", 0) if known else 0
    return (
        bool(refused)
        and known is not None
        and (published.version == known.inputs[0].version and content.rows + refused == published.rows)
    )


def not_served(reading: ServedReading) -> list[str]:
    """Partitions that are published and wait to be served for the first time."""
    return sorted(set(reading.published) - set(reading.commits) - set(reading.ledger))


def listed(partitions: Collection[str], shown: int = 6) -> str:
    """Partition keys for a line of text."""
    names = sorted(partitions)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
