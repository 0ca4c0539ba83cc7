"""A contract through Dagster: what warns is published and told, what stops is not, and rows are judged twice."""

from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest

from etl_resources.engines import transform
from etl_resources.quality.rules import REASON
from tests.lake import Lake, Run, new_lake
from tests.property.tiny_sales import MONTHS, Erp, State, write_project

JANUARY, FEBRUARY, _ = MONTHS
ORDERS, LINES, SALES = "silver/orders", "silver/lines", "gdp/sales"
GOOD = State(
    {1: (date(2024, 1, 6), "EUR"), 2: (date(2024, 2, 10), "EUR")},
    {(1, 1): Decimal("10.00"), (2, 1): Decimal("20.00"), (2, 2): Decimal("30.00")},
)
EDITS = (
    (
        "orders/manifest.yaml",
        'check: {matches: "[A-Z]{3}"}}',
        'check: [{matches: "[A-Z]{3}"}, {isin: [EUR, USD], severity: error, name: known_currency}]}',
    ),
    (
        "lines/manifest.yaml",
        "check: {ge: 0}}\n",
        'check: [{ge: 0}, {le: "25.00", severity: warn}]}\n  rules:\n'
        "    - {name: in_order, expression: line_number < 10, reason: more than nine lines}\n",
    ),
    (
        "sales/manifest.yaml",
        "description: Price}\n",
        "description: Price}\n  checks:\n    - {sql: no-half.sql, description: no order with one line alone}\n"
        "    - {unique: [order_date], severity: warn}\n    - {freshness: {column: order_date, within_days: 27}}\n",
    ),
)
QUERY = """
select order_id from gdp.sales join silver.orders using (order_id) group by all having sum(amount) < 1;
"""


@pytest.fixture
def lake(stack: object, tmp_path: Path) -> Iterator[Lake]:
    root = tmp_path / "project"
    write_project(root)
    for name, old, new in EDITS:
        path = root / "datasets" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
    (root / "datasets/sales/no-half.sql").write_text(QUERY)
    with new_lake(tmp_path / "home", scale=None, project=root) as made:
        yield made


def checks(run: Run, asset: str, partition: str) -> Mapping[str, dg.AssetCheckEvaluation]:
    """Name → evaluation of one partition."""
    found = [e.asset_check_evaluation_data for e in run.events
             if e.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION]  # fmt: skip
    return {e.check_name: e for e in found if (e.asset_key.to_user_string(), e.partition) == (asset, partition)}


