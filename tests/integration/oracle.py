"""The KPI by plain SQL in the ERP: what the pipeline must arrive at. Shares no code with the product."""

from datetime import date
from decimal import Decimal
from typing import Any

import psycopg

NET_REVENUE_SQL = """
SELECT month, nation, currency, orders, lines, net_revenue, round(net_revenue / orders, 2)
FROM (
    SELECT date_trunc('month', o.order_date)::date AS month,
           n.name AS nation,
           o.currency,
           count(DISTINCT o.order_id) AS orders,
           count(*) AS lines,
           sum(round(l.extended_price * (1 - l.discount), 2)) AS net_revenue
    FROM erp.order_lines l
    JOIN erp.orders o USING (order_id)
    JOIN erp.customers c USING (customer_id)
    JOIN erp.nations n USING (nation_id)
    WHERE o.order_date >= DATE '2023-08-01' AND o.order_date < DATE '2026-08-01'
    GROUP BY 1, 2, 3
) AS sums
ORDER BY month, nation, currency
"""

NetRevenueRow = tuple[date, str, str, int, int, Decimal, Decimal]


def net_revenue(dsn: str) -> list[NetRevenueRow]:
    """Rows (month, nation, currency, orders, lines, net_revenue, average_order_value), in that order.

    Months 2023-08 to 2026-07 of order_date, as their first day; amounts in `currency` with 2 decimals. A
    line's net revenue is extended_price × (1 − discount), rounded half away from zero before it is summed.
    """
    with psycopg.connect(dsn) as connection:
        rows: list[Any] = connection.execute(NET_REVENUE_SQL).fetchall()
    return rows
