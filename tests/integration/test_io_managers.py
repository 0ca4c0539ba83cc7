"""What the IO managers are asked for when an asset loads its inputs."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from etl_resources.io_managers.s3_tables import S3TableIOManager

MONTHS = dg.MonthlyPartitionsDefinition(start_date="2024-01", end_date="2024-06", fmt="%Y-%m")


class Asked(Exception):  # noqa: N818  (ends the run where the rows would be opened)
    """Carries what was asked for."""


def read(asset: str, partitions: Sequence[str]) -> Any:
    raise Asked(asset, list(partitions))


def loaded_by(upstream_partitions: dg.PartitionsDefinition[Any] | None) -> Any:
    """(asset, partitions) that a monthly asset's run of March asks for of its upstream."""

    upstream = dg.AssetSpec(["silver", "customers"], partitions_def=upstream_partitions)
    reader = dg.asset(
        key=["gdp", "sales"],
        partitions_def=MONTHS,
        ins={"rows": dg.AssetIn(["silver", "customers"], input_manager_key="tables")},
    )(lambda rows: None)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [upstream, reader],
            partition_key="2024-03",
            instance=instance,
            resources={"tables": S3TableIOManager(read)},
            raise_on_error=False,
        )
    (failure,) = result.get_step_failure_events()
    return failure.step_failure_data.error.cause.message


def test_an_asset_without_partitions_is_loaded_as_a_whole() -> None:
    """Dagster refuses to name partitions of an asset that has none."""
    assert "('silver.customers', ['all'])" in loaded_by(None)


def test_a_monthly_asset_is_loaded_by_the_months_of_the_run() -> None:
    """Whoever asks for March must not get the whole table."""
    assert "('silver.customers', ['2024-03'])" in loaded_by(MONTHS)
