"""Capturing the closure of moves neither loses nor doubles a row, whatever moved, appeared or vanished."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl_resources.extract.moved_rows import Moves, links
from tests.unit.test_find_moves import Keys, Lake

MONTHS = ["2024-01", "2024-02", "2024-03", "2024-04", "2024-05"]
Table = Mapping[str, frozenset[int]]
"""Published month → keys of its rows."""


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        yield connection


def rows_in(rows: Keys, month: str) -> frozenset[int]:
    return frozenset(k for k, m in rows.items() if m == month)


def capture(lake: Lake, before: Table, source: Keys, requested: list[str]) -> tuple[set[str], Moves]:
    """Partitions that a capture of `requested` takes in the end, and the moves that it saw."""
    published = lake.publish({k: m for m, keys in before.items() for k in keys}, before)
    captured, moves, more = set[str](), Moves(), requested
    while more:
        captured |= set(more)
        moves |= lake.moves(published, source, more)
        more = sorted({p for pair in moves for p in pair} - captured)
    return captured, moves


def publish(before: Table, source: Keys, captured: set[str]) -> Table:
    """The table after the commit: captured partitions as they are in the source, the others as they were."""
    return {**before, **{m: rows_in(source, m) for m in captured}}


@st.composite
def states(draw: st.DrawFn) -> tuple[Table, dict[int, str], list[str]]:
    """(published table, source now, requested partitions); some months are not published yet."""
    months = draw(st.lists(st.sampled_from(MONTHS), unique=True))
    keys = range(8)
    was = {k: m for k in keys if (m := draw(st.sampled_from([*months, None]))) is not None}
    source = {k: m for k in keys if (m := draw(st.sampled_from([*MONTHS, None, was.get(k)]))) is not None}
    requested = draw(st.lists(st.sampled_from(MONTHS), unique=True, min_size=1))
    return {m: rows_in(was, m) for m in months}, source, requested


@given(state=states())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_closure_neither_loses_nor_doubles_a_row(
    tmp_path: Path, engine: duckdb.DuckDBPyConnection, state: tuple[Table, dict[int, str], list[str]]
) -> None:
    """The sum over all months is right after every commit, also when one month alone was asked for."""
    before, source, requested = state
    captured, _ = capture(Lake(tmp_path, engine), before, source, requested)
    after = publish(before, source, captured)
    everywhere = [k for keys in after.values() for k in keys]
    assert len(everywhere) == len(set(everywhere)), "a row is in two partitions"
    known = {k for keys in before.values() for k in keys}
    missing = {k for k in known if source.get(k) in after and k not in everywhere}
    assert not missing, "a row that was published and lies in a published partition is nowhere"
    for month in captured:
        assert after[month] == rows_in(source, month)


@given(state=states())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_only_partitions_that_exchanged_rows_are_added(
    tmp_path: Path, engine: duckdb.DuckDBPyConnection, state: tuple[Table, dict[int, str], list[str]]
) -> None:
    """Late data recomputes exactly what it affects (M6): whatever was added is linked to what was requested."""
    before, source, requested = state
    captured, moves = capture(Lake(tmp_path, engine), before, source, requested)
    linked = links(moves)
    for added in captured - set(requested):
        assert set(linked[added]) & set(requested)
    was = {k: m for m, keys in before.items() for k in keys}
    assert all(any(was.get(k) == old and source.get(k) == new for k in was) for old, new in moves)


@given(state=states(), held=st.integers(0, 5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_holding_back_what_is_linked_to_a_failed_partition_is_safe(
    tmp_path: Path, engine: duckdb.DuckDBPyConnection, state: tuple[Table, dict[int, str], list[str]], held: int
) -> None:
    """A partition that fails its audit keeps back those it exchanged rows with; the others go on."""
    before, source, requested = state
    captured, moves = capture(Lake(tmp_path, engine), before, source, requested)
    failed = sorted(captured)[held % len(captured)]
    good = captured - {failed} - set(links(moves).get(failed, ()))
    everywhere = [k for keys in publish(before, source, good).values() for k in keys]
    assert len(everywhere) == len(set(everywhere))
