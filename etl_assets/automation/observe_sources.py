"""Looks at every source as cheaply as its kind allows, and marks the partitions whose capture has something to look at.

Postgres: rows past the watermark, and once in a while every partition (the sweep: its capture compares counts and
hashes, which finds deleted rows and changes without a stamp). Files: the listing. An HTTP API is its own pages: a
capture is asked for once in a while. What a capture finds decides, never what was observed.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from etl_assets.graph.runtime import Runtime
from etl_assets.project import TableNode
from etl_resources.calendar import WHOLE
from etl_resources.classify import classify
from etl_resources.conventions import raw_location
from etl_resources.errors import DataPipelineError, PermanentError
from etl_resources.extract.postgres import open_source
from etl_resources.extract.raw_zone import RawZone
from etl_resources.extract.watermark import Bound, Changes, find_changes, read_bound
from etl_resources.ledger import marks
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.marks import CHANGED, POLL, SWEEP, SourceLook
from etl_resources.ledger.state import LedgerState, Place
from etl_resources.manifest_sources import PostgresSource, S3FilesSource
from etl_resources.object_store import ObjectStore
from etl_resources.partition_sql import Placement
from etl_resources.verdicts import ChangeKind, Observation

if TYPE_CHECKING:
    import psycopg

Marked = Mapping[str, Sequence[str]]
"""Kind of mark → partitions."""
BUDGET_S = 15.0
"""No source is begun to be looked at after this; those that were looked at longest ago come first."""
STATEMENT_TIMEOUT_S = 10
"""Of one look at a table: where more changed than can be read in it, every partition is compared instead."""
REST = timedelta(minutes=5)
"""A source whose look failed is left alone for so long."""


@dataclass
class Observed:
    """What the looks of one tick found."""

    files: dict[Place, Observation] = field(default_factory=dict)
    """Of delivered files: what lies there differs from what is published."""
    changed: dict[str, list[str]] = field(default_factory=dict)
    """Bronze table → partitions that were marked as changed."""
    swept: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    watermark_age_s: dict[str, float] = field(default_factory=dict)
    held_by: dict[str, str] = field(default_factory=dict)


class SourceObserver:
    """The looks of one tick; state: what is published."""

    def __init__(self, runtime: Runtime, ledger: Ledger, state: LedgerState, now: datetime) -> None:
        self._runtime, self._ledger, self._state, self._now = runtime, ledger, state, now
        self._rules = runtime.project.platform.keep_fresh
        self._looks = marks.looks(ledger.connection)
        self.found = Observed()

    def observe(self, budget_s: float = BUDGET_S) -> Observed:
        """Look at everything that the time allows. One that can't be looked at doesn't hold the others."""
        started = time.monotonic()
        for names, look in sorted(self._sources(), key=lambda s: min(map(self._looked_at, s[0]))):
            if resting := self._resting(names):
                self.found.problems |= resting
                continue
            if time.monotonic() - started > budget_s:
                break
            try:
                look()
            except Exception as e:
                known = classify(e)
                if known is None:
                    raise
                for name in names:
                    self.found.problems[name] = str(known)
                    marks.record_problem(self._ledger.connection, name, str(known), self._now)
        return self.found

    def _resting(self, names: Sequence[str]) -> Mapping[str, str]:
        """Problems of sources whose look failed a moment ago: a dead server must not take the time of every tick."""
        looks = [look for n in names if (look := self._looks.get(n)) is not None]
        return {
            look.source: look.problem or "" for look in looks if look.failed_at and self._now - look.failed_at < REST
        }

    def _sources(self) -> Iterator[tuple[Sequence[str], Callable[[], None]]]:
        """(bronze tables that are looked at together, how); only of what has been published once."""
        systems: dict[str, list[TableNode]] = {}
        for node in self._runtime.project.tables.values():
            source = node.dataset.source
            if node.layer != "bronze" or source is None or not self._state.published.get(node.name):
                continue
            if isinstance(source, PostgresSource):
                systems.setdefault(source.system, []).append(node)
            elif isinstance(source, S3FilesSource):
                yield [node.name], lambda node=node: self._files(node)  # type: ignore[misc]
            else:
                yield [node.name], lambda node=node: self._poll(node)  # type: ignore[misc]
        for system, nodes in systems.items():
            yield [n.name for n in nodes], lambda system=system, nodes=nodes: self._postgres(system, nodes)  # type: ignore[misc]

    def _looked_at(self, name: str) -> datetime:
        look = self._looks.get(name)
        return look.looked_at if look and look.looked_at else datetime.min.replace(tzinfo=self._now.tzinfo)

    def _look(self, node: TableNode) -> SourceLook:
        return self._looks.get(node.name) or SourceLook(node.name)

    def _postgres(self, system: str, nodes: Sequence[TableNode]) -> None:
        dsn, setting = self._runtime.source_dsn(system)
        timeout_s = self._runtime.settings.postgres_connect_timeout_s
        with open_source(dsn, setting=setting, timeout_s=timeout_s) as connection:
            connection.execute(f"set statement_timeout = '{STATEMENT_TIMEOUT_S}s'")
            bound, problem = None, None
            try:
                bound = read_bound(connection, setting)
            except PermanentError as e:
                problem = str(e)
            found = [self._table(n, bound, problem, connection) for n in nodes]
        seen = 0
        if any(partitions for _, by_kind in found for partitions in by_kind.values()):
            with self._ledger.ordering_captures(system):  # a capture with a greater epoch sees all that was seen here
                seen = self._ledger.draw_epoch(self._newest(nodes))
        self._record(found, seen)

    def _table(
        self, node: TableNode, bound: Bound | None, problem: str | None, connection: "psycopg.Connection[Any]"
    ) -> tuple[SourceLook, Marked]:
        """The look at one table, and the partitions to mark by kind."""
        source, look = node.dataset.source, self._look(node)
        assert isinstance(source, PostgresSource)  # noqa: S101  (only those are captured together)
        published = sorted(self._state.published[node.name])
        all_seen = replace(look, watermark=None, digests={}, held_by=None, problem=None, swept_at=self._now)
        due = look.swept_at is None or self._now - look.swept_at >= timedelta(hours=self._rules.sweep_every_hours)
        to_compare = published if due else self._unpinned(node, look)
        swept_at = self._now if due else look.swept_at
        if source.change_column is None or bound is None:
            told = problem if source.change_column else None
            if told:
                self.found.problems[node.name] = told
            return replace(all_seen, swept_at=swept_at, problem=told), {SWEEP: to_compare}
        if bound.held_by:
            self.found.held_by[node.name] = bound.held_by
        if look.watermark is None and bound.frozen:
            return replace(all_seen, swept_at=swept_at, held_by=bound.held_by), {SWEEP: to_compare}
        first = look.watermark is None
        since = bound.until if look.watermark is None else look.watermark
        try:
            changes = self._changes(connection, node, source, bound, since, look.digests)
        except _TooMuchError:
            return replace(all_seen, watermark=None if bound.frozen else bound.until), {SWEEP: published}
        except PermanentError as e:
            self.found.problems[node.name] = str(e)
            return replace(all_seen, swept_at=swept_at, problem=str(e)), {SWEEP: to_compare}
        if first:  # nothing is known of what changed before: all is compared
            return replace(all_seen, watermark=changes.watermark, digests=changes.digests), {SWEEP: published}
        self.found.watermark_age_s[node.name] = round((bound.now - changes.watermark).total_seconds(), 3)
        look = replace(all_seen, watermark=changes.watermark, digests=changes.digests, held_by=bound.held_by)
        marked = {CHANGED: sorted(changes.partitions & set(published)), SWEEP: to_compare}
        return replace(look, swept_at=swept_at), marked

    @staticmethod
    def _changes(
        connection: "psycopg.Connection[Any]",
        node: TableNode,
        source: PostgresSource,
        bound: Bound,
        since: datetime,
        digests: Mapping[str, str],
    ) -> Changes:
        import psycopg

        try:
            return find_changes(connection, source, Placement.of(node.contract), bound, since, digests)
        except DataPipelineError as e:
            if isinstance(e.__cause__, psycopg.errors.QueryCanceled):
                raise _TooMuchError from e
            raise

    def _unpinned(self, node: TableNode, look: SourceLook) -> list[str]:
        """Partitions that follow their source again since the last look: their old content is a publish of now."""
        rows = self._ledger.connection.execute(
            "select distinct partition from etl.pins where asset = %s and unpinned_at >= %s",
            (node.name, look.looked_at or look.swept_at),
        ).fetchall()
        return sorted(p for (p,) in rows)

    def _newest(self, nodes: Sequence[TableNode]) -> int:
        return max(k.epoch for n in nodes for k in self._state.published[n.name].values())

    def _record(self, found: Sequence[tuple[SourceLook, Marked]], seen: int) -> None:
        """Marks and watermark in one transaction: a look that dies before it is made again, from the same watermark."""
        connection = self._ledger.connection
        with connection.transaction():
            for look, by_kind in found:
                for kind, partitions in by_kind.items():
                    marks.mark(connection, look.source, partitions, seen=seen, kind=kind)
                marks.record_look(connection, look)
        for look, by_kind in found:
            if by_kind.get(CHANGED):
                self.found.changed[look.source] = list(by_kind[CHANGED])
            if by_kind.get(SWEEP):
                self.found.swept.append(look.source)

    def _files(self, node: TableNode) -> None:
        known = self._state.published[node.name].get(WHOLE)
        raw = ObjectStore.of(self._runtime.store.catalog, raw_location(self._runtime.bucket))
        zone = RawZone(raw, node.dataset.dataset, "")  # a listing of files writes nothing to it
        fingerprint = self._runtime.delivered_source(node, raw).observe(zone).fingerprint
        if known is not None and known.fingerprint != fingerprint:
            self.found.files[node.name, WHOLE] = Observation(fingerprint, (ChangeKind.SOURCE,))
        marks.record_look(self._ledger.connection, replace(self._look(node), problem=None))

    def _poll(self, node: TableNode) -> None:
        """Its pages are what there is to look at: a run asks for them, at the source's own rate."""
        look, fetched_at = self._look(node), self._state.published[node.name][WHOLE].published_at
        compared_at = max(look.swept_at or fetched_at, fetched_at)
        if self._now - compared_at < timedelta(minutes=self._rules.poll_every_minutes):
            return
        seen = self._ledger.draw_epoch(self._newest([node]))
        with self._ledger.connection.transaction():
            marks.mark(self._ledger.connection, node.name, [WHOLE], seen=seen, kind=POLL)
            marks.record_look(self._ledger.connection, replace(look, swept_at=self._now, problem=None))


class _TooMuchError(Exception):
    """More changed than can be looked at in time."""
