"""A reader that looks at every table all the time: it must see only whole contents, each newer than the one before."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from etl_resources.calendar import WHOLE
from etl_resources.engines.embedded import connect
from etl_resources.identifiers import literal, quote, quote_qualified
from etl_resources.quality.audit import read_back
from etl_resources.quality.content_hash import content_hash, version_of
from etl_resources.sinks.postgres_sink import PostgresSink
from etl_resources.tables.head import read_head
from etl_resources.tables.input_tables import parquet_scan
from etl_resources.tables.schema import read_schema
from tests.lake import Lake

if TYPE_CHECKING:
    import duckdb

PAUSE_S = 0.1
Seen = tuple[int, str]
"""(epoch, version of the rows that were read)."""


@dataclass
class Reader:
    """What was seen: (asset, partition) → contents in the order of reading, each once in a row."""

    lake: Lake
    seen: dict[tuple[str, str], list[Seen]] = field(default_factory=dict)
    errors: list[Exception] = field(default_factory=list)
    looks: int = 0
    _snapshots: dict[str, int] = field(default_factory=dict)

    def loop(self, done: threading.Event) -> None:
        """Look until done. Errors are kept for prove()."""
        try:
            with connect(self.lake.settings, threads=1) as engine:
                while True:
                    last = done.wait(PAUSE_S)  # one more look after the end: the last state counts too
                    self._look_at_tables(engine)
                    self._look_at_serving()
                    self.looks += 1
                    if last:
                        return
        except Exception as e:  # noqa: BLE001  (told by prove)
            self.errors.append(e)

    def _look_at_tables(self, engine: "duckdb.DuckDBPyConnection") -> None:
        from pyiceberg.exceptions import NoSuchTableError

        for asset, address in self.lake.runtime.addresses.items():
            try:
                table = self.lake.runtime.store.catalog.load_table(address.identifier)
            except NoSuchTableError:
                continue
            snapshot = table.current_snapshot()
            if snapshot is None or self._snapshots.get(asset) == snapshot.snapshot_id:
                continue
            self._snapshots[asset] = snapshot.snapshot_id
            for partition, head in read_head(table).items():
                if self._last(asset, partition) != head.epoch:
                    scan = parquet_scan(head.data_paths, read_schema(table.schema()))
                    self._note(asset, partition, head.epoch, read_back(engine, address.contract, scan).version)

    def _look_at_serving(self) -> None:
        for node in self.lake.runtime.project.serving:
            self._look_at(self.lake.runtime.postgres_sink(node))

    def _look_at(self, sink: PostgresSink) -> None:
        column = sink.contract.partition_column
        partition = f"to_char({quote(column)}, 'YYYY-MM')" if column else literal(WHOLE)
        served = (
            f"select {partition}, count(*), {content_hash(sink.contract, 'postgres')} "
            f"from {quote_qualified(sink.target)} group by 1"
        )
        with psycopg.connect(self.lake.platform_dsn) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            ((there,),) = connection.execute("select to_regclass(%s) is not null", (sink.target,)).fetchall()
            if not there:
                return
            commits: Any = connection.execute("select partition, epoch, version from etl_serving.commits").fetchall()
            rows = {p: version_of(n, digest) for p, n, digest in connection.execute(served.encode()).fetchall()}
        for partition, epoch, version in commits:
            if epoch:
                self._note(sink.asset, partition, epoch, rows.get(partition, version if version[:2] == "0-" else ""))

    def _last(self, asset: str, partition: str) -> int | None:
        known = self.seen.get((asset, partition))
        return known[-1][0] if known else None

    def _note(self, asset: str, partition: str, epoch: int, version: str) -> None:
        known = self.seen.setdefault((asset, partition), [])
        if not known or known[-1] != (epoch, version):
            known.append((epoch, version))

    def prove(self) -> None:
        """Nothing torn, nothing old over newer: each content is the one published at its epoch, and epochs grow."""
        if self.errors:
            raise self.errors[0]
        assert self.looks, "the reader saw nothing"
        recorded = {
            (asset, partition, epoch): version
            for asset, partition, epoch, version in self.lake.platform(
                "select asset, partition, epoch, version from etl.publishes"
            )
        }
        for (asset, partition), contents in self.seen.items():
            epochs = [epoch for epoch, _ in contents]
            assert epochs == sorted(set(epochs)), f"{asset} {partition}: epochs {epochs}"
            for epoch, version in contents:
                published = recorded.get((asset, partition, epoch))
                assert version == published, f"{asset} {partition}, epoch {epoch}: {version} was read, not {published}"


@contextmanager
def watching(lake: Lake) -> Iterator[Reader]:
    """A reader beside what the test does; afterwards it must have seen only whole contents."""
    reader, done = Reader(lake), threading.Event()
    thread = threading.Thread(target=reader.loop, args=(done,))
    thread.start()
    try:
        yield reader
    finally:
        done.set()
        thread.join()
    reader.prove()
