"""A test of the example's gdp_sales that passes; tests change it."""

from pathlib import Path

from etl_assets.project import ASSETS_FOLDER, load_project

EXAMPLE = load_project(ASSETS_FOLDER)
TEST = """\
partition: 2024-05
defaults:
  silver.sales_lines: {line_number: 1, part_id: 7, quantity: 1, discount: 0, tax: 0,
                       ship_date: 2024-06-03, commit_date: 2024-06-05}
given:
  silver.sales_lines:
    - {order_id: 1, order_date: 2024-05-03, extended_price: 10.10}
    - {order_id: 2, order_date: 2024-05-03, extended_price: 1}
  silver.sales_orders:
    - {order_id: 1, order_date: 2024-05-03, customer_id: 1, currency: EUR, status: O}
    - {order_id: 2, order_date: 2024-05-03, customer_id: 1, currency: USD, status: O}
  silver.customers: [{customer_id: 1, valid_from: 2020-01-01, segment: BUILDING, nation: FRANCE, region: EUROPE}]
  silver.currency_rates: []
expect:
  - {order_id: 1, line_number: 1, net_amount: 10.10}
rejected:
  - {key: {order_id: 2, line_number: 1}, reason: no exchange rate at most 10 days before the order}
"""
"""A test of gdp_sales that passes."""


def written(folder: Path, text: str, dataset: str = "gdp_sales") -> Path:
    path = folder / dataset / "tests" / "a_test.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
