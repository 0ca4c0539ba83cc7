"""captured = published + rejected, per currency: what can't be converted is not in the KPI, and not lost (M15)."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from etl_assets.verify import verify
from etl_resources.dead_letters.reading import rejected_sums
from etl_resources.engines.embedded import connect
from etl_resources.errors import PermanentError
from etl_resources.ledger.ledger import Ledger
from tests.lake import new_lake
from tests.property.tiny_sales import MONTHS, Erp, State, write_project

JANUARY = MONTHS[0]
REASON = "no exchange rate at most 10 days before the order"
SUMS = {"lines": "rows", "amount": "amount"}
STATE = State(
    {1: (date(2024, 1, 5), "EUR"), 2: (date(2024, 1, 6), "RUB"), 3: (date(2024, 1, 7), "USD")},
    {(1, 1): Decimal("10.10"), (1, 2): Decimal("0.01"), (2, 1): Decimal("5.55"), (2, 2): Decimal("4.45"),
     (3, 1): Decimal("7.00")},
)  # fmt: skip


def write(root: Path) -> Path:
    """Lines in roubles have no amount in euro: rejected with a reason, and counted by the KPI's reconciliation."""
    write_project(root)
    gdp, sql = root / "datasets/sales/manifest.yaml", root / "datasets/sales/sales.sql"
    gdp.write_text(gdp.read_text() + f'    amount_eur: {{type: "decimal(15,2)", nullable: false, reason: {REASON}}}\n')
    euro = "l.amount, case when o.currency <> 'RUB' then l.amount end as amount_eur"
    sql.write_text(sql.read_text().replace("l.amount", euro))
    kpi = root / "datasets/revenue/manifest.yaml"
    rejected = "rejected: {table: gdp.sales, columns: {lines: rows, amount: amount}}"
    kpi.write_text(
        kpi.read_text().replace(
            'compare: {orders: "0", lines: "0", amount: "0.00"}',
            f'by: [currency], compare: {{lines: "0", amount: "0.00"}}, {rejected}',
        )
    )
    return root


def test_a_kpi_is_accepted_with_what_was_rejected_before_it(stack: object, tmp_path: Path) -> None:
    """The rouble's revenue is told with its reason, to the cent; one dead letter less and nothing is published."""
    with new_lake(tmp_path / "home", scale=None, project=write(tmp_path / "project")) as lake:
        erp = Erp(lake.erp_dsn)
        erp.show(STATE)
        run = lake.materialize(JANUARY)
        assert run.success, run.error
        letters = lake.dead_letters("reason, key ->> '$.order_id'")
        assert letters == [(REASON, "2")] * 2
        assert sorted(lake.rows("kpi/revenue", "currency, lines, amount")) == [
            ("EUR", 2, Decimal("10.11")), ("USD", 1, Decimal("7.00")),
        ]  # fmt: skip

        with Ledger.open(lake.settings) as ledger, connect(lake.settings) as engine:
            publish = ledger.current("gdp.sales")[JANUARY]
            by_currency = rejected_sums(engine, ledger.connection, publish, ["currency"], SUMS)
            assert by_currency == [{"currency": "RUB", "lines": 2, "amount": Decimal("10.00")}]
            lake.platform("update etl.dead_letter_files set rows = rows - 1")
            with pytest.raises(PermanentError, match=r"holds 1 of the 2 rejected rows .* `data-pipeline recover`"):
                rejected_sums(engine, ledger.connection, publish, ["currency"], SUMS)
        lake.platform("delete from etl.dead_letter_files")
        report = verify(lake.runtime, (), (), lambda _: None)
        (lost,) = [d for asset in report.assets for d in asset.differences]
        assert (lost.asset, lost.what, lost.found) == ("gdp.sales", "dead letters", "0 (files)")
        erp.close()
