"""Orders and their lines in three months, through every layer: as manifests, and in plain Python as what is right.

Small on purpose, so that a test can run it a hundred times: everything that the big demo has is here once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg

MONTHS = ("2024-01", "2024-02", "2024-03")
ORDERS, LINES = "bronze.orders", "bronze.lines"
SILVER_ORDERS, SILVER_LINES = "silver.orders", "silver.lines"
SALES, REVENUE, SERVED = "gdp.sales", "kpi.revenue", "postgres.analytics.revenue"
BRONZE = (ORDERS, LINES)
FLOW = (SILVER_ORDERS, SILVER_LINES, SALES, REVENUE, SERVED)
"""What is computed, inputs first."""
INPUTS = {
    SILVER_ORDERS: (ORDERS,), SILVER_LINES: (LINES,), SALES: (SILVER_LINES, SILVER_ORDERS), REVENUE: (SALES,),
    SERVED: (REVENUE,),
}  # fmt: skip
COLUMNS = {
    ORDERS: "order_id, order_date, currency",
    LINES: "order_id, line_number, order_date, amount",
    SILVER_ORDERS: "order_id, order_date, currency",
    SILVER_LINES: "order_id, line_number, order_date, amount",
    SALES: "order_id, line_number, order_date, currency, amount",
    REVENUE: "month, currency, orders, lines, amount",
    SERVED: "month, currency, orders, lines, amount",
}
GOOD_CURRENCIES = ("EUR", "USD")
Rows = frozenset[tuple[Any, ...]]

_FILES = {
    "platform.yaml": """
etl_resource_prefix: tiny
database_prefix: tiny
calendar: {time_zone: UTC, fiscal_year_start: 1, start: 2024-01, end: 2024-03}
sizes: {medium: {duckdb: {threads: 1, memory_mb: 256}}}
tenants: [acme]
network_profiles: [private_vpc]
systems: {erp: {kind: postgres, connection: {secret: "env:ERP_DSN"}}}
allowed_targets: {postgres: ["analytics.*"]}
""",
    "orders/manifest.yaml": """
dataset: orders
owner: team:test
tenant: acme
description: Orders.
partitions: {by: order_date, every: month}
source:
  {kind: postgres, system: erp, table: erp.orders, key: [order_id],
   columns: {order_id: bigint, order_date: date, currency: string}}
bronze: {}
silver:
  key: [order_id]
  columns:
    order_id: {nullable: false, description: Number}
    order_date: {nullable: false, description: Day}
    currency: {nullable: false, description: ISO code, check: {matches: "[A-Z]{3}"}}
""",
    "lines/manifest.yaml": """
dataset: lines
owner: team:test
tenant: acme
description: Lines of orders.
partitions: {by: order_date, every: month}
source:
  kind: postgres
  system: erp
  table: erp.lines
  key: [order_id, line_number]
  joins: [{table: erp.orders, on: {order_id: order_id}, columns: {order_date: order_date}}]
  columns: {order_id: bigint, line_number: int, order_date: date, amount: "decimal(15,2)"}
bronze: {}
silver:
  key: [order_id, line_number]
  columns:
    order_id: {nullable: false, description: Number}
    line_number: {nullable: false, description: Position}
    order_date: {nullable: false, description: Day of the order}
    amount: {nullable: false, description: Price, check: {ge: 0}}
""",
    "sales/manifest.yaml": """
dataset: sales
owner: team:test
tenant: acme
description: Lines with their order.
partitions: {by: order_date, every: month}
gdp:
  key: [order_id, line_number]
  sql: sales.sql
  grain: silver.lines
  columns:
    order_id: {type: bigint, nullable: false, description: Number}
    line_number: {type: int, nullable: false, description: Position}
    order_date: {type: date, nullable: false, description: Day of the order}
    currency: {type: string, nullable: false, description: ISO code}
    amount: {type: "decimal(15,2)", nullable: false, description: Price}
""",
    "sales/sales.sql": """
select l.order_id, l.line_number, l.order_date, o.currency, l.amount
from silver.lines as l left join silver.orders as o on o.order_id = l.order_id
""",
    "revenue/manifest.yaml": """
dataset: revenue
owner: team:test
tenant: acme
description: Revenue by month and currency, reconciled.
partitions: {by: month, every: month}
kpi:
  key: [month, currency]
  sql: revenue.sql
  columns:
    month: {type: date, nullable: false, description: First day}
    currency: {type: string, nullable: false, description: ISO code}
    orders: {type: bigint, nullable: false, description: Orders with a line}
    lines: {type: bigint, nullable: false, description: Lines}
    amount: {type: "decimal(18,2)", nullable: false, description: Sum of prices}
  accept: {reconcile: {system: erp, sql: reconcile.sql, compare: {orders: "0", lines: "0", amount: "0.00"}}}
serving: [{postgres: analytics.revenue, load: replace}]
""",
    "revenue/revenue.sql": """
