"""One instant of a Postgres server as another reader sees it: a cursor of this engine, or a task of an executor."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from etl_resources.engines.embedded import attach_postgres
from etl_resources.engines.transform import engine_error
from etl_resources.errors import RestartError
from etl_resources.identifiers import literal

if TYPE_CHECKING:
    import duckdb

READER_WORK_MEM = "64MB"
"""Memory of one hash or sort of our queries in the source: Postgres' default of 4 MB spills the join with parents."""
_GONE = re.compile('snapshot ".*" does not exist|invalid snapshot identifier|could not import the requested snapshot')
"""What a server says once the transaction that exported the snapshot has ended."""


@dataclass(frozen=True)
class ExportedSnapshot:
    """It can be read as long as the transaction that exported it is open."""

    dsn: str = field(repr=False)
    name: str
    """As pg_export_snapshot gave it."""
    setting: str
    """What the source is called in errors."""

    def attach(self, engine: "duckdb.DuckDBPyConnection", alias: str = "source") -> None:
        """Let the engine's readers connect to the source."""
        attach_postgres(engine, self.dsn, alias)

    @contextmanager
    def reader(
        self, engine: "duckdb.DuckDBPyConnection", alias: str = "source"
    ) -> "Iterator[duckdb.DuckDBPyConnection]":
        """A cursor of the engine, which is attached, whose transaction reads this snapshot; several may read at once.

        Raises RestartError where the exporting transaction has ended: what was read of it belongs to nothing.
        """
        import duckdb

        snapshot = literal(f"set transaction snapshot '{self.name}'")
        memory = literal(f"set local work_mem = '{READER_WORK_MEM}'")
        with engine.cursor() as cursor:
            try:
                cursor.execute("set enable_progress_bar = false")  # the only setting that cursors do not share
                cursor.execute("begin")
                cursor.execute(f"call postgres_execute('{alias}', {snapshot})")
                cursor.execute(f"call postgres_execute('{alias}', {memory})")
            except duckdb.Error as e:
                if _GONE.search(str(e)):
                    raise RestartError(
                        f"{self.setting}: the transaction that holds the captured snapshot has ended. Nothing of this "
                        "capture is published; run again."
                    ) from e
                raise engine_error(f"{self.setting}: the engine can't read the captured snapshot", e) from e
            yield cursor
            cursor.execute("commit")
