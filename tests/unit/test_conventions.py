"""Computed names and paths (G1), and what a data file's path says about it."""

import pytest

from etl_resources.conventions import (
    branch_name,
    bucket_name,
    database_name,
    parse_staged_path,
    resource_name,
    staged_folder,
    table_location,
    table_name,
)

TOKEN = "0123456789abcdef" * 4


def test_names_follow_the_convention() -> None:
    """Other tools (Athena, IAM policies, crawlers) find things by these names alone."""
    assert bucket_name("pp-dw", "123456789") == "pp-dw-123456789"
    assert resource_name("pp-dw", "bronze", "sales_orders") == "pp-dw-bronze-sales-orders"
    assert database_name("pp_dw", "bronze") == "pp_dw_bronze"
    assert table_location("pp-dw-1", "bronze", "sales_orders") == "s3://pp-dw-1/bronze/sales_orders"
    assert table_location("pp-dw-1", "gdp", "gdp_sales") == "s3://pp-dw-1/gold/gdp_sales"
    assert branch_name("r-1") == "wap-r-1"


@pytest.mark.parametrize("layer", ["silver", "gdp", "kpi"])
def test_the_upper_layers_share_the_gold_database(layer: str) -> None:
    """The convention knows two databases; which layer a table is of stands in its name."""
    assert database_name("pp_dw", layer) == "pp_dw_gold"
    assert table_name(layer, "sales") == f"{layer}_sales"
    assert table_name(layer, f"{layer}_sales") == f"{layer}_sales"


def test_an_unknown_layer_is_refused() -> None:
    """A typo must not create a database of its own."""
    with pytest.raises(ValueError, match="'sliver' is not one of bronze, silver, gdp, kpi"):
        database_name("pp_dw", "sliver")


@pytest.mark.parametrize("location", ["s3://b/gold/gdp_sales", "file:///tmp/w", "/tmp/w"])  # noqa: S108
@pytest.mark.parametrize(("partition", "epoch"), [("2024-03", 1), ("1999-12", 2**63 - 1)])
def test_a_data_files_path_gives_back_partition_epoch_and_token(location: str, partition: str, epoch: int) -> None:
    """The table itself must say what is current after the ledger and the summaries are gone."""
    folder = staged_folder(location, partition, epoch, TOKEN)
    assert parse_staged_path(f"{folder}/part-0.parquet") == (partition, epoch, TOKEN[:16])


def test_no_folder_value_holds_an_equals_sign() -> None:
    """DuckDB's partitioned writer escapes it, and the path that is read back would not parse."""
    values = [part.partition("=")[2] for part in staged_folder("s3://b", "2024-03", 7, TOKEN).split("/")]
    assert not any("=" in v for v in values)


@pytest.mark.parametrize(
    "path",
    [
        "s3://b/gold/t/data/partition=2024-03/part-0.parquet",
        "s3://b/gold/t/data/partition=2024-03/epoch=7/part-0.parquet",
        "s3://b/gold/t/data/partition=2024-03/epoch=-7-ab/part-0.parquet",
        "s3://b/gold/t/data/partition=2024-03/epoch=7-xyz/part-0.parquet",
        "s3://b/gold/t/data/00000-0-5b1c.parquet",
    ],
)
def test_a_strangers_file_is_named(path: str) -> None:
    """A file without an epoch can't be fenced: who wrote past the protocol has to be found by the message."""
    with pytest.raises(ValueError, match=r"was not written by this platform") as raised:
        parse_staged_path(path)
    assert path in str(raised.value)
