"""Letters that nobody needs any more are taken out of their table, and what the ledger lost is read back from it.

Needed are those of what is published, of versions to which a table can still be rolled back, of attempts that live, and
of the newest attempt of a partition that was refused since its last publish. All others go: those of killed attempts,
of superseded versions, of what was refused before.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from etl_resources.conventions import parse_staged_path
from etl_resources.dead_letters.address import LettersAddress
from etl_resources.dead_letters.discards import FOLDER, restore
from etl_resources.dead_letters.index import LetterFile, WrittenLetters, forget, record
from etl_resources.dead_letters.reading import described, reason_counts
from etl_resources.dead_letters.writing import swap
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import clock, in_use, live_attempts, others_hold_locks
from etl_resources.object_store import ObjectStore
from etl_resources.tables.commit import retry_conflicts
from etl_resources.tables.expiry import Retention, expirable, expire
from etl_resources.tables.head import read_head
from etl_resources.tables.metadata_files import delete_unreferenced_metadata
from etl_resources.tables.orphans import Orphan, delete_orphans
from etl_resources.tables.stage import partitions_of, properties_of

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

Entry = tuple[str, int]
"""Partition and epoch."""
CLOCK_SKEW = timedelta(minutes=1)


@dataclass
class CleanedLetters:
    """What was taken out of a letters table, or would be."""

    removed: list[Entry] = field(default_factory=list)
    """Partition and epoch of letters that nobody needs."""
    orphans: list[Orphan] = field(default_factory=list)
    """Deleted files."""
    metadata_files: int = 0
    metadata_bytes: int = 0


def clean_letters(
    catalog: "Catalog",
    ledger: Ledger,
    address: LettersAddress,
    data: str | None,
    guard: timedelta,
    *,
    dry_run: bool = False,
) -> CleanedLetters:
    """Take out letters that nobody needs, then delete files that nothing references and that are older than the guard.

    data: identifier of the table whose rows were rejected; None for a target. Without a letters table nothing is done.
    """
    from pyiceberg.exceptions import NoSuchTableError

    done = CleanedLetters()
    try:
        since = clock(ledger)
        table = catalog.load_table(address.identifier)
    except NoSuchTableError:
        return done
    found = _entries(table)
    gone = sorted(set(found) - _needed(catalog, ledger, address.asset, data, since))
    if gone:
        over = _over(ledger, address.asset, {epoch for _, epoch in gone})
        lost = data is not None and not others_hold_locks(ledger.connection)
        gone = [(p, e) for p, e in gone if over.get(e, lost)]
    done.removed = gone
    if not dry_run:
        forget(ledger, address.asset, gone)
        swap(catalog, address.identifier, (), [path for entry in gone for path in found[entry]], {})
        retry_conflicts(lambda _: _expire(catalog, ledger, address, guard))
    done.orphans = delete_orphans(catalog, address, ledger, older_than=guard, dry_run=dry_run)
    files_gone = delete_unreferenced_metadata(catalog, address, ledger, older_than=guard, dry_run=dry_run)
    done.metadata_files, done.metadata_bytes = len(files_gone), sum(f.size_bytes for f in files_gone)
    return done


def restore_index(
    catalog: "Catalog", ledger: Ledger, address: LettersAddress, engine: "Callable[[], duckdb.DuckDBPyConnection]"
) -> dict[str, int]:
    """Partition → letters of known publishes that are in the index again."""
    from pyiceberg.exceptions import NoSuchTableError

    lost = ledger.connection.execute(
        "select partition, epoch, attempt, run_id from etl.publishes p where asset = %s "
        "and (counts ->> 'rejected')::bigint > 0 and not exists (select from etl.dead_letter_files f where "
        "(f.asset, f.partition, f.epoch, f.attempt) = (p.asset, p.partition, p.epoch, p.attempt)) order by 1, 2",
        (address.asset,),
    ).fetchall()
    if not lost:
        return {}
    try:
        found = _entries(catalog.load_table(address.identifier))
    except NoSuchTableError:
        return {}
    restored: dict[str, int] = {}
    for partition, epoch, attempt, run_id in lost:
        for path in found.get((partition, epoch), ()):
            place = (address.asset, partition, epoch, attempt, run_id, path)
            file = LetterFile(*place, *described(engine(), path))
            record(ledger.connection, [WrittenLetters(file, reason_counts(engine(), path))])
            restored[partition] = restored.get(partition, 0) + file.rows
    return restored


def restore_discards(
    catalog: "Catalog", ledger: Ledger, address: LettersAddress, engine: "Callable[[], duckdb.DuckDBPyConnection]"
) -> int:
    """Letters that somebody discarded and the ledger forgot; how many."""
    rows = ledger.connection.execute("select path from etl.discards where asset = %s", (address.asset,)).fetchall()
    known = {path for (path,) in rows}
    paths = [o.path for o in ObjectStore.of(catalog, address.location).list(FOLDER) if o.path not in known]
    return sum(restore(ledger, engine(), address.asset, path) for path in sorted(paths))


def _entries(table: "Table") -> dict[Entry, list[str]]:
    """Partition and epoch → files."""
    found: dict[Entry, list[str]] = {}
    for partition, head in read_head(table).items():
        for file in head.files:
            found.setdefault((partition, parse_staged_path(file.file_path)[1]), []).append(file.file_path)
    return found


def _needed(catalog: "Catalog", ledger: Ledger, asset: str, data: str | None, since: datetime) -> set[Entry]:
    """The letters table was read before: who began since then isn't in it, who published since is current."""
    from pyiceberg.exceptions import NoSuchTableError

    live = in_use(ledger, asset, since).epochs
    rows = ledger.connection.execute(
        "select partition, epoch from etl.current_versions where asset = %(asset)s "
        "union select partition, epoch from etl.refused_dead_letter_files where asset = %(asset)s "
        "union select partition, epoch from etl.intent_partitions where epoch = any(%(live)s)",
        {"asset": asset, "live": list(live)},
    ).fetchall()
    needed: set[Entry] = {(p, e) for p, e in rows}
    try:
        table = catalog.load_table(data) if data else None
    except NoSuchTableError:
        table = None
    if table is not None:
        needed |= {(p, head.epoch) for p, head in read_head(table).items()}
        for snapshot in table.snapshots():
            retained = partitions_of(properties_of(table, snapshot.snapshot_id)).values()
            needed |= {(s.partition, s.epoch) for s in retained}
    return needed


def _over(ledger: Ledger, asset: str, epochs: Collection[int]) -> dict[int, bool]:
    """Epoch → whether its attempt is settled; what the ledger doesn't know is absent.

    A dead attempt may have published what nobody recorded yet: it is settled first.
    """
    rows = ledger.connection.execute(
        "select p.epoch, bool_and(i.state <> 'open') from etl.intents i join etl.intent_partitions p using (attempt) "
        "where i.asset = %s and p.epoch = any(%s) group by 1",
        (asset, list(epochs)),
    ).fetchall()
    return dict(rows)


def _expire(catalog: "Catalog", ledger: Ledger, address: LettersAddress, guard: timedelta) -> None:
    """Only the newest snapshot is of use: a file that nobody needs may go once no reader has it open."""
    live = live_attempts(ledger.connection)
    table = catalog.load_table(address.identifier)
    retention = Retention(keep_versions=0, keep_s=0, max_versions=0, guard_s=guard.total_seconds())
    pinned = live[0].opened_at - CLOCK_SKEW if live else None
    expire(catalog, table, expirable(table, retention, now=datetime.now(UTC), pinned_since=pinned))
