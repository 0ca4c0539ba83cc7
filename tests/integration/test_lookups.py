"""Lookups through Dagster: a partition is made again when a row that it looked up changes, and for nothing else."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from etl_assets.recover import recover
from etl_assets.verify import verify
from etl_resources.calendar import WHOLE
from etl_resources.ledger.ledger import Ledger
from etl_resources.looked_up import Lookups, forget_lookups
from tests.integration.lookups_project import RATES, REASON, REVENUE, SALES, write_lookups
from tests.integration.staleness import stale
from tests.lake import Lake, Run, new_lake
from tests.property.tiny_sales import MONTHS, Erp, State

JANUARY, FEBRUARY, MARCH = MONTHS
STATE = State(
    {1: (date(2024, 1, 6), "USD"), 2: (date(2024, 2, 10), "USD"), 3: (date(2024, 2, 20), "RUB")},
    {(1, 1): Decimal("10.00"), (2, 1): Decimal("20.00"), (3, 1): Decimal("30.00"), (3, 2): Decimal("0.01")},
)
RATES_FIRST = [("USD", "2024-01-05", "1.25", ""), ("USD", "2024-02-09", "1.6", ""), ("CHF", "2024-01-05", "0.9", "")]


@pytest.fixture
def lake(stack: object, tmp_path: Path) -> Iterator[Lake]:
    with new_lake(tmp_path / "home", scale=None, project=write_lookups(tmp_path / "project")) as made:
        erp = Erp(made.erp_dsn)
        made.erp("create table erp.rates (code text, rate_date date, rate numeric(18,6), note text, "
                 "primary key (code, rate_date))")  # fmt: skip
        add_rates(made, *RATES_FIRST)
        erp.show(STATE)
        yield made
        erp.close()


def add_rates(lake: Lake, *rates: tuple[str, str, str, str]) -> None:
    for rate in rates:
        lake.erp("insert into erp.rates values (%s, %s, %s, %s) on conflict (code, rate_date) do update "
                 "set rate = excluded.rate, note = excluded.note", *rate)  # fmt: skip


def run_all(lake: Lake) -> Run:
    run = lake.materialize(JANUARY, FEBRUARY)
    assert run.success, run.error
    return run


def euros(lake: Lake) -> list[tuple[object, ...]]:
    return sorted(lake.rows(SALES, "order_id, line_number, amount_eur"))


def test_only_what_was_looked_up_is_a_change(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The purpose (DESIGN §4): an unrelated rate recomputes nothing, a corrected one its month, a late one brings back
    what was rejected. Captured = published + rejected holds at each step, else there were no KPI.
    """
    run_all(lake)
    assert euros(lake) == [(1, 1, Decimal("8.00")), (2, 1, Decimal("12.50"))]
    assert lake.dead_letters("distinct reason, payload ->> '$.amount'") == [
        (REASON, "0.01"), (REASON, "30.0"),
    ]  # fmt: skip

    add_rates(lake, ("CHF", "2024-02-01", "0.95", ""), ("USD", "2024-01-05", "1.25", "checked"))
    unrelated = run_all(lake)
    assert unrelated.published(RATES) == {WHOLE}
    for asset in (SALES, REVENUE):
        assert unrelated.partitions(asset, "pruned") == {JANUARY, FEBRUARY}, asset
        assert stale(lake, asset, MONTHS[:2]) == set(), asset

    with monkeypatch.context() as patched:
        patched.setattr(Lookups, "_evaluate", None)  # nothing changed: what was found is remembered, no file is read
        assert run_all(lake).partitions(SALES, "pruned") == {JANUARY, FEBRUARY}

    add_rates(lake, ("USD", "2024-01-06", "1.00", ""), ("RUB", "2024-02-19", "100", ""))
    changed = run_all(lake)
    assert changed.published(SALES) == {JANUARY, FEBRUARY}
    assert euros(lake) == [
        (1, 1, Decimal("10.00")), (2, 1, Decimal("12.50")), (3, 1, Decimal("0.30")), (3, 2, Decimal("0.00")),
    ]  # fmt: skip
    assert lake.dead_letters("count(*)") == [(0,)]
    assert lake.platform("select count(*) from etl.lookup_versions") == [(2,)], "what is not current is forgotten"

    report = verify(lake.runtime, (), (), lambda _: None)
    assert report.equal, "\n".join(report.lines())


def test_maintenance_forgets_what_earlier_contents_looked_up(lake: Lake) -> None:
    """Else every change of a month would be remembered for ever; what is current still needs no file to plan."""
    run_all(lake)
    lake.erp("update erp.orders set currency = 'CHF' where order_id = 1")
    run_all(lake)
    assert lake.platform("select count(*) from etl.lookup_versions") == [(3,)]
    with Ledger.open(lake.settings) as ledger:
        assert forget_lookups(ledger.connection) == 1
        assert forget_lookups(ledger.connection) == 0
    assert run_all(lake).partitions(SALES, "pruned") == {JANUARY, FEBRUARY}


def test_a_lost_ledger_knows_again_what_was_looked_up(lake: Lake) -> None:
    """The version of a lookup is evidence of its partition: a rebuilt ledger prunes, and remembers anew."""
    run_all(lake)
    before = lake.platform(
        "select partition, token, inputs from etl.current_versions where asset = 'gdp.sales' order by 1"
    )
    lake.platform("drop schema etl cascade")
    recovery = recover(lake.runtime)
    assert recovery.unsettled == []
    after = lake.platform(
        "select partition, token, inputs from etl.current_versions where asset = 'gdp.sales' order by 1"
    )
    assert after == before
    assert [i["asset"] for i in after[0][2] if i["looked_up"]] == ["silver.rates"]
    again = run_all(lake)
    assert again.partitions(SALES, "pruned") == {JANUARY, FEBRUARY}
    assert lake.platform("select count(*) from etl.lookup_versions") == [(2,)]
