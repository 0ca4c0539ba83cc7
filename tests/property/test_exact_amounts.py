"""Amounts in euro to the cent: the documented SQL against Python's decimals."""

from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal, localcontext

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.exact_amounts import euro_sql

AMOUNTS = st.decimals(min_value=-(10**15), max_value=10**15, places=2)
RATES = st.decimals(min_value=Decimal("0.01"), max_value=10**11, places=6)
HALVES = st.integers(-(10**9), 10**9).map(lambda n: Decimal(n * 10 + 5) / 100)


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        yield connection


def in_euro(engine: duckdb.DuckDBPyConnection, amount: Decimal | None, rate: Decimal | None) -> tuple[object, str]:
    row = engine.execute(
        f"select x, typeof(x) from (select {euro_sql()} as x from "
        "(select ?::decimal(18, 2) as amount, ?::decimal(18, 6) as rate))",
        [amount if amount is None else str(amount), rate if rate is None else str(rate)],
    ).fetchone()
    assert row is not None
    return row[0], row[1]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(amount=AMOUNTS | HALVES, rate=RATES | st.just(Decimal(10)))
@example(amount=Decimal("-0.05"), rate=Decimal(10))
@example(amount=Decimal("0.05"), rate=Decimal(10))
@example(amount=Decimal("0.04"), rate=Decimal(10))
@example(amount=Decimal("999999999999999.99"), rate=Decimal("0.01"))
def test_the_quotient_is_exact_and_half_a_cent_goes_away_from_zero(
    engine: duckdb.DuckDBPyConnection, amount: Decimal, rate: Decimal
) -> None:
    """A double would be right nearly always; the KPI is accepted by equality, always."""
    with localcontext(prec=60):
        expected = (amount / rate).quantize(Decimal("0.01"), ROUND_HALF_UP)
    if abs(expected) < 10**16:
        assert in_euro(engine, amount, rate) == (expected, "DECIMAL(18,2)")


@pytest.mark.parametrize("rate", [None, Decimal(0)])
def test_without_a_rate_there_is_no_amount(engine: duckdb.DuckDBPyConnection, rate: Decimal | None) -> None:
    """Never 0 euro: the row is rejected with its reason."""
    assert in_euro(engine, Decimal(1), rate)[0] is None
