"""Before a commit: whether rows may have moved within a wider input since it was read."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from etl_resources.errors import RestartError
from etl_resources.ledger.records import Publish
from etl_resources.planning import Plan, PlannedPartition, prove_unmoved
from etl_resources.run_token import InputVersion
from etl_resources.tables.input_tables import PinnedTable
from etl_resources.windows import InputWindow

MONTH = Publish("gdp.months", "2024-02", 5, "t", "1-a", 1, 1, None, (), (), None, None, {}, "run", "attempt")


class Ledger:
    """What prove_unmoved asks of one: no moves between partitions, no pins, one publish of the input."""

    def __init__(self, newest: Publish) -> None:
        self._newest = newest
        self.connection = self

    def execute(self, *_: Any) -> "Ledger":
        return self

    def fetchall(self) -> list[Any]:
        return []

    def linked_since(self, *_: Any) -> dict[str, set[str]]:
        return {}

    def current(self, _: str, partitions: Iterable[str]) -> dict[str, Publish]:
        return {p: self._newest for p in partitions if p == "2024-02"}


def prove(newest: Publish, published: Mapping[str, int], planned_with: Iterable[str] = ()) -> None:
    """A day that is made for the first time, of the month as it was at epoch 5."""
    inputs = {"gdp.months": PinnedTable("gdp.months", 1, "", {}, {"2024-02": MONTH})}
    day = PlannedPartition("2024-02-03", "t", 6, (InputVersion("gdp.months", "2024-02", "1-a", 5),), None)
    window = InputWindow(("2024-02",), (0, 0), same_period=True)
    plan = Plan("gdp.shares", "a", inputs, (day,), published=frozenset(planned_with), windows={"gdp.months": window})
    prove_unmoved(Ledger(newest), plan, published)  # type: ignore[arg-type]


def test_a_wider_input_that_is_as_it_was_read_holds_nothing_up() -> None:
    """Also where it was published again with equal content."""
    prove(MONTH, {"2024-02-04": 5}, ["2024-02-04"])
    prove(replace(MONTH, epoch=7), {"2024-02-04": 5}, ["2024-02-04"])


def test_one_that_was_published_anew_restarts_what_has_others_beside_it() -> None:
    """The row may have left this day for another that is published: it would be in both."""
    changed = replace(MONTH, epoch=7, version="1-b")
    with pytest.raises(
        RestartError, match=r"gdp.shares, partition 2024-02-03: gdp.months exchanged rows with 2024-02-04"
    ):
        prove(changed, {"2024-02-04": 5}, ["2024-02-04"])
    prove(changed, {"2024-02-03": 5, "2024-03-01": 5}, ["2024-02-03", "2024-03-01"])


def test_a_day_beside_it_that_came_meanwhile_restarts_it() -> None:
    """Both were planned without the other, of two states of the month."""
    with pytest.raises(RestartError, match=r"2024-02-04 meanwhile\. Run again"):
        prove(MONTH, {"2024-02-04": 7})
