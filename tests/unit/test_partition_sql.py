"""A row's partition as SQL, in every form."""

from dataclasses import replace

import pytest

from etl_resources.calendar import WHOLE, Grain
from etl_resources.contract import Contract, ContractColumn
from etl_resources.partition_sql import PartitionBy

DAY, STAMP = PartitionBy('"day"'), PartitionBy('"day"', stamp=True)


def contract(kind: str, by: str | None) -> Contract:
    return Contract((ContractColumn("id", "bigint"), ContractColumn("day", kind)), ("id",), by)


@pytest.mark.parametrize(
    ("kind", "by", "expected"),
    [("date", "day", DAY), ("timestamptz", "day", STAMP), ("date", None, PartitionBy(None))],
)
def test_a_contract_says_what_places_its_rows(kind: str, by: str | None, expected: PartitionBy) -> None:
    """Dates and stamps differ in time zone; without a column there is one partition."""
    assert PartitionBy.of(contract(kind, by)) == expected


def test_a_table_without_partitions_keeps_every_row_in_its_one() -> None:
    """Also those whose date is null; asked for a month, it has none."""
    whole = PartitionBy(None)
    assert (whole.key(), whole.key("postgres")) == (f"'{WHOLE}'", f"'{WHOLE}'")
    assert (whole.keep([WHOLE]), whole.keep(["2024-01"]), whole.keep([])) == ("true", "false", "false")
    assert whole.between(*whole.literals(WHOLE)) == "true"


def test_no_partition_keeps_no_row() -> None:
    """An empty list is a condition too, not a syntax error."""
    assert DAY.keep([]) == "false"


def test_partitions_side_by_side_are_one_range() -> None:
    """Thirty-six months are one condition, which an index serves."""
    assert DAY.keep(["2024-02", "2024-01"]) == "((\"day\" >= date '2024-01-01' and \"day\" < date '2024-03-01'))"


def test_a_contract_knows_the_keys_of_its_partitions() -> None:
    """What a target holds of another kind of partitions is taken out when it is filled anew: else it is there twice."""
    weeks = replace(contract("date", "day"), grain=Grain("week"))
    keys = ["week-2024-05-13", "week-2024-05-12", "2024-05", WHOLE]
    assert [weeks.has_partition(k) for k in keys] == [True, False, False, False]
    assert [contract("date", None).has_partition(k) for k in keys] == [False, False, False, True]
