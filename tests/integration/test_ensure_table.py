"""A table as its contract says: created once, evolved without rewriting what is published (3.1 of the design)."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from etl_resources.contract import Contract, ContractColumn
from etl_resources.errors import PermanentError
from etl_resources.tables.catalog import TABLE_PROPERTIES, _add_empty_snapshot, ensure_table
from etl_resources.tables.head import read_head
from etl_resources.tables.input_tables import parquet_scan
from etl_resources.tables.partitioning import partition_spec
from etl_resources.tables.schema import iceberg_schema, read_schema
from tests.integration.local_table import (
    CONTRACT,
    IDENTIFIER,
    JAN,
    LocalTable,
    close,
    sqlite_catalog,
)

CHANNEL = ContractColumn("channel", "string", description="How it was ordered")


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = sqlite_catalog(tmp_path)
    yield catalog
    close(catalog)


class Behind:
    """A catalog whose first answer is the table as it was when this was made."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog, self._old, self.loads = catalog, catalog.load_table(IDENTIFIER), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def load_table(self, identifier: str) -> Table:
        self.loads += 1
        return self._old if self.loads == 1 else self._catalog.load_table(identifier)


def with_columns(*columns: ContractColumn) -> Contract:
    return replace(CONTRACT, columns=columns)


def ensure(catalog: Catalog, tmp_path: Path, contract: Contract, *, with_run_id: bool = False) -> list[str]:
    table = ensure_table(catalog, IDENTIFIER, str(tmp_path / "w"), contract, with_run_id=with_run_id)
    return [f.name for f in table.schema().fields]


def test_a_new_table_has_a_head_and_nothing_else(catalog: Catalog, tmp_path: Path) -> None:
    """Staging branches from a head; a file that no snapshot refers to would be litter from the first minute."""
    ensure_table(catalog, IDENTIFIER, str(tmp_path / "w"), CONTRACT)
    table = ensure_table(catalog, IDENTIFIER, str(tmp_path / "w"), CONTRACT)
    assert [s.manifest_list for s in table.metadata.snapshots] == [
        str(p) for p in (tmp_path / "w" / "metadata").glob("*.avro")
    ]
    assert read_head(table) == {}
    assert [f.required for f in table.schema().fields] == [True, True, False]


def test_two_writers_may_create_a_table_at_once(catalog: Catalog, tmp_path: Path) -> None:
    """The slower one finds the other's head and takes it."""
    schema = iceberg_schema(CONTRACT, with_run_id=False)
    catalog.create_namespace("pp_dw_gold")
    spec = partition_spec(schema, CONTRACT)
    slow = catalog.create_table(IDENTIFIER, schema, str(tmp_path / "w"), spec, properties=TABLE_PROPERTIES)
    fast = ensure_table(catalog, IDENTIFIER, str(tmp_path / "w"), CONTRACT)
    assert _add_empty_snapshot(catalog, slow, IDENTIFIER).current_snapshot() == fast.current_snapshot()


