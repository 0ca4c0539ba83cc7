"""`data-pipeline recover`: settle what crashed, put back what the ledger lost, remove what nobody needs.

Everything is told by the tables and the serving database themselves. A dry run makes the same looks, with the ledger
in a transaction that is rolled back.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from etl_assets.graph.runtime import Runtime
from etl_assets.project import ServingNode
from etl_assets.raw_cleanup import clean_raw
from etl_assets.recovery_report import Action, Recovery, Unsettled
from etl_assets.serving_recovery import drop_indexes, rebuild_serving, settle_serving
from etl_resources.classify import classify
from etl_resources.conventions import BRANCH_PREFIX
from etl_resources.dead_letters.address import LettersAddress
from etl_resources.dead_letters.upkeep import clean_letters, restore_discards, restore_index
from etl_resources.errors import PermanentError
from etl_resources.ledger.attempt_records import raise_epoch
from etl_resources.ledger.ledger import Ledger
from etl_resources.object_store import ObjectStore
from etl_resources.sinks.postgres_recovery import drop_dead_staging
from etl_resources.sinks.postgres_tables import STAGING_SCHEMA
from etl_resources.suggest import hint
from etl_resources.tables.closing_tags import tag_closings
from etl_resources.tables.orphans import delete_orphans
from etl_resources.tables.rebuild import LostPublishes, missing_inputs
from etl_resources.tables.settle import drop_stale_branches, settle_attempts

if TYPE_CHECKING:
    import duckdb

Progress = Callable[[str], None]
SERVING_DATABASE = "serving database"


def recover(
    runtime: Runtime, tables: Sequence[str] = (), *, dry_run: bool = False, progress: Progress = lambda _: None
) -> Recovery:
    """Recover tables and serving targets (default: all, and what belongs to none).

    Raises PermanentError for an unknown table, TransientError when the ledger can't be reached.
    """
    project, started = runtime.project, time.monotonic()
    valid = [*project.tables, *(n.name for n in project.serving)]
    for name in tables:
        if name not in valid:
            raise PermanentError(f"Unknown table {name!r}; {hint(name, valid)}.")
    found = Recovery(dry_run)
    with Ledger.rehearse(runtime.settings) if dry_run else Ledger.open(runtime.settings) as ledger:
        session = _Session(runtime, ledger, frozenset(tables or valid), found, progress)
        session.settle()
        session.rebuild()
        session.remove_leftovers(everywhere=not tables)
    found.seconds = round(time.monotonic() - started, 1)
    return found


@dataclass
class _Session:
    """One recovery: its steps in order. A step that fails is told and doesn't hold the others."""

    runtime: Runtime
    ledger: Ledger
    wanted: Collection[str]
    found: Recovery
    progress: Progress
    settled: set[str] = field(default_factory=set)

    def settle(self) -> None:
        """Dead attempts: fenced, then recorded as what they were."""
        for asset in self._assets_with_open_attempts():
            self.progress(f"{asset}: settling")
            with self._step(asset):
                settled = self._settle_one(asset)
                self.settled |= set(settled)
                for attempt, state in settled.items():
                    why = {
                        "published": "its session ended after the commit, before the ledger knew",
                        "abandoned": "its session ended before it published; it is fenced and can't publish any more",
                    }[state]
                    self._tell(asset, f"attempt {attempt} recorded as {state}", why)

    def rebuild(self) -> None:
        """Publishes that the stores show and the ledger doesn't know; what they were made from comes with them."""
        restored_any = False
        for node in self._targets:
            with self._step(node.name):
                restored, missing = rebuild_serving(self.runtime, node, self.ledger)
                restored_any |= bool(restored)
                self._tell_restored(node.name, restored)
                self._tell_missing(node.name, missing)
        for name in self._tables:
            self.progress(f"{name}: comparing with the ledger")
            with self._step(name):
                self._tell_missing(name, sorted(p for p, _ in self._lost[name].restore_table()))
        self._restore_inputs()
        for name in self._tables if not self.found.dry_run else ():
            with self._step(name):
                for tag in tag_closings(self.runtime.store.catalog, self.ledger, self.runtime.addresses[name]):
                    self._tell(name, f"closing named {tag}", "its process ended before it did")
        for name, lost in self._lost.items():
            restored_any |= bool(lost.restored)
            self._tell_restored(name, sorted(f"{p} (epoch {e})" for p, e in lost.restored))
        for name, address in self._letters.items():
            with self._step(name):
                catalog = self.runtime.store.catalog
                for partition, rows in restore_index(catalog, self.ledger, address, lambda: self._engine).items():
                    self._tell(name, f"{rows} rejected rows of {partition} restored", "the ledger lost them")
                if discarded := restore_discards(catalog, self.ledger, address, lambda: self._engine):
                    self._tell(name, f"{discarded} discarded letters restored", "the ledger lost them")
        if restored_any and not self.found.dry_run:
            raise_epoch(self.ledger.connection, max(lost.newest_epoch() for lost in self._lost.values()))

    def remove_leftovers(self, *, everywhere: bool) -> None:
        """Branches, staging tables, files and uploads of attempts that are over."""
        dry_run, guard = self.found.dry_run, timedelta(seconds=self.runtime.settings.maintain_guard_s)
        if everywhere:
            with self._step(SERVING_DATABASE):
                for table in drop_dead_staging(self.ledger, guard, besides=self.settled, dry_run=dry_run):
                    self._tell(SERVING_DATABASE, f"{STAGING_SCHEMA}.{table} dropped", "its attempt is over")
        for node in self._targets:
            with self._step(node.name):
                for index in drop_indexes(
                    self.runtime, node, self.ledger, guard, besides=self.settled, dry_run=dry_run
                ):
                    self._tell(node.name, f"index {index} deleted", "it isn't published and its attempt is over")
        self._remove_of_tables(guard)
        self._clean_letters(guard)

    def _remove_of_tables(self, guard: timedelta) -> None:
        catalog, dry_run = self.runtime.store.catalog, self.found.dry_run
        for name in self._tables:
            address = self.runtime.addresses[name]
            self.progress(f"{name}: looking for leftovers")
            with self._step(name):
                for branch in drop_stale_branches(
                    catalog, self.ledger, address.identifier, guard, besides=self.settled, dry_run=dry_run
                ):
                    self._tell(name, f"branch {branch} dropped", f"attempt {branch[len(BRANCH_PREFIX) :]} is over")
            with self._step(name):
                for orphan in delete_orphans(catalog, address, self.ledger, older_than=guard, dry_run=dry_run):
                    self._tell(name, f"{orphan.path} deleted, {orphan.size_bytes} bytes", orphan.why)
            with self._step(name):
                self._abort_uploads(name, ObjectStore.of(catalog, address.location), guard)
            with self._step(name):
                cleaned = clean_raw(self.runtime, self.ledger, self.runtime.project.tables[name], dry_run=dry_run)
                for raw in cleaned.objects:
                    self._tell(name, f"{raw.path} deleted, {raw.size_bytes} bytes", "no delivery needs it")
                for path in cleaned.uploads:
                    self._tell(name, f"unfinished upload of {path} aborted", "its capture is over")

        self._clean_letters(guard)

    def _clean_letters(self, guard: timedelta) -> None:
        """Letters of killed attempts, and those that nobody needs any more."""
        catalog, dry_run = self.runtime.store.catalog, self.found.dry_run
        for name, letters in self._letters.items():
            data = self.runtime.addresses[name].identifier if name in self.runtime.addresses else None
            with self._step(name):
                old = clean_letters(catalog, self.ledger, letters, data, guard, dry_run=dry_run)
                for partition, epoch in old.removed:
                    self._tell(name, f"dead letters of {partition} (epoch {epoch}) removed", "nobody needs them")
                for orphan in old.orphans:
                    self._tell(name, f"{orphan.path} deleted, {orphan.size_bytes} bytes", orphan.why)

    def _settle_one(self, asset: str) -> dict[str, str]:
        address, node = self.runtime.addresses.get(asset), self._serving.get(asset)
        dry_run = self.found.dry_run
        if address is not None:
            catalog = self.runtime.store.catalog
            return settle_attempts(catalog, self.ledger, asset, address.identifier, dry_run=dry_run)
        if node is not None:
            return settle_serving(self.runtime, node, self.ledger, dry_run=dry_run)
        self.found.unsettled.append(
            Unsettled(asset, "has open attempts and is no longer in the project. Put its manifest back and recover.")
        )
        return {}

    def _assets_with_open_attempts(self) -> list[str]:
        rows = self.ledger.connection.execute(
            "select distinct asset from etl.intents where state = 'open' order by 1"
        ).fetchall()
        known = {*self.runtime.addresses, *self._serving}
        return [asset for (asset,) in rows if asset in self.wanted or (asset not in known and self.wanted == known)]

    def _restore_inputs(self) -> None:
        """Restored publishes name their inputs; those may name others."""
        tried: set[tuple[str, str, int]] = set()
        while True:
            missing = missing_inputs(self.ledger, list(self.runtime.addresses))
            new = {(a, p, e) for a, entries in missing.items() for p, e in entries} - tried
            if not new:
                return
            tried |= new
            for asset in missing:
                with self._step(asset):
                    self._lost_of(asset).restore_entries({(p, e) for a, p, e in new if a == asset})

    def _abort_uploads(self, name: str, store: ObjectStore, guard: timedelta) -> None:
        before = store.now() - guard
        for upload in store.open_uploads():
            if upload.started_at <= before:
                if not self.found.dry_run:
                    store.abort(upload)
                self._tell(name, f"unfinished upload of {upload.path} aborted", f"begun {upload.started_at:%F %T} UTC")

    @cached_property
    def _serving(self) -> dict[str, ServingNode]:
        return {n.name: n for n in self.runtime.project.serving}

    @property
    def _targets(self) -> list[ServingNode]:
        return [n for n in self._serving.values() if n.name in self.wanted]

    @property
    def _tables(self) -> list[str]:
        return [name for name in self.runtime.addresses if name in self.wanted]

    @property
    def _letters(self) -> dict[str, LettersAddress]:
        return {name: a for name, a in self.runtime.letters_addresses.items() if name in self.wanted}

    @cached_property
    def _lost(self) -> dict[str, LostPublishes]:
        return {name: self._new_lost(name) for name in self._tables}

    def _lost_of(self, name: str) -> LostPublishes:
        """Also of a table that wasn't asked for, with the history that it retains."""
        if name not in self._lost:
            self._lost[name] = self._new_lost(name)
            self._lost[name].restore_table()
        return self._lost[name]

    def _new_lost(self, name: str) -> LostPublishes:
        return LostPublishes(self.runtime.store.catalog, self.ledger, self.runtime.addresses[name])

    @cached_property
    def _engine(self) -> "duckdb.DuckDBPyConnection":
        from etl_resources.engines.embedded import connect

        return connect(self.runtime.settings)

    def _tell(self, table: str, what: str, why: str) -> None:
        self.found.actions.append(Action(table, what, why))

    def _tell_restored(self, name: str, entries: Sequence[str]) -> None:
        for entry in entries:
            self._tell(name, f"publish of {entry} recorded", "it is published and the ledger had lost it")

    def _tell_missing(self, name: str, partitions: Sequence[str]) -> None:
        if partitions:
            self.found.unsettled.append(
                Unsettled(
                    name,
                    f"{', '.join(partitions)} published, but neither the ledger nor evidence tells from what. "
                    "Materialize the asset again to publish them anew.",
                )
            )

    @contextmanager
    def _step(self, table: str) -> Iterator[None]:
        """A failure is told under the table's name. Without a session at the ledger nothing goes on."""
        connection = self.ledger.connection
        try:
            with connection.transaction() if self.found.dry_run else nullcontext():
                yield
        except Exception as e:
            known = classify(e)
            if known is None or connection.closed:
                raise
            self.found.unsettled.append(Unsettled(table, str(known)))


def settle_dead(runtime: Runtime, assets: Collection[str]) -> Recovery:
    """Settle what crashed at these assets (ledger/liveness.assets_to_settle names them), and nothing else."""
    started, found = time.monotonic(), Recovery()
    with Ledger.open(runtime.settings) as ledger:
        _Session(runtime, ledger, assets, found, lambda _: None).settle()
    found.seconds = round(time.monotonic() - started, 1)
    return found
