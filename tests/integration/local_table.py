"""One Iceberg table in a local folder with an SQLite catalog: the commit protocol needs no server.

A test module asks for the fixture with `pytest_plugins = ["tests.integration.local_table"]`.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import ancestors_of

from etl_resources.contract import Contract, ContractColumn
from etl_resources.conventions import BRANCH_PREFIX, staged_folder
from etl_resources.engines.bucketed_files import write_buckets
from etl_resources.tables.catalog import CATALOG_NAME, ensure_table
from etl_resources.tables.data_files import data_files
from etl_resources.tables.head import read_head
from etl_resources.tables.partitioning import Bucketing
from etl_resources.tables.publish import PublishOutcome, publish
from etl_resources.tables.schema import field_ids
from etl_resources.tables.stage import StagedPartition, partitions_of, properties_of, stage

IDENTIFIER = "pp_dw_gold.silver_orders"
JAN, FEB, MAR = "2024-01", "2024-02", "2024-03"
CONTRACT = Contract(
    columns=(
        ContractColumn("order_id", "bigint", nullable=False),
        ContractColumn("order_date", "date", nullable=False),
        ContractColumn("amount", "decimal(15,2)"),
    ),
    key=("order_id",),
    partition_column="order_date",
)
EMPTY = 0
"""Value of a partition that has no rows."""


def token_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def sqlite_catalog(folder: Path) -> Catalog:
    return load_catalog(
        CATALOG_NAME, type="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=str(folder / "warehouse")
    )


@dataclass
class LocalTable:
    """A partition's content is one number, the amount of its two rows; so a test reads like a story."""

    catalog: Catalog
    folder: Path
    engine: duckdb.DuckDBPyConnection = field(default_factory=duckdb.connect)
    contract: Contract = CONTRACT

    def __post_init__(self) -> None:
        self.location = str(self.folder / "warehouse" / "silver_orders")
        self.ensure(self.contract)

    def ensure(self, contract: Contract) -> None:
        """Make the table, or let it follow another contract."""
        table = ensure_table(self.catalog, IDENTIFIER, self.location, contract)
        self.field_ids, self.buckets = field_ids(table.schema(), contract.names), Bucketing.of(table)

    @property
    def table(self) -> Table:
        return self.catalog.load_table(IDENTIFIER)

    def write(self, partition: str, epoch: int, token: str, value: int) -> str:
        """A file of two rows, or without rows, where the convention wants it."""
        folder = Path(staged_folder(self.location, partition, epoch, token))
        folder.mkdir(parents=True, exist_ok=True)
        path = str(folder / ("part-0.parquet" if value else "empty.parquet"))
        self.copy(
            f"select i::bigint as order_id, date '{partition}-01' + i::int as order_date, "
            f"{value}::decimal(15,2) as amount from range({2 if value else 0}) t(i)",
            path,
        )
        return path

    def write_files(self, partition: str, epoch: int, token: str, value: int) -> tuple[str, ...]:
        """As `write`; one file per bucket where the table has some."""
        path = self.write(partition, epoch, token, value)
        if self.buckets is None or not value:
            return (path,)
        folder, columns, ids = path.rpartition("/")[0], self.contract.names, self.field_ids
        rows = f"from read_parquet('{path}', hive_partitioning = false)"
        return write_buckets(
            self.engine, rows, columns, self.buckets, "bigint", folder, "part", field_ids=ids, order=("order_id",)
        )

    def copy(self, query: str, path: str) -> None:
        self.engine.execute(
            f"copy ({query}) to '{path}' (format parquet, compression zstd, field_ids {self.field_ids})"
        )

    def stage(
        self,
        attempt: str,
        epoch: int,
        contents: Mapping[str, int],
        *,
        token: str | None = None,
        alias_of: Mapping[str, int] | None = None,
        catalog: Catalog | None = None,
    ) -> int:
        """Stage partition → value as one attempt; partitions in alias_of get a marker instead of data."""
        token, alias_of, table = token or token_of(attempt), alias_of or {}, self.table
        paths = [
            (p, path)
            for p, value in contents.items()
            for path in self.write_files(p, epoch, token, EMPTY if p in alias_of else value)
        ]
        staged = [
            StagedPartition(p, token, epoch, version=f"v{value}", rows=2 if value else 0, alias_of=alias_of.get(p))
            for p, value in contents.items()
        ]
        files = data_files(table.io, table.metadata, paths)
        return stage(catalog or self.catalog, IDENTIFIER, attempt, "run-1", files, staged)

    def publish(
        self, attempt: str, staged_id: int, good: Iterable[str] | None = None, **options: Any
    ) -> PublishOutcome:
        catalog = options.pop("catalog", self.catalog)
        return publish(catalog, IDENTIFIER, attempt, staged_id, None if good is None else set(good), **options)

    def commit(self, attempt: str, epoch: int, contents: Mapping[str, int], **options: Any) -> PublishOutcome:
        """Stage and publish."""
        return self.publish(attempt, self.stage(attempt, epoch, contents, **options))

    def contents(self, snapshot_id: int | None = None) -> dict[str, int]:
        """Partition → value, as any reader of Iceberg sees it. Raises AssertionError on a torn or doubled partition."""
        rows = self.table.scan(snapshot_id=snapshot_id).to_arrow().to_pylist()
        found: dict[str, list[int]] = {}
        for row in rows:
            found.setdefault(f"{row['order_date']:%Y-%m}", []).append(int(row["amount"]))
        for partition, amounts in found.items():
            assert len(amounts) == 2, f"{partition} has {len(amounts)} rows"
            assert len(set(amounts)) == 1, f"{partition} is torn: {amounts}"
        return {p: amounts[0] for p, amounts in sorted(found.items())}

    def epochs(self) -> dict[str, int]:
        return {p: h.epoch for p, h in sorted(read_head(self.table).items())}

    def files(self, partition: str) -> list[str]:
        head = read_head(self.table).get(partition)
        return sorted(f.file_path for f in head.files) if head else []

    def branches(self) -> set[str]:
        return {r.removeprefix(BRANCH_PREFIX) for r in self.table.refs() if r != "main"}

    def main_epochs(self) -> list[dict[str, int]]:
        """Partition → epoch of every commit to main, oldest first."""
        table = self.table
        history = [properties_of(table, s.snapshot_id) for s in ancestors_of(table.current_snapshot(), table.metadata)]
        return [{p: s.epoch for p, s in partitions_of(x).items()} for x in reversed(history)]


def prove_epochs_grow(table: LocalTable) -> None:
    """On main a partition's epoch never decreases: no writer that slept has put older content back."""
    seen: dict[str, int] = {}
    for epochs in table.main_epochs():
        for partition, epoch in epochs.items():
            assert epoch > seen.get(partition, 0), f"{partition}: epoch {epoch} after {seen[partition]}"
            seen[partition] = epoch
    assert table.epochs() == dict(sorted(seen.items()))


def close(catalog: Catalog) -> None:
    with suppress(AttributeError):
        catalog.engine.dispose()  # type: ignore[attr-defined]


@pytest.fixture
def table(tmp_path: Path) -> Iterator[LocalTable]:
    """An empty table; afterwards epochs must have grown, whatever the test did."""
    catalog = sqlite_catalog(tmp_path)
    local = LocalTable(catalog, tmp_path)
    yield local
    prove_epochs_grow(local)
    close(catalog)
