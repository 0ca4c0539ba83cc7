"""The tiny sales in euro: each line is converted by the last rate at most 10 days before its order, or rejected."""

from pathlib import Path

from tests.exact_amounts import euro_sql
from tests.property.tiny_sales import write_project

RATES, SALES, REVENUE = "silver/rates", "gdp/sales", "kpi/revenue"
REASON = "no exchange rate at most 10 days before the order"
_RATES = """
dataset: rates
owner: team:test
tenant: acme
description: Units of a currency for one euro.
source:
  kind: postgres
  system: erp
  table: erp.rates
  extract: full
  key: [code, rate_date]
  columns: {code: string, rate_date: date, rate: "decimal(18,6)", note: string}
bronze: {}
silver:
  key: [code, rate_date]
  columns:
    code: {nullable: false, description: ISO code}
    rate_date: {nullable: false, description: Day}
    rate: {nullable: false, description: Units for one euro, check: {gt: 0}}
    note: {description: Remark}
"""
_LOOKUPS = """
  lookups:
    silver.rates:
      {from: silver.orders, on: {currency: code}, as_of: {order_date: rate_date}, days_back: 10, columns: [rate]}
"""
_SQL = """
with converted as (
    select l.order_id, l.line_number, l.order_date, o.currency, l.amount::decimal(18, 2) as amount, r.rate
    from silver.lines as l
    left join silver.orders as o on o.order_id = l.order_id
    left join lookup.rates as r on r.currency = o.currency and r.order_date = o.order_date
)
select order_id, line_number, order_date, currency, amount::decimal(15, 2) as amount,
    ({euro})::decimal(18, 2) as amount_eur
from converted
"""


def write_lookups(root: Path) -> Path:
    """The project's files, with one more table in the ERP: erp.rates."""
    write_project(root)
    datasets = root / "datasets"
    (datasets / "rates").mkdir()
    (datasets / "rates/manifest.yaml").write_text(_RATES.lstrip())
    (datasets / "sales/sales.sql").write_text(_SQL.format(euro=euro_sql()).lstrip())
    sales = datasets / "sales/manifest.yaml"
    text = sales.read_text().replace("  grain: silver.lines\n", f"  grain: silver.lines{_LOOKUPS}")
    sales.write_text(f'{text}    amount_eur: {{type: "decimal(18,2)", nullable: false, reason: {REASON}}}\n')
    revenue = datasets / "revenue/manifest.yaml"
    rejected = "rejected: {table: gdp.sales, columns: {lines: rows, amount: amount}}"
    grouped = f'by: [currency], compare: {{lines: "0", amount: "0.00"}}, {rejected}'
    revenue.write_text(revenue.read_text().replace('compare: {orders: "0", lines: "0", amount: "0.00"}', grouped))
    return root