select date_trunc('month', order_date)::date as month, currency, count(distinct order_id) as orders,
    count(*) as lines, sum(amount)::decimal(18, 2) as amount
from gdp.sales group by all
""",
    "revenue/reconcile.sql": """
select date_trunc('month', o.order_date)::date as month, o.currency, count(distinct o.order_id) as orders,
    count(*) as lines, sum(l.amount) as amount
from erp.orders as o join erp.lines as l on l.order_id = o.order_id
where o.order_date >= %(start)s and o.order_date < %(end)s group by 1, 2
""",
}


def write_project(root: Path) -> None:
    """The project's files, for load_project(root)."""
    for name, text in _FILES.items():
        path = root / name if name == "platform.yaml" else root / "datasets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip())


@dataclass(frozen=True)
class State:
    """The source at one instant."""

    orders: Mapping[int, tuple[date, str]] = field(default_factory=dict)
    """Order → day, currency."""
    lines: Mapping[tuple[int, int], Decimal] = field(default_factory=dict)
    """Order and line → amount. Every line has its order."""

    def bronze(self, asset: str, month: str) -> Rows:
        """Rows of a source table in a month."""
        if asset == ORDERS:
            return frozenset((o, d, c) for o, (d, c) in self.orders.items() if month_of(d) == month)
        days = {o: d for o, (d, _) in self.orders.items()}
        return frozenset((o, n, days[o], a) for (o, n), a in self.lines.items() if month_of(days[o]) == month)

    def totals(self, month: str) -> Rows:
        """What the KPI is accepted against."""
        return _revenue((o, n, d, c, self.lines[(o, n)]) for o, (d, c) in self.orders.items() if month_of(d) == month
                        for (owner, n) in self.lines if owner == o)  # fmt: skip


def month_of(day: date) -> str:
    return f"{day:%Y-%m}"


def compute(asset: str, inputs: Mapping[str, Rows]) -> tuple[Rows, Rows]:
    """(rows, rejected rows' keys) of one partition of a layer, from the same partition of its inputs."""
    if asset == SILVER_ORDERS:
        good = frozenset(r for r in inputs[ORDERS] if len(r[2]) == 3 and r[2].isupper())
        return good, frozenset((r[0],) for r in inputs[ORDERS] - good)
    if asset == SILVER_LINES:
        good = frozenset(r for r in inputs[LINES] if r[3] >= 0)
        return good, frozenset(r[:2] for r in inputs[LINES] - good)
    if asset == SALES:
        currencies = {o: c for o, _, c in inputs[SILVER_ORDERS]}
        known = frozenset((o, n, d, currencies[o], a) for o, n, d, a in inputs[SILVER_LINES] if o in currencies)
        return known, frozenset((o, n) for o, n, *_ in inputs[SILVER_LINES] if o not in currencies)
    if asset == REVENUE:
        return _revenue(inputs[SALES]), frozenset()
    return inputs[REVENUE], frozenset()


def key_of(asset: str, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """What must be unique in the whole table."""
    return row[:1] if asset in (ORDERS, SILVER_ORDERS) else row[:2]


def _revenue(sales: Any) -> Rows:
    groups: dict[tuple[date, str], list[tuple[int, Decimal]]] = {}
    for order, _, day, currency, amount in sales:
        groups.setdefault((day.replace(day=1), currency), []).append((order, amount))
    return frozenset(
        (m, c, len({o for o, _ in found}), len(found), sum((a for _, a in found), Decimal(0)))
        for (m, c), found in groups.items()
    )


class Erp:
    """The source in Postgres, made to hold a state; what is the same is not touched."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._connection.execute("drop schema if exists erp cascade")
        self._connection.execute("create schema erp")
        self._connection.execute(
            "create table erp.orders (order_id bigint primary key, order_date date, currency text)"
        )
        self._connection.execute(
            "create table erp.lines (order_id bigint, line_number int, amount numeric(15,2), "
            "primary key (order_id, line_number))"
        )
        self._holds = State()

    def show(self, state: State) -> None:
        """One transaction from the state before to this one."""
        old = self._holds
        with self._connection.transaction(), self._connection.cursor() as cursor:
            gone_orders = [(o,) for o in old.orders if o not in state.orders]
            gone_lines = [k for k in old.lines if k not in state.lines]
            cursor.executemany("delete from erp.orders where order_id = %s", gone_orders)
            cursor.executemany("delete from erp.lines where order_id = %s and line_number = %s", gone_lines)
            cursor.executemany(
                "insert into erp.orders values (%s, %s, %s) on conflict (order_id) do update "
                "set order_date = excluded.order_date, currency = excluded.currency",
                [(o, *v) for o, v in state.orders.items() if old.orders.get(o) != v],
            )
            cursor.executemany(
                "insert into erp.lines values (%s, %s, %s) on conflict (order_id, line_number) do update "
                "set amount = excluded.amount",
                [(*k, a) for k, a in state.lines.items() if old.lines.get(k) != a],
            )
        self._holds = state

    def close(self) -> None:
        self._connection.close()
