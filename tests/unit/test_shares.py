"""Readers' shares of a capture: every row in exactly one, about as many for each."""

from datetime import date

import pytest

from etl_resources.calendar import bounds
from etl_resources.extract.shares import Share, shares_of
from etl_resources.manifest_columns import Column
from etl_resources.manifest_sources import PostgresSource
from etl_resources.partition_sql import Placement

SOURCE = PostgresSource(
    kind="postgres",
    system="erp",
    table="erp.orders",
    key=("id",),
    columns={"id": Column(type="bigint"), "day": Column(type="date"), "seen": Column(type="timestamptz")},
)
DAY = Placement("day")


def shares(rows: dict[str, int], readers: int) -> list[Share]:
    hands = shares_of(SOURCE, DAY, rows, readers, 0)
    assert len(hands) <= readers
    return [share for hand in hands for share in hand]


@pytest.mark.parametrize("readers", [1, 2, 3, 7, 64])
def test_every_partition_with_rows_is_read_once(readers: int) -> None:
    """Whole by one share, or by shares whose days follow each other without a gap; empty ones by none."""
    rows = {f"2024-{m:02}": n for m, n in enumerate([5, 0, 1000, 3, 3, 400, 0, 1, 90, 90, 90, 7], start=1)}
    found = shares(rows, readers)
    for partition, n in rows.items():
        of = [s for s in found if partition in s.partitions]
        if not n:
            assert of == []
        elif of[0].within is None:
            assert len(of) == 1
        else:
            days = sorted(tuple(date.fromisoformat(d) for d in s.within.split("'")[1::2]) for s in of if s.within)
            first, end = bounds(partition)
            assert [d[0] for d in days] == [first, *(d[1] for d in days[:-1])]
            assert days[-1][1] == end


def test_readers_have_about_as_many_rows_each() -> None:
    """Neighbours together, the big one in parts."""
    hands = shares_of(SOURCE, DAY, {"2024-01": 100, "2024-02": 100, "2024-03": 100, "2024-04": 900}, 4, 0)
    assert len(hands) == 4
    whole = [s for hand in hands for s in hand if s.within is None]
    assert [p for s in whole for p in s.partitions] == ["2024-01", "2024-02", "2024-03"]


def test_a_day_is_no_further_divided() -> None:
    """Nothing that a range of an index serves is smaller."""
    assert shares({"2024-01-05": 1_000_000}, 8) == [
        Share(("2024-01-05",), "t.\"day\" >= date '2024-01-05' and t.\"day\" < date '2024-01-06'")
    ]


def test_a_whole_table_is_read_by_blocks_without_a_gap() -> None:
    """The last range has no end: rows that come meanwhile aren't in the snapshot, and old ones are never behind it."""
    hands = shares_of(SOURCE, None, {"all": 10}, 3, 100)
    assert [s.within for hand in hands for s in hand] == [
        "t.ctid < '(33,0)'::tid",
        "t.ctid >= '(33,0)'::tid and t.ctid < '(66,0)'::tid",
        "t.ctid >= '(66,0)'::tid",
    ]


@pytest.mark.parametrize("pages", [0, 1])
def test_what_has_no_blocks_is_read_by_one(pages: int) -> None:
    """Views, and partitioned tables."""
    assert shares_of(SOURCE, None, {"all": 10}, 8, pages) == [[Share(("all",))]]


def test_nothing_is_read_where_nothing_is() -> None:
    """No task is started for it."""
    assert shares_of(SOURCE, DAY, {"2024-01": 0}, 4, 0) == []
