"""Rows that move between partitions are found by the published keys, on local files and without a server."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType

from etl_resources.extract.moved_rows import Moves, find_moves, links
from etl_resources.extract.postgres import PostgresSnapshot, SourceTable
from etl_resources.manifest_columns import Column
from etl_resources.manifest_sources import PostgresSource
from etl_resources.partition_sql import Placement
from etl_resources.tables.head import PartitionHead
from etl_resources.tables.input_tables import PinnedTable

Keys = Mapping[int, str]
"""Key → month in which its row lies."""

ORDERS = SourceTable(
    PostgresSource(
        kind="postgres",
        system="erp",
        table="erp.orders",
        key=("id", "no"),
        columns={"id": Column(type="bigint"), "no": Column(type="string"), "day": Column(type="date")},
    ),
    by=Placement("day"),
)
READ_SCHEMA = (
    "MAP {1: {name: 'id', type: 'BIGINT', default_value: NULL}, "
    "2: {name: 'no', type: 'VARCHAR', default_value: NULL}, 3: {name: 'day', type: 'DATE', default_value: NULL}}"
)


@dataclass(frozen=True)
class File:
    """What a head needs of a data file."""

    file_path: str
    record_count: int
    lower_bounds: Mapping[int, bytes]
    upper_bounds: Mapping[int, bytes]


class Table:
    """The published table: stands in for PyIceberg's."""

    def schema(self) -> Schema:
        return Schema(NestedField(1, "id", LongType()), NestedField(2, "no", StringType()))


@dataclass
class Snapshot:
    """The source at one instant: stands in for PostgresSnapshot."""

    rows: Keys
    lookups: int = 0

    def partitions_of(self, table: SourceTable, keys: Sequence[tuple[Any, ...]]) -> set[str]:
        self.lookups += 1
        return {self.rows[k] for k, _ in keys if k in self.rows}


class Lake:
    """Writes partitions as a capture does, and gives the published table as a reader sees it."""

    def __init__(self, folder: Path, engine: duckdb.DuckDBPyConnection) -> None:
        self._folder, self.engine, self._written = folder, engine, 0

    def write(self, rows: Keys, months: Iterable[str]) -> dict[str, str]:
        """Month → path of a file with the rows that lie in it; months without rows have no file."""
        return {m: self._file(rows, m) for m in months if m in rows.values()}

    def publish(self, rows: Keys, months: Iterable[str]) -> PinnedTable:
        """The table with exactly these partitions; an empty one has a tombstone."""
        heads = {}
        for month in months:
            mine = [k for k, m in rows.items() if m == month]
            low, high = ({1: of(mine).to_bytes(8, "little", signed=True)} if mine else {} for of in (min, max))
            file = File(self._file(rows, month), len(mine), low, high)
            heads[month] = PartitionHead(1, "aa", [cast(Any, file)])
        return PinnedTable("bronze.orders", 1, READ_SCHEMA, heads, {}, table=cast(Any, Table()))

    def moves(self, published: PinnedTable, source: Keys, captured: Sequence[str]) -> Moves:
        """find_moves of a capture of these partitions of the source."""
        paths = sorted(self.write(source, captured).values())
        snapshot = cast(PostgresSnapshot, Snapshot(source))
        return find_moves(self.engine, snapshot, ORDERS, published, captured, paths)

    def _file(self, rows: Keys, month: str) -> str:
        self._written += 1
        path = str(self._folder / f"{self._written}.parquet")
        mine = [k for k, m in rows.items() if m == month]
        self.engine.execute(
            f"copy (select unnest(?::bigint[]) as id, 'n' || id as no, date '{month}-28' as day) to '{path}' "
            '(format parquet, field_ids {"id": 1, "no": 2, "day": 3})',
            [str(mine)],  # a list of a thousand parameters is bound slowly
        )
        return path


@pytest.fixture(scope="module")
def engine() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 1})


@pytest.fixture
def lake(tmp_path: Path, engine: duckdb.DuckDBPyConnection) -> Lake:
    return Lake(tmp_path, engine)


MARCH, APRIL, MAY = "2024-03", "2024-04", "2024-05"


def test_a_row_that_came_from_another_partition_is_found_where_it_arrives(lake: Lake) -> None:
    """Published in March, captured in May: March must be republished too, or the row counts twice."""
    published = lake.publish({1: MARCH, 2: MAY}, [MARCH, MAY])
    assert lake.moves(published, {1: MAY, 2: MAY}, [MAY]) == {(MARCH, MAY)}


def test_a_row_that_went_to_another_partition_is_found_where_it_left(lake: Lake) -> None:
    """Captured is March alone: without May's republication the row would be nowhere."""
    published = lake.publish({1: MARCH, 2: MAY}, [MARCH, MAY])
    assert lake.moves(published, {1: MAY, 2: MAY}, [MARCH]) == {(MARCH, MAY)}


def test_a_move_between_two_captured_partitions_links_them(lake: Lake) -> None:
    """They must be published in one commit."""
    published = lake.publish({1: MARCH}, [MARCH, MAY])
    assert lake.moves(published, {1: MAY}, [MARCH, MAY]) == {(MARCH, MAY)}


