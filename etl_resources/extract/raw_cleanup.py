"""Original bytes that no delivery needs: found in the raw zone, and deleted.

Kept: the record of every delivery whose attempt published, may still publish, or is unknown to the ledger; the objects
that it names, whichever run landed them; the page markers beside it; what somebody else wrote; what is younger than
the guard.

A capture takes over what earlier runs landed. So nothing is deleted while one observes (it holds the lock that orders
captures) or is under way (its attempt, opened in that lock, lives).
"""

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

from etl_resources.conventions import parse_raw_note, parse_raw_path, raw_note_kind
from etl_resources.extract.raw_zone import RecordedDelivery
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import DeliveredAttempt, alone, delivered_attempts
from etl_resources.ledger.records import capture_lock
from etl_resources.object_store import ObjectStore, StoredObject
from etl_resources.retries import retry_transient, with_retries_of_here

READERS = 8
"""Records read at once."""
OVER = ("failed", "abandoned", "superseded")


@dataclass
class RawCleanup:
    """What was deleted, or would be."""

    objects: list[StoredObject] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    """Unfinished uploads that were aborted, by path."""
    notes: list[str] = field(default_factory=list)
    """What was left undone, and why."""


def clean_raw_zone(
    store: ObjectStore, ledger: Ledger, system: str, dataset: str, *, older_than: timedelta, dry_run: bool = False
) -> RawCleanup:
    """Delete what is not needed and older than the guard, by the store's clock. store: that of the raw location.

    Settle the dataset's bronze table before: an open attempt's objects are kept. Raises TransientError when some
    could not be deleted, PermanentError for a record that can't be read; it may name objects that must stay.
    """
    before, done = store.now() - older_than, RawCleanup()
    listed = list(store.list(dataset))
    records = _read(store, [o.path for o in listed if raw_note_kind(o.path) == "delivery"])
    with alone(ledger, capture_lock(system, dataset)) as nobody_observes:
        attempts = delivered_attempts(ledger, f"bronze.{dataset}")
        if not nobody_observes or any(a.is_live for a in attempts):
            done.notes.append("raw zone left alone: a capture is under way")
            return done
        needed = _needed(store, records, attempts, dry_run)
        runs = {note[0] for path in needed if (note := parse_raw_note(path)) is not None}
        old = [o for o in listed if o.modified_at <= before and o.path not in needed]
        done.objects = sorted((o for o in old if _may_go(o.path, runs)), key=_notes_first)
        uploads = [u for u in store.open_uploads(dataset) if u.started_at <= before]
        done.uploads = [u.path for u in uploads]
        if not dry_run:
            store.delete(o.path for o in done.objects)
            for upload in uploads:
                store.abort(upload)
    return done


def _needed(
    store: ObjectStore, listed: Sequence[RecordedDelivery], attempts: Sequence[DeliveredAttempt], dry_run: bool
) -> set[str]:
    """Paths of the records that are kept and of what they name. To a dry run unsettled, dead attempts are over."""
    over = {a.attempt for a in attempts if a.state in OVER or (dry_run and a.state == "open")}
    recorded = {a.record for a in attempts if a.record is not None and a.attempt not in over}
    since = _read(store, recorded - {r.path for r in listed})  # written after the listing
    kept = [r for r in (*listed, *since) if r.path in recorded or r.attempt not in over]
    return {r.path for r in kept} | {path for r in kept for path in r.objects}


def _read(store: ObjectStore, paths: Collection[str]) -> list[RecordedDelivery]:
    """Records as they are there; one that is gone names nothing any more."""
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(with_retries_of_here(lambda path: _read_one(store, path)), sorted(paths))
        return [record for record in found if record is not None]


def _read_one(store: ObjectStore, path: str) -> RecordedDelivery | None:
    from botocore.exceptions import ClientError

    try:
        return RecordedDelivery.parse(path, retry_transient(lambda: store.read(path), path))
    except ClientError as e:
        if e.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
            return None
        raise


def _may_go(path: str, runs: Collection[str]) -> bool:
    """Whether it is an object, a record or a page marker that isn't needed. runs: of which a delivery is kept."""
    note = parse_raw_note(path)
    if note is None:
        return parse_raw_path(path) is not None
    run_id, kind = note
    return kind == "delivery" or run_id not in runs


def _notes_first(found: StoredObject) -> tuple[bool, str]:
    """What names others goes before them: a retry trusts the page markers of its run."""
    return not raw_note_kind(found.path), found.path
