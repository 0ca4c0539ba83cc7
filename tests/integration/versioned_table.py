"""One table on the real stack with a ledger of its own, published without Dagster: a version is made in a moment.

A test module asks for the fixture with `pytest_plugins = ["tests.integration.versioned_table"]`. Rows are (key, value);
a partition's content is a mapping of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from etl_resources.contract import Contract, ContractColumn
from etl_resources.conventions import staged_folder
from etl_resources.dead_letters.address import LettersAddress
from etl_resources.engines.embedded import connect
from etl_resources.extract.capture import write_empty
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.pins import pins_of
from etl_resources.ledger.records import IntendedPartition
from etl_resources.quality.audit import read_back
from etl_resources.rollback import Rollback
from etl_resources.run_token import run_token
from etl_resources.settings import Settings, load_settings
from etl_resources.tables.address import TableAddress
from etl_resources.tables.head import read_head
from etl_resources.tables.input_tables import parquet_scan
from etl_resources.tables.publish import PublishOutcome
from etl_resources.tables.schema import field_ids, read_schema
from etl_resources.tables.stage import StagedPartition
from etl_resources.tables.table_store import StagedBatch, TableStore, WrittenPartition
from etl_resources.tables.versions import Version, versions
from tests.conftest import BUCKET
from tests.databases import new_databases, query

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.table import Table

JAN, FEB, MAR = "2024-01", "2024-02", "2024-03"
CONTRACT = Contract(
    columns=(
        ContractColumn("id", "bigint", nullable=False),
        ContractColumn("day", "date", nullable=False),
        ContractColumn("value", "decimal(15,2)"),
    ),
    key=("id",),
    partition_column="day",
)
Rows = Mapping[int, int]


@dataclass
class VersionedTable:
    """A session with the table; `another()` is a second one, as of another process."""

    settings: Settings
    address: TableAddress
    ledger: Ledger
    engine: "duckdb.DuckDBPyConnection"
    runs: int = field(default=0)

    @cached_property
    def store(self) -> TableStore:
        return TableStore(self.settings, BUCKET)

    @property
    def table(self) -> "Table":
        return self.store.catalog.load_table(self.address.identifier)

    @property
    def rollback(self) -> Rollback:
        letters = LettersAddress(self.address.asset, True, self.address.database_prefix, BUCKET)
        return Rollback(self.store, self.ledger, self.engine, self.address, letters)

    @property
    def versions(self) -> list[Version]:
        return versions(self.table)

    @property
    def pinned(self) -> set[str]:
        return set(pins_of(self.ledger.connection, self.address.asset))

    def roll_back(self, to: int, *partitions: str) -> PublishOutcome | None:
        done = self.rollback.run(str(to), partitions, "rollback-test", "a test")
        return done.published if done else None

    def publish(
        self, contents: Mapping[str, Rows], linked: Mapping[str, Sequence[str]] | None = None
    ) -> PublishOutcome:
        """Make one version: partition → its new rows."""
        return self.stage(contents, linked).publish()

    def stage(self, contents: Mapping[str, Rows], linked: Mapping[str, Sequence[str]] | None = None) -> StagedBatch:
        self.runs += 1
        ids = field_ids(self.store.ensure(self.address).schema(), self.address.columns)
        with self.ledger.planning(self.address.asset):
            epoch = self.ledger.draw_epoch()
            attempt = self.ledger.open_attempt(self.address.asset, f"run-{self.runs}")
            tokens = {
                p: run_token(tenant="acme", asset=self.address.asset, partition=p, logic_version=str(epoch), inputs=[])
                for p in contents
            }
            self.ledger.intend(attempt, [IntendedPartition(p, epoch, tokens[p]) for p in contents])
        written = [
            self._write(p, rows, epoch, tokens[p], ids, (linked or {}).get(p, ())) for p, rows in contents.items()
        ]
        return self.store.stage(self.ledger, self.address, attempt, f"run-{self.runs}", written)

    def _write(
        self, partition: str, rows: Rows, epoch: int, token: str, ids: str, linked: Sequence[str]
    ) -> WrittenPartition:
        if rows:
            path = f"{staged_folder(self.address.location, partition, epoch, token)}/part-0.parquet"
            values = ", ".join(f"({key}, {value})" for key, value in rows.items())
            self.engine.execute(
                f"copy (select id::bigint as id, date '{partition}-01' + (id % 28)::int as day, "
                f"value::decimal(15,2) as value from (values {values}) v(id, value)) to '{path}' "
                f"(format parquet, compression zstd, field_ids {ids})"
            )
        else:
            path = write_empty(self.engine, self.address, partition, epoch=epoch, token=token, field_ids=ids)
        found = read_back(self.engine, CONTRACT, parquet_scan([path], self._schema))
        staged = StagedPartition(partition, token, epoch, found.version, found.rows)
        return WrittenPartition(staged, (path,), {"counts": {"written": found.rows}, "linked": list(linked)})

    @property
    def _schema(self) -> str:
        return read_schema(self.table.schema())

    def contents(self, snapshot_id: int | None = None) -> dict[str, dict[int, int]]:
        """What an Iceberg reader sees: partition → rows. Raises AssertionError for a key that is there twice."""
        found: dict[str, dict[int, int]] = {}
        for row in self.table.scan(snapshot_id=snapshot_id).to_arrow().to_pylist():
            month = found.setdefault(f"{row['day']:%Y-%m}", {})
            assert all(row["id"] not in rows for rows in found.values()), row
            month[row["id"]] = int(row["value"])
        return found

    def epochs(self) -> dict[str, int]:
        return {p: h.epoch for p, h in read_head(self.table).items()}

    def ledger_versions(self) -> list[int]:
        rows = query(
            self.settings.require_postgres(),
            "select number from etl.versions where asset = %s order by 1",
            [self.address.asset],
        )
        return [n for (n,) in rows]

    @contextmanager
    def another(self) -> "Iterator[VersionedTable]":
        """A session of its own: its locks end with it."""
        with Ledger.open(self.settings) as ledger, closing(connect(self.settings)) as engine:
            yield VersionedTable(self.settings, self.address, ledger, engine)


@pytest.fixture(scope="session")
def versioned_settings(stack: object) -> Iterator[Settings]:
    """A ledger and a catalog for the tables of the session."""
    with new_databases("versions") as create:
        yield load_settings(postgres_dsn=create())


@pytest.fixture
def versioned(versioned_settings: Settings) -> Iterator[VersionedTable]:
    """A table without versions; afterwards ledger and table agree, and no key is there twice."""
    name = f"t{uuid4().hex[:10]}"
    address = TableAddress("silver", name, "acme", CONTRACT, "1", "pp_dw", BUCKET)
    with Ledger.open(versioned_settings) as ledger, closing(connect(versioned_settings)) as engine:
        table = VersionedTable(versioned_settings, address, ledger, engine)
        table.store.ensure(address)
        yield table
    with Ledger.open(versioned_settings) as ledger:
        table.store.settle(ledger, address)
        current = {p: k.epoch for p, k in ledger.current(address.asset).items()}
        assert table.epochs() == current
    table.contents()
    assert [v.number for v in table.versions if v.current] == [max((v.number for v in table.versions), default=0)] or (
        not table.versions
    )
