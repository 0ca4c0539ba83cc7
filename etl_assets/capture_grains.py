"""Of which captures a table is made: tables of a system are captured together where their partitions are alike."""

from collections.abc import Callable, Iterable

from etl_resources.calendar import Every

Capture = tuple[str, Every]
"""System, and length of the partitions that are captured."""


def captures_of(
    name: str, inputs: Callable[[str], Iterable[str]], captured: Callable[[str], Capture | None]
) -> dict[Capture, str]:
    """Capture → a bronze table of it, of all that a table is made from for the same period, directly or not.

    inputs: what a table reads for its own period. captured: what a table is captured in, if it is.
    """
    found: dict[Capture, str] = {}
    seen, queue = {name}, [name]
    while queue:
        table = queue.pop()
        if capture := captured(table):
            found.setdefault(capture, table)
        following = [i for i in inputs(table) if i not in seen]
        seen.update(following)
        queue += following
    return found
