"""Which partitions go together when rows move in inputs of the same grain, of a finer one and of a wider one."""

from collections.abc import Collection, Mapping

from etl_resources.calendar import keys_between
from etl_resources.exchanged import Epochs, exchanged
from etl_resources.windows import InputWindow

DAYS = tuple(keys_between("2024-01-29", "2024-03-31"))
OF_DAYS = InputWindow(DAYS, (0, 0), same_period=True)
OF_MONTHS = InputWindow(("2024-01", "2024-02", "2024-03"), (0, 0), same_period=True)
MOVES = {"2024-02-03": ({"2024-02-05"}, 7), "2024-02-05": ({"2024-02-03"}, 7)}
"""Day → (the days that it exchanged rows with, in which epoch)."""


def linked_since(_: str, epochs: Mapping[str, int]) -> dict[str, set[str]]:
    return {p: others for p, (others, epoch) in MOVES.items() if p in epochs and epoch > epochs[p]}


def moved(
    window: InputWindow | None, read: Mapping[str, Epochs], published: Collection[str] | None = None
) -> dict[str, set[str]]:
    known = read.keys() if published is None else published
    return exchanged(linked_since, "silver.sales", window, read, lambda _: 7, known)


def test_days_tell_their_own_moves() -> None:
    """As long as a table has the same partitions as its input."""
    assert moved(None, {"2024-02-03": {"2024-02-03": 6}}) == {"2024-02-03": {"2024-02-05"}}
    assert moved(None, {"2024-02-03": {"2024-02-03": 7}, "2024-02-04": {}}) == {}


def test_weeks_go_together_where_a_row_moved_from_a_day_of_one_to_a_day_of_the_other() -> None:
    """Saturday to Monday: published alone, the row would be in both weeks, or in none."""
    week, after = "week-2024-01-29", "week-2024-02-05"
    assert moved(OF_DAYS, {week: dict.fromkeys(keys_between("2024-01-29", "2024-02-04"), 6)}) == {week: {after}}
    assert moved(OF_DAYS, {week: dict.fromkeys(keys_between("2024-01-29", "2024-02-04"), 7)}) == {}
    assert moved(OF_DAYS, {after: {}}) == {after: {week}}


def test_a_move_within_a_month_links_no_other_month() -> None:
    """Recomputing more than what changed is what a person would not understand."""
    assert moved(OF_DAYS, {"2024-02": dict.fromkeys(keys_between("2024-02-01", "2024-02-29"), 6)}) == {}


def test_all_that_reads_a_wider_partition_goes_together_when_it_changed() -> None:
    """A month doesn't tell from which of its days a row moved to which."""
    assert moved(OF_MONTHS, {"2024-02-03": {"2024-02": 6}}) == {
        "2024-02-03": set(keys_between("2024-02-01", "2024-02-29")) - {"2024-02-03"}
    }
    assert moved(OF_MONTHS, {"2024-02-03": {"2024-02": 7}}) == {}
    assert moved(OF_MONTHS, {"2024-02-03": {}}, {"2024-02-05", "2024-03-05"}) == {"2024-02-03": {"2024-02-05"}}
    assert moved(OF_MONTHS, {"2024-02-03": {}}, ()) == {}
    (weeks,) = moved(OF_MONTHS, {"week-2024-02-26": {"2024-02": 6, "2024-03": 7}}).values()
    assert weeks == {"week-2024-01-29", "week-2024-02-05", "week-2024-02-12", "week-2024-02-19"}