def test_a_row_that_was_deleted_links_nothing(lake: Lake) -> None:
    """It vanishes with its own partition's republication."""
    published = lake.publish({1: MARCH, 2: MARCH, 3: MAY}, [MARCH, MAY])
    assert lake.moves(published, {2: MARCH, 3: MAY}, [MARCH]) == set()


def test_a_row_that_went_where_nothing_is_published_links_nothing(lake: Lake) -> None:
    """April's first publication will bring it."""
    published = lake.publish({1: MARCH}, [MARCH])
    assert lake.moves(published, {1: APRIL}, [MARCH]) == set()


def test_rows_that_stayed_or_changed_elsewhere_link_nothing(lake: Lake) -> None:
    """Only what was captured is judged: May's own move waits for May."""
    published = lake.publish({1: MARCH, 2: APRIL, 3: MAY}, [MARCH, APRIL, MAY])
    assert lake.moves(published, {1: MARCH, 2: MAY, 3: APRIL}, [MARCH]) == set()


def test_a_first_capture_has_no_moves(lake: Lake) -> None:
    """Nothing is published: nothing is asked of the source either."""
    nothing = lake.publish({}, [])
    assert lake.moves(nothing, {1: MARCH}, [MARCH]) == set()


def test_a_partition_that_was_emptied_is_still_an_index_of_nothing(lake: Lake) -> None:
    """Its tombstone has no rows; a capture without rows has no file at all."""
    published = lake.publish({}, [MARCH, MAY])
    assert lake.moves(published, {}, [MARCH]) == set()
    assert lake.moves(published, {1: MARCH}, [MARCH]) == set()
    assert lake.moves(lake.publish({1: MARCH}, [MARCH, MAY]), {1: MAY}, [MARCH]) == {(MARCH, MAY)}


def test_rows_are_the_same_only_when_the_whole_key_is(lake: Lake) -> None:
    """Line 1 of order 7 is not line 2 of order 7."""
    published = lake.publish({1: MARCH}, [MARCH, MAY])
    other = str(lake.write({1: MAY}, [MAY])[MAY])
    lake.engine.execute(
        f"copy (select id, 'other' as no, day from '{other}') to '{other}.2' "
        '(format parquet, field_ids {"id": 1, "no": 2, "day": 3})'
    )
    snapshot = cast(PostgresSnapshot, Snapshot({}))
    assert find_moves(lake.engine, snapshot, ORDERS, published, [MAY], [f"{other}.2"]) == set()


def test_files_whose_bounds_exclude_the_new_keys_are_not_opened(lake: Lake) -> None:
    """A new order among years of months: of the other months only those are read that may hold it."""
    published = lake.publish({-5: MARCH, 2: MARCH, 7: APRIL, 400: APRIL, 9: MAY}, [MARCH, APRIL, MAY])
    Path(published.heads[MARCH].data_paths[0]).unlink()
    assert lake.moves(published, {9: MAY, 300: MAY, 400: MAY}, [MAY]) == {(APRIL, MAY)}
    Path(published.heads[APRIL].data_paths[0]).unlink()
    assert lake.moves(published, {9: MAY, 500: MAY}, [MAY]) == set()
    assert lake.moves(published, {9: MAY, -6: MAY}, [MAY]) == set()


def test_all_rows_that_left_are_looked_up_together(lake: Lake) -> None:
    """A closed shop: a thousand rows that vanished from one partition are one question to the source."""
    published = lake.publish(dict.fromkeys(range(1000), MARCH), [MARCH, MAY])
    snapshot = Snapshot({})
    assert find_moves(lake.engine, cast(PostgresSnapshot, snapshot), ORDERS, published, [MARCH], []) == set()
    assert snapshot.lookups == 1


def test_partitions_are_linked_through_others() -> None:
    """March → April → May: publishing two of three would tear a row."""
    assert links([(MARCH, APRIL), (MAY, APRIL), ("2023-01", "2023-02")]) == {
        MARCH: (APRIL, MAY),
        APRIL: (MARCH, MAY),
        MAY: (MARCH, APRIL),
        "2023-01": ("2023-02",),
        "2023-02": ("2023-01",),
    }
    assert links([]) == {}


def test_links_do_not_depend_on_the_order_of_moves() -> None:
    """Two groups that a later move joins are one group."""
    chain = [(MARCH, APRIL), (MAY, "2024-06"), (APRIL, MAY)]
    assert links(chain) == links(reversed(chain))
    assert links(chain)[MARCH] == (APRIL, MAY, "2024-06")


def test_a_capture_without_new_keys_reads_no_other_partition(lake: Lake) -> None:
    """A corrected amount of one order must not cost the keys of all others: a file that is gone isn't missed."""
    published = lake.publish({1: MARCH, 5: MARCH, 2: MAY, 3: MAY}, [MARCH, MAY])
    for path in published.heads[MARCH].data_paths:
        Path(path).unlink()
    assert lake.moves(published, {1: MARCH, 5: MARCH, 2: MAY}, [MAY]) == set()
    with pytest.raises(duckdb.IOException):
        lake.moves(published, {1: MARCH, 5: MARCH, 2: MAY, 4: MAY}, [MAY])
