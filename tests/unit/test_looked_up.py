"""Lookups while a step is planned, without a server."""

from types import SimpleNamespace
from typing import Any

import pytest

from etl_assets.project import load_project
from etl_resources.looked_up import Lookups, lookup_relation
from etl_resources.run_token import InputVersion
from etl_resources.tables.head import PartitionHead
from etl_resources.tables.input_tables import PinnedTable
from tests.integration.lookups_project import write_lookups


@pytest.fixture
def lookups(tmp_path: Any) -> Lookups:
    node = load_project(write_lookups(tmp_path / "project")).tables["gdp.sales"]
    return Lookups(node.lookups, lambda: pytest.fail("no engine is needed"))


def pinned(asset: str, partition: str, path: str, *, partitioned: bool) -> PinnedTable:
    head = PartitionHead(3, "", [SimpleNamespace(record_count=1, file_path=path)])  # type: ignore[list-item]
    return PinnedTable(asset, 1, "MAP {}", {partition: head}, {}, partitioned)


def test_a_table_that_is_not_published_is_named(lookups: Lookups) -> None:
    """The refusal says what to materialize, and nothing is evaluated."""
    rates = PinnedTable("silver.rates", None, "", {}, {}, partitioned=False)
    found, problem = lookups.versions(None, {"silver.rates": rates}, {})  # type: ignore[arg-type]
    assert (found, problem) == ([], "silver.rates has no published partition all")


def test_the_relation_reads_the_planned_partition_and_the_whole_table(lookups: Lookups) -> None:
    """What is hashed while planning is what the transform reads: the same files of the same snapshot."""
    (lookup,) = lookups.tables
    tables = {
        "silver.orders": pinned("silver.orders", "2024-02", "s3://b/february.parquet", partitioned=True),
        "silver.rates": pinned("silver.rates", "all", "s3://b/rates.parquet", partitioned=False),
    }
    read = [InputVersion("silver.orders", "2024-02", "v"), InputVersion("silver.rates", "all", "w", 3, looked_up=True)]
    relation = lookup_relation(lookup, tables, read)
    assert relation.index("february.parquet") < relation.index("rates.parquet")
    assert lookups.assets == {"silver.rates"}
