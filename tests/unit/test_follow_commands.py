"""The commands that a rollback and an unpinning print."""

from etl_assets.versions import commands

MATERIALIZE = "dagster asset materialize -m etl_assets.definitions --select "


def test_each_kind_of_partitions_has_its_own_command() -> None:
    """Dagster refuses a run of days and weeks; what has no partitions takes part in each, after what it reads."""
    days = ["2024-05-17", "2024-05-18", "2024-05-30"]
    outdated = {"silver.sales": days, "gdp.weeks": ["week-2024-05-13"], "kpi.total": ["all"]}
    assert commands(outdated, "silver.sales*") == [
        f"{MATERIALIZE}'silver/sales,kpi/total' --partition-range 2024-05-17...2024-05-18",
        f"{MATERIALIZE}'silver/sales,kpi/total' --partition 2024-05-30",
        f"{MATERIALIZE}'gdp/weeks,kpi/total' --partition week-2024-05-13",
    ]


def test_one_kind_is_one_selection() -> None:
    """As short as it can be typed."""
    outdated = {"silver.sales": ["2024-05"], "postgres.analytics.sales": ["2024-05"]}
    assert commands(outdated, "silver.sales*") == [f"{MATERIALIZE}'silver/sales*' --partition 2024-05"]
    assert commands(outdated) == [f"{MATERIALIZE}'silver/sales,postgres/analytics/sales' --partition 2024-05"]
