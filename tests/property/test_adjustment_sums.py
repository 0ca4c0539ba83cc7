"""closed + Σ adjustments = restated, exactly, after any history of a period: the invariant of period close (U1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_resources.adjustments import (
    BOOKED,
    ENTRY,
    OWN,
    RESTATED,
    Adjusted,
    adjustments_contract,
    adjustments_sql,
    net_rows,
)
from etl_resources.calendar import PERIOD, period_relation
from etl_resources.contract import Contract, ContractColumn
from etl_resources.identifiers import quote
from etl_resources.tables.schema import duckdb_type

CONTRACT = Contract(
    (
        ContractColumn("nation", "string", nullable=False),
        ContractColumn("orders", "bigint"),
        ContractColumn("revenue", "decimal(18,2)"),
        ContractColumn("manager", "string"),
    ),
    ("nation",),
    None,
)
ADJUSTED = Adjusted("kpi.revenue", CONTRACT, ("orders", "revenue"))
Rows = frozenset[tuple[Any, ...]]
amounts = st.one_of(st.none(), st.decimals(-(10**15), 10**15, places=2, allow_nan=False))
states = st.dictionaries(
    st.sampled_from(["DE", "FR", "IT", "ES"]),
    st.tuples(st.one_of(st.none(), st.integers(-5, 5)), amounts, st.sampled_from(["ana", "bo", None])),
).map(lambda found: frozenset((k, *v) for k, v in found.items()))
events = st.one_of(states.map(lambda s: ("late", s)), st.just(("revert", None)), st.just(("reopen", None)))


@contextmanager
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for schema in ("kpi", "adjusted", "calendar"):
            connection.execute(f"create schema {schema}")
        for name, contract in (
            (ADJUSTED.table, CONTRACT),
            (RESTATED, CONTRACT),
            (BOOKED, adjustments_contract(ADJUSTED)),
        ):
            columns = ", ".join(f"{quote(c.name)} {duckdb_type(c.type)}" for c in contract.columns)
            connection.execute(f"create table {name} ({columns})")
        connection.execute(f"create view {PERIOD} as select * from {period_relation('2024-01', 1)}")
        entry = "date '2024-03-02' as adjusted_on, 'run' as adjusted_by_run, 'late' as adjusted_because"
        connection.execute(f"create view {ENTRY} as select {entry}")
        yield connection


def fill(connection: duckdb.DuckDBPyConnection, table: str, rows: Rows) -> None:
    connection.execute(f"delete from {table}")
    if rows:
        connection.executemany(f"insert into {table} values (?, ?, ?, ?)", [list(r) for r in rows])


def adjust(connection: duckdb.DuckDBPyConnection) -> int:
    """One run of the adjustments; how many entries are new. What was booked stays as it was."""
    before = connection.execute(f"from {BOOKED}").fetchall()
    found = connection.execute(adjustments_sql(ADJUSTED)).fetchall()
    assert set(before) <= set(found)
    assert len({row[:3] for row in found}) == len(found), "the key is unique"
    connection.execute(f"create or replace temp table booked_now as {adjustments_sql(ADJUSTED)}")
    connection.execute(f"delete from {BOOKED}")
    connection.execute(f"insert into {BOOKED} from booked_now")
    return len(found) - len(before)


def totals(connection: duckdb.DuckDBPyConnection, *tables: str) -> tuple[Any, ...]:
    union = " union all ".join(f"select orders, revenue from {t}" for t in tables)
    row = connection.execute(f"select coalesce(sum(orders), 0), coalesce(sum(revenue), 0) from ({union})").fetchone()
    assert row is not None
    return row


@given(closed=states, history=st.lists(events, max_size=5))
@settings(max_examples=40, deadline=None)
def test_closed_and_adjustments_are_what_the_inputs_give(closed: Rows, history: list[tuple[str, Any]]) -> None:
    """Row by row and in every sum, also when figures revert and when the period is reopened; a repeat adds nothing."""
    with engine() as connection:
        fill(connection, ADJUSTED.table, closed)
        published = restated = closed
        for what, state in history:
            restated = {"late": state, "revert": published, "reopen": restated}[what]
            if what == "reopen":
                published = restated
                fill(connection, ADJUSTED.table, published)
            fill(connection, RESTATED, restated)

            adjust(connection)

            assert adjust(connection) == 0, "again, after a crash, say"
            net = connection.execute(f"from {net_rows(ADJUSTED, ADJUSTED.table, BOOKED)}").fetchall()
            assert frozenset(net) == restated
            assert len(net) == len(restated)
            assert totals(connection, ADJUSTED.table, BOOKED) == totals(connection, RESTATED)


def test_a_change_is_reversed_and_booked_and_reverted_again() -> None:
    """The entries as an accountant reads them."""
    closed = frozenset({("DE", 2, Decimal("10.00"), "ana"), ("FR", 1, Decimal("5.00"), "bo")})
    late = frozenset({("DE", 3, Decimal("12.50"), "ana"), ("IT", 1, Decimal("1.00"), None)})
    with engine() as connection:
        fill(connection, ADJUSTED.table, closed)
        fill(connection, RESTATED, late)
        assert adjust(connection) == 4
        fill(connection, RESTATED, closed)
        assert adjust(connection) == 4
        names = ", ".join(n for n in OWN if not n.startswith("adjusted_"))
        booked = connection.execute(f"select {names}, nation, orders, revenue from {BOOKED} order by 1, 2").fetchall()
        dates = connection.execute(f"select distinct adjusted_period, adjusted_on from {BOOKED}").fetchall()
    assert booked == [
        (1, 1, "reversal", "DE", -2, Decimal("-10.00")),
        (1, 2, "booking", "DE", 3, Decimal("12.50")),
        (1, 3, "reversal", "FR", -1, Decimal("-5.00")),
        (1, 4, "booking", "IT", 1, Decimal("1.00")),
        (2, 1, "reversal", "DE", -3, Decimal("-12.50")),
        (2, 2, "booking", "DE", 2, Decimal("10.00")),
        (2, 3, "booking", "FR", 1, Decimal("5.00")),
        (2, 4, "reversal", "IT", -1, Decimal("-1.00")),
    ]
    assert dates == [(date(2024, 1, 1), date(2024, 3, 2))]


def test_a_table_may_not_lose_digits() -> None:
    """Sums of counts are integers: a double would lose a unit in the last place of a large one."""
    with engine() as connection:
        kinds = dict(
            connection.execute(
                f"select column_name, column_type from (describe {adjustments_sql(ADJUSTED)})"
            ).fetchall()
        )
    assert (kinds["orders"], kinds["revenue"]) == ("BIGINT", "DECIMAL(18,2)")
