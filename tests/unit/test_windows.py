"""Which partitions of an input are read, and how what isn't there is named."""

import pytest

from etl_resources.calendar import keys_around
from etl_resources.ledger.records import Publish
from etl_resources.run_token import InputVersion
from etl_resources.tables.input_tables import PinnedTable
from etl_resources.windows import ABSENT, InputWindow, partitions_read, versions_read

CALENDAR = ("2023-12", "2024-01", "2024-02", "2024-03")


def table(*partitions: str) -> PinnedTable:
    publishes = {
        p: Publish("gdp.sales", p, 7, "token", f"of {p}", 1, 1, None, (), (), None, None, {}, "run", "attempt")
        for p in partitions
    }
    return PinnedTable("gdp.sales", 1, "", {}, publishes)


def read(window: InputWindow | None, partition: str, *published: str) -> tuple[dict[str, str], str | None]:
    versions, problem = versions_read(table(*published), window, partition)
    return {v.partition: v.version for v in versions}, problem


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [(0, 0, ["2024-01"]), (-1, 0, ["2023-12", "2024-01"]), (-13, -12, ["2022-12", "2023-01"])],
)
def test_months_around_cross_the_year(first: int, last: int, expected: list[str]) -> None:
    """January's month before is December of the year before."""
    assert keys_around("2024-01", first, last) == expected


def test_without_a_window_the_same_period_is_read() -> None:
    """The convention needs no word in the manifest."""
    assert read(None, "2024-01", "2024-01", "2024-02") == ({"2024-01": "of 2024-01"}, None)
    assert read(None, "2024-01", "2024-02") == ({}, "gdp.sales has no published partition 2024-01")


def test_a_missing_month_is_refused_by_name() -> None:
    """Half a window must not pass for a whole one."""
    window = InputWindow(CALENDAR, (-2, 0))
    assert read(window, "2024-03", "2024-02") == ({}, "gdp.sales has no published partition 2024-01, 2024-03")


def test_a_month_outside_of_the_inputs_calendar_is_not_in_the_window() -> None:
    """It never existed, so that the first months of the calendar can be made at all."""
    window = InputWindow(CALENDAR, (-1, 0))
    assert read(window, "2023-12", "2023-12") == ({"2023-12": "of 2023-12"}, None)


def test_an_allowed_missing_month_is_a_version_of_its_own() -> None:
    """Its later publish gives another token; nothing of it is read until then."""
    window = InputWindow(CALENDAR, (-1, 0), allow_missing=True)
    versions, problem = versions_read(table("2024-02"), window, "2024-02")
    assert problem is None
    assert versions == [
        InputVersion("gdp.sales", "2024-01", ABSENT),
        InputVersion("gdp.sales", "2024-02", "of 2024-02", 7),
    ]
    assert partitions_read(versions, "gdp.sales") == ["2024-02"]
    assert partitions_read(versions, "gdp.other") == []


def test_all_are_those_that_are_published() -> None:
    """A table over the whole history can't wait for months to come; of nothing it can't be made."""
    window = InputWindow(CALENDAR, None)
    assert read(window, "2024-03", "2024-01", "2023-12") == (
        {"2023-12": "of 2023-12", "2024-01": "of 2024-01"}, None,
    )  # fmt: skip
    assert read(window, "2024-03") == ({}, "gdp.sales has no published partition")
