"""An index tells its partition, whatever the grain: digits of the key must not be taken for the epoch."""

import pytest

from etl_resources.sinks.elasticsearch_names import PartitionIndex

KEYS = [
    "2024-05",
    "2024-05-17",
    "week-2024-05-13",
    "quarter-2024-04",
    "fiscal-period-2024-07",
    "fiscal-quarter-2024-07",
]


@pytest.mark.parametrize("partition", [*KEYS, "all"])
@pytest.mark.parametrize("mark", ["3f0c9b2a6d1e", "123456789012"])
def test_a_name_gives_back_what_it_was_made_of(partition: str, mark: str) -> None:
    """Recovery finds by it what a killed attempt left."""
    index = PartitionIndex("orders_by_day", partition, 17, mark)
    assert PartitionIndex.parse(str(index)) == index
    assert str(index) == str(index).lower()
