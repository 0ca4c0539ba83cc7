"""SQL by which a Postgres source is read: windows without gaps, joins in the server, quoted names (C8)."""

import pytest
import sqlglot
from sqlglot import exp

from etl_resources.extract.source_query import (
    placed_by,
    select_fingerprints,
    select_partitions_of_keys,
    select_rows,
)
from etl_resources.manifest_columns import Column
from etl_resources.manifest_sources import Join, PostgresSource
from etl_resources.partition_sql import Placement

MARCH = "2024-03"
MAY = "2024-05"


def source(**changes: object) -> PostgresSource:
    fields: dict[str, object] = {
        "kind": "postgres",
        "system": "erp",
        "table": "erp.order_lines",
        "key": ("order_id", "line"),
        "change_column": "updated_at",
        "joins": (
            Join(table="erp.orders", on={"id": "order_id"}, columns={"order_date": "placed_on", "buyer": "buyer"}),
            Join(table="erp.buyers", on={"id": "buyer"}, columns={"nation": "nation"}),
        ),
        "columns": {
            name: Column(type=kind)
            for name, kind in {
                "order_id": "bigint",
                "line": "int",
                "order_date": "date",
                "buyer": "bigint",
                "nation": "string",
                "user": "string",
                "updated_at": "timestamptz",
            }.items()
        },
    }
    return PostgresSource(**{**fields, **changes})  # type: ignore[arg-type]


def parsed(sql: str) -> exp.Select:
    statements = sqlglot.parse(sql, read="postgres")
    assert len(statements) == 1
    assert isinstance(statements[0], exp.Select)
    return statements[0]


def test_one_select_gives_the_sources_columns_in_their_order() -> None:
    """The Parquet file is written by position of the contract."""
    found = parsed(select_rows(source(), Placement("order_date"), [MARCH]))
    assert found.named_selects == list(source().columns)


def test_a_joined_column_is_the_parents() -> None:
    """A line has no date of its own: it moves with its order."""
    rows = select_rows(source(), Placement("order_date"), [MARCH])
    assert 'j1."placed_on" as "order_date"' in rows
    assert """(j1."placed_on" >= date '2024-03-01' and j1."placed_on" < date '2024-04-01')""" in rows


def test_a_join_may_go_on_from_the_one_before() -> None:
    """line → order → buyer: the buyer's number comes from the order."""
    rows = select_rows(source(), Placement("order_date"), [MARCH])
    assert 'left join "erp"."orders" j1 on j1."id" = t."order_id"' in rows
    assert 'left join "erp"."buyers" j2 on j2."id" = j1."buyer"' in rows


def test_a_join_does_not_see_the_columns_that_it_brings() -> None:
    """A join that replaces the column it joins on would refer to itself."""
    join = Join(table="erp.merged", on={"old": "order_id"}, columns={"order_id": "new"})
    rows = select_rows(source(joins=(join,)), Placement("order_date"), [MARCH])
    assert 'j1."old" = t."order_id"' in rows
    assert 'j1."new" as "order_id"' in rows


def test_reserved_words_are_quoted() -> None:
    """`user` unquoted is the session's user in Postgres: every row would have the same."""
    assert 't."user" as "user"' in select_rows(source(), Placement("order_date"), [MARCH])


def test_several_windows_are_read_by_one_statement() -> None:
    """One statement, one scan; the months between them stay out, and brackets keep the `or` inside."""
    condition = placed_by(source(), Placement("order_date")).keep([MARCH, MAY])
    assert condition.count(" or ") == 1
    assert condition.startswith("((")
    assert condition.endswith("))")


def test_windows_of_a_stamp_are_utc_whatever_the_sessions_time_zone() -> None:
    """The table's months are UTC months: a server in Berlin would read and count an hour of other months."""
    by_stamp = source(joins=())
    assert placed_by(by_stamp, Placement("updated_at")).keep([MARCH]) == (
        "((t.\"updated_at\" >= timestamptz '2024-03-01 00:00:00+00' "
        "and t.\"updated_at\" < timestamptz '2024-04-01 00:00:00+00'))"
    )
    month = "to_char((t.\"updated_at\" at time zone 'UTC'), 'YYYY-MM')"
    assert month in select_fingerprints(by_stamp, Placement("updated_at"), [MARCH])
    assert month in select_partitions_of_keys(by_stamp, Placement("updated_at"))


def hashed(sql: str) -> str:
    return sql.partition("row(")[2].partition(")")[0]


def test_a_fingerprint_covers_key_stamp_and_parents() -> None:
    """A parent's change doesn't stamp its lines; they move all the same."""
    covered = hashed(select_fingerprints(source(), Placement("order_date"), [MARCH]))
    assert covered == ('t."order_id", t."line", t."updated_at", j1."placed_on", j1."buyer", j2."nation"')


def test_without_a_stamp_a_fingerprint_covers_every_column() -> None:
    """Nothing says that a row changed but the row."""
    unstamped = source(change_column=None)
    sql = select_fingerprints(unstamped, Placement("order_date"), [MARCH])
    assert hashed(sql).count('"') == 2 * len(unstamped.columns)
    assert "max(" not in sql
    parsed(sql)


def test_infinite_dates_and_numbers_that_are_none_are_counted_in_every_column_that_may_have_them() -> None:
    """They would arrive as the year 9999 and as 0; the capture refuses them by this count."""
    columns = {**source().columns, "amount": Column(type="decimal(12,2)")}
    sql = select_fingerprints(source(columns=columns), Placement("order_date"), [MARCH])
    day, stamp = 'j1."placed_on"', 't."updated_at"'
    assert (
        f"(where not ({day} >= date '0001-01-01' and {day} < date '10000-01-01') or "
        f"not ({stamp} >= timestamptz '0001-01-01 00:00:00+00' and {stamp} < timestamptz '10000-01-01 00:00:00+00') or "
        "t.\"amount\" = 'NaN')"
    ) in sql
    parsed(sql)
    undated = source(
        columns={"order_id": Column(type="bigint"), "line": Column(type="int")}, change_column=None, joins=()
    )
    assert "(where false)" in select_fingerprints(undated, Placement("order_id"), [MARCH])


@pytest.mark.parametrize(("key", "arrays"), [(("order_id",), 1), (("order_id", "line"), 2)])
def test_keys_are_parameters_one_array_per_column(key: tuple[str, ...], arrays: int) -> None:
    """Values never become SQL text, and ten thousand keys are one statement."""
    sql = select_partitions_of_keys(source(key=key), Placement("order_date"))
    assert sql.count("%s") == arrays
    assert "%s::bigint[]" in sql
