"""Versions of lookups while a step is planned: remembered ones from the ledger, others from the tables' files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from etl_resources.calendar import WHOLE
from etl_resources.engines.transform import engine_error
from etl_resources.ledger.ledger import Ledger
from etl_resources.lookups import LookupTable
from etl_resources.retries import retry_transient
from etl_resources.run_token import InputVersion
from etl_resources.tables.input_tables import PinnedTable

if TYPE_CHECKING:
    import duckdb
    import psycopg


def lookup_relation(lookup: LookupTable, pinned: Mapping[str, PinnedTable], inputs: Sequence[InputVersion]) -> str:
    """DuckDB table expression of what a planned partition looks up, of exactly the versions that it reads."""
    source = next(i.partition for i in inputs if i.asset == lookup.source)
    return lookup.relation(pinned[lookup.source].scan([source]), pinned[lookup.asset].scan([WHOLE]))


def forget_lookups(connection: "psycopg.Connection[Any]") -> int:
    """Forget what contents looked up that are no longer current: each changed month would be remembered for ever.

    How many. A run that planned with one of them finds it again.
    """
    return connection.execute(
        "delete from etl.lookup_versions l "
        "where not exists (select from etl.current_versions c where c.version = l.source)"
    ).rowcount


@dataclass
class Lookups:
    """The lookups of one step. open_engine is called only when something isn't remembered."""

    tables: Sequence[LookupTable]
    open_engine: "Callable[[], duckdb.DuckDBPyConnection]"

    @property
    def assets(self) -> frozenset[str]:
        return frozenset(t.asset for t in self.tables)

    def versions(
        self, ledger: Ledger, pinned: Mapping[str, PinnedTable], read: Mapping[str, InputVersion]
    ) -> tuple[list[InputVersion], str | None]:
        """What one partition looks up, given what it reads of each input for its period; or why it can't."""
        found = []
        for lookup in self.tables:
            version = pinned[lookup.asset].version(WHOLE)
            if version is None:
                return [], f"{lookup.asset} has no published partition {WHOLE}"
            looked_up = self._version(ledger, lookup, pinned, read[lookup.source], version)
            found.append(replace(version, version=looked_up, looked_up=True))
        return found, None

    def _version(
        self,
        ledger: Ledger,
        lookup: LookupTable,
        pinned: Mapping[str, PinnedTable],
        source: InputVersion,
        looked_up: InputVersion,
    ) -> str:
        key = (lookup.definition, source.version, looked_up.version)
        known = ledger.connection.execute(
            "select version from etl.lookup_versions where definition = %s and source = %s and looked_up = %s", key
        ).fetchone()
        if known is not None:
            return str(known[0])
        version = self._evaluate(lookup, pinned, source)
        ledger.connection.execute(  # one memory per content that looks up: no more of them than of publishes
            "with forgotten as (delete from etl.lookup_versions where definition = %s and source = %s) "
            "insert into etl.lookup_versions (definition, source, looked_up, version) values (%s, %s, %s, %s) "
            "on conflict do nothing",
            (*key[:2], *key, version),
        )
        return version

    def _evaluate(self, lookup: LookupTable, pinned: Mapping[str, PinnedTable], source: InputVersion) -> str:
        import duckdb

        scans = pinned[lookup.source].scan([source.partition]), pinned[lookup.asset].scan([WHOLE])
        what = f"{lookup.name} for {lookup.source}, partition {source.partition}"
        try:
            return retry_transient(lambda: lookup.version(self._engine, *scans), what)
        except duckdb.Error as e:
            raise engine_error(what, e) from e

    @cached_property
    def _engine(self) -> "duckdb.DuckDBPyConnection":
        return self.open_engine()