def test_two_writers_may_create_a_namespace_at_once(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slower one looked before the other had created it, and its insert meets the other's row."""
    catalog.create_namespace("pp_dw_gold")
    looks = iter([False])
    monkeypatch.setattr(catalog, "namespace_exists", lambda name: next(looks, True))
    ensure_table(catalog, IDENTIFIER, str(tmp_path / "w"), CONTRACT)
    assert catalog.list_tables("pp_dw_gold") == [("pp_dw_gold", IDENTIFIER.split(".")[1])]


def test_a_table_keeps_its_partitions_or_its_lack_of_them(catalog: Catalog, tmp_path: Path) -> None:
    """Files of a month and files of everything in one table: nobody could tell which are replaced by which."""
    whole = replace(CONTRACT, partition_column=None)
    table = ensure_table(catalog, IDENTIFIER, str(tmp_path / "w"), whole)
    assert table.spec().is_unpartitioned()
    assert ensure_table(catalog, IDENTIFIER, str(tmp_path / "w"), whole).current_snapshot() == table.current_snapshot()
    with pytest.raises(
        PermanentError, match=r"has no partitions, and the manifest.* says partitions by month\. Give the dataset a"
    ):
        ensure_table(catalog, IDENTIFIER, str(tmp_path / "w"), CONTRACT)


def test_bronze_carries_the_run_that_delivered(catalog: Catalog, tmp_path: Path) -> None:
    """meta_run_id is the last column and no part of the contract (G2)."""
    assert ensure(catalog, tmp_path, CONTRACT, with_run_id=True)[-1] == "meta_run_id"


def test_an_added_column_is_null_in_what_was_published_before(tmp_path: Path, catalog: Catalog) -> None:
    """Old files are read by field id with the new schema: nothing is rewritten."""
    local = LocalTable(catalog, tmp_path)
    local.commit("a", 1, {JAN: 10})
    wider = with_columns(CONTRACT.columns[0], CHANNEL, *CONTRACT.columns[1:])
    table = ensure_table(catalog, IDENTIFIER, local.location, wider)
    scan = parquet_scan(read_head(table)[JAN].data_paths, read_schema(table.schema()))
    assert local.engine.execute(f"select order_id, channel, amount::int from {scan} order by 1").fetchall() == [
        (0, None, 10),
        (1, None, 10),
    ]
    assert local.contents() == {JAN: 10}
    assert table.schema().find_field("channel").doc == "How it was ordered"


def test_a_column_that_comes_back_is_in_the_partitions_that_were_published_with_it(
    tmp_path: Path, catalog: Catalog
) -> None:
    """A manifest that is set back finds their old run tokens and computes nothing: their values must still be there."""
    local = LocalTable(catalog, tmp_path)
    local.commit("a", 1, {JAN: 10})
    ensure_table(catalog, IDENTIFIER, local.location, with_columns(*CONTRACT.columns[:2]))
    table = ensure_table(catalog, IDENTIFIER, local.location, CONTRACT)
    scan = parquet_scan(read_head(table)[JAN].data_paths, read_schema(table.schema()))
    assert local.engine.execute(f"select amount::int from {scan}").fetchall() == [(10,), (10,)]


def test_a_required_column_that_the_contract_no_longer_has_becomes_optional(tmp_path: Path, catalog: Catalog) -> None:
    """New files are without it."""
    ensure(catalog, tmp_path, with_columns(*CONTRACT.columns, ContractColumn("gone", "int", nullable=False)))
    ensure(catalog, tmp_path, CONTRACT)
    assert not catalog.load_table(IDENTIFIER).schema().find_field("gone").required


def test_a_required_column_may_become_optional(catalog: Catalog, tmp_path: Path) -> None:
    """Every old value is one; the other way would break what is published, so the table stays optional."""
    ensure(catalog, tmp_path, CONTRACT)
    relaxed = with_columns(*(replace(c, nullable=True) for c in CONTRACT.columns))
    ensure(catalog, tmp_path, relaxed)
    ensure(catalog, tmp_path, CONTRACT)
    assert not any(f.required for f in catalog.load_table(IDENTIFIER).schema().fields)


def test_a_renamed_column_keeps_its_field_and_its_values(tmp_path: Path, catalog: Catalog) -> None:
    """Dropped and added it would be null in what was published; the second writer finds it renamed."""
    local = LocalTable(catalog, tmp_path)
    local.commit("a", 1, {JAN: 10})
    field = catalog.load_table(IDENTIFIER).schema().find_field("amount").field_id
    renamed = with_columns(*CONTRACT.columns[:2], replace(CONTRACT.columns[2], name="price", renamed_from="amount"))
    table = ensure_table(catalog, IDENTIFIER, local.location, renamed)
    assert ensure(catalog, tmp_path, renamed) == ["order_id", "order_date", "price"]
    assert table.schema().find_field("price").field_id == field
    scan = parquet_scan(read_head(table)[JAN].data_paths, read_schema(table.schema()))
    assert local.engine.execute(f"select price::int from {scan}").fetchall() == [(10,), (10,)]


def test_a_wider_type_widens_the_column_by_its_field(tmp_path: Path, catalog: Catalog) -> None:
    """More digits of the same scale, and bigint for int: old files are read as the wider type, none is rewritten."""
    local = LocalTable(catalog, tmp_path)
    local.commit("a", 1, {JAN: 10})
    wider = with_columns(*CONTRACT.columns[:2], replace(CONTRACT.columns[2], type="decimal(20,2)"))
    table = ensure_table(catalog, IDENTIFIER, local.location, wider)
    assert str(table.schema().find_field("amount").field_type) == "decimal(20, 2)"
    scan = parquet_scan(read_head(table)[JAN].data_paths, read_schema(table.schema()))
    assert local.engine.execute(f"select amount::text, typeof(amount) from {scan}").fetchall() == [
        ("10.00", "DECIMAL(20,2)"),
        ("10.00", "DECIMAL(20,2)"),
    ]


def test_a_changed_type_is_refused_before_anything_changes(catalog: Catalog, tmp_path: Path) -> None:
    """Old partitions can't be read as the new type; the message says which column and what to do."""
    ensure(catalog, tmp_path, CONTRACT)
    changed = with_columns(*CONTRACT.columns[:2], ContractColumn("amount", "decimal(18,4)"), CHANNEL)
    with pytest.raises(
        PermanentError, match=r"column amount is decimal\(15, 2\) .* Give the changed column a new name"
    ):
        ensure(catalog, tmp_path, changed)
    assert [f.name for f in catalog.load_table(IDENTIFIER).schema().fields] == list(CONTRACT.names)


def test_two_writers_may_add_the_same_column_at_once(catalog: Catalog, tmp_path: Path) -> None:
    """After a release every run brings the new contract; the slower one must not fail, nor add it twice."""
    ensure(catalog, tmp_path, CONTRACT)
    behind = Behind(catalog)
    wider = with_columns(*CONTRACT.columns, CHANNEL)
    ensure(catalog, tmp_path, wider)
    assert ensure(behind, tmp_path, wider) == list(wider.names)  # type: ignore[arg-type]
    assert behind.loads > 1
