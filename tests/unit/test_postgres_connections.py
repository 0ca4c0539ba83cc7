"""Connections that a step keeps are shared by its writers."""

from typing import Any

from etl_resources.sinks.postgres_connections import _answering


class TakenMeanwhile(list[Any]):
    """One idle connection when it is looked at; the other writer has it when it is taken."""

    def __len__(self) -> int:
        return 1


def test_two_writers_may_reach_for_the_last_idle_connection() -> None:
    """The slower one makes a new one; its partition must not fail, and with it the step."""
    assert _answering(TakenMeanwhile()) is None