def test_what_warns_is_published_and_what_stops_is_not(lake: Lake) -> None:
    """Each declared rule is a check of its own with counts and keys; one month that fails holds no other."""
    erp = Erp(lake.erp_dsn)
    erp.show(GOOD)
    first = lake.materialize(JANUARY, FEBRUARY)
    assert first.success, first.error
    warned = checks(first, LINES, FEBRUARY)["amount_le"]
    assert (warned.passed, warned.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert warned.metadata["rows"].value == 1
    assert warned.metadata["keys"].value == '{"order_id":2,"line_number":2}'
    sales = checks(first, SALES, FEBRUARY)
    assert (sales["no_half"].passed, sales["freshness"].passed, sales["unique_order_date"].passed) == (
        True,
        True,
        False,
    )
    assert all(c.passed for c in checks(first, LINES, JANUARY).values())

    erp.show(State({**GOOD.orders, 2: (date(2024, 2, 10), "CHF"), 3: (date(2024, 1, 2), "EUR")},
                   {**GOOD.lines, (3, 12): Decimal("5.00")}))  # fmt: skip
    second = lake.materialize(JANUARY, FEBRUARY)
    assert not second.success
    assert f"silver.orders, partition {FEBRUARY} failed its audit: known_currency: rows 1" in second.error
    assert second.published(ORDERS) == {JANUARY}
    assert lake.rows(ORDERS, "currency", "order_id = 2") == [("EUR",)]
    assert lake.rows(LINES, "count(*)", "order_id = 3") == [(0,)]
    stopped = checks(second, ORDERS, FEBRUARY)["known_currency"]
    assert (stopped.passed, stopped.severity) == (False, dg.AssetCheckSeverity.ERROR)
    erp.close()


def test_a_row_that_the_first_judge_lets_through_is_stopped_by_the_second(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in our own SQL of the rules must not reach a reader."""
    erp = Erp(lake.erp_dsn)
    erp.show(State(GOOD.orders, {**GOOD.lines, (1, 1): Decimal("-1.00"), (1, 12): Decimal("1.00")}))
    monkeypatch.setattr(transform, "rejection_reasons", lambda *_: f"[]::{REASON}[]")
    run = lake.materialize(JANUARY, JANUARY)
    assert not run.success
    assert "contract_held: rows 2, broken amount ge (1); in_order (1)" in run.error
    assert run.published(LINES) == set()
    erp.close()


CURRENCIES = """
dataset: currencies
owner: team:test
tenant: acme
description: Currencies that are dealt in.
source:
  {kind: postgres, system: erp, table: erp.currencies, extract: full, key: [code],
   columns: {code: string, name: string}}
bronze: {}
silver:
  key: [code]
  columns:
    code: {nullable: false, description: ISO code}
    name: {description: Name}
"""
SILVER = ("bronze/orders", "bronze/lines", "bronze/currencies", "silver/currencies", ORDERS)


@pytest.fixture
def referring(stack: object, tmp_path: Path) -> Iterator[Lake]:
    root = tmp_path / "project"
    write_project(root)
    (root / "datasets/currencies").mkdir()
    (root / "datasets/currencies/manifest.yaml").write_text(CURRENCIES.lstrip())
    orders = root / "datasets/orders/manifest.yaml"
    references = "silver:\n  references:\n    silver.currencies: {on: {currency: code}, reason: not dealt in}\n"
    orders.write_text(orders.read_text().replace("silver:\n", references, 1))
    with new_lake(tmp_path / "home", scale=None, project=root) as made:
        yield made


def test_a_row_that_comes_to_be_known_is_accepted_where_it_was_missed_and_nowhere_else(referring: Lake) -> None:
    """The reference is a lookup: its misses are in the version, what nobody refers to isn't."""
    lake = referring
    erp = Erp(lake.erp_dsn)
    lake.erp("create table erp.currencies (code text primary key, name text)")
    lake.erp("insert into erp.currencies values ('EUR', 'Euro')")
    erp.show(State({1: (date(2024, 1, 6), "EUR"), 2: (date(2024, 2, 10), "CHF"), 3: (date(2024, 2, 11), "EUR")}))
    first = lake.materialize(JANUARY, FEBRUARY, SILVER)
    assert first.success, first.error
    assert sorted(lake.rows(ORDERS, "order_id")) == [(1,), (3,)]
    assert first.materializations(ORDERS)[FEBRUARY].metadata["rejected"].value == 1
    assert first.materializations(ORDERS)[FEBRUARY].metadata["rejected_share"].value == 0.5

    lake.erp("insert into erp.currencies values ('GBP', 'Pound')")
    lake.erp("update erp.currencies set name = 'euro' where code = 'EUR'")
    unrelated = lake.materialize(JANUARY, FEBRUARY, SILVER)
    assert unrelated.success, unrelated.error
    assert unrelated.partitions(ORDERS, "pruned") == {JANUARY, FEBRUARY}

    lake.erp("insert into erp.currencies values ('CHF', 'Franc')")
    known = lake.materialize(JANUARY, FEBRUARY, SILVER)
    assert known.success, known.error
    assert known.partitions(ORDERS, "pruned") == {JANUARY}
    assert known.published(ORDERS) == {FEBRUARY}
    assert sorted(lake.rows(ORDERS, "order_id")) == [(1,), (2,), (3,)]
    erp.close()
