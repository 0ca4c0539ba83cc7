"""Sales captured by day, and tables of every other grain made from them: as manifests, and in plain Python."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from etl_resources.calendar import Every, Grain, bounds, fiscal_year, keys_around, label

FIRST, LAST = date(2024, 3, 1), date(2024, 4, 30)
WEEK_START, FISCAL_YEAR_START = 7, 2
COLUMNS = {
    "gdp/sold": "sale_id, day, currency, amount",
    "gdp/shares": "sale_id, day, amount, of_month",
    "gdp/weeks": "week, currency, sales, amount",
    "gdp/months": "month, currency, amount",
    "kpi/quarters": "quarter, currency, sales, amount",
    "kpi/fiscal": "quarter, fiscal_year, label, amount",
    "kpi/two_periods": "period, amount",
    "kpi/total": "currency, amount",
    "gdp/returned": "return_id, day, amount",
    "kpi/return_days": "day, returns, amount",
}
_PLATFORM = """
etl_resource_prefix: tiny
database_prefix: tiny
calendar: {time_zone: Europe/Berlin, fiscal_year_start: 2, week_start: sunday, start: 2024-03, end: 2024-04}
sizes: {medium: {duckdb: {threads: 2, memory_mb: 512}}}
tenants: [acme]
network_profiles: [private_vpc]
systems: {erp: {kind: postgres, connection: {secret: "env:ERP_DSN"}}}
allowed_targets: {postgres: ["analytics.*"]}
"""
_SALES = """
dataset: sales
owner: team:test
tenant: acme
description: Sales.
partitions: {by: day, every: day}
source:
  {kind: postgres, system: erp, table: erp.sales, key: [sale_id],
   columns: {sale_id: bigint, day: date, currency: string, amount: "decimal(15,2)"}}
bronze: {}
silver:
  key: [sale_id]
  columns:
    sale_id: {nullable: false}
    day: {nullable: false}
    currency: {nullable: false}
    amount: {nullable: false, check: {ge: 0}}
"""
_RETURNS = """
dataset: returns
owner: team:test
tenant: acme
description: Returned sales, captured by month.
partitions: {by: day, every: month}
source:
  {kind: postgres, system: erp, table: erp.returns, key: [return_id],
   columns: {return_id: bigint, day: date, amount: "decimal(15,2)"}}
bronze: {}
silver:
  key: [return_id]
  columns: {return_id: {nullable: false}, day: {nullable: false}, amount: {nullable: false}}
"""
_MONEY = '{type: "decimal(18,2)", nullable: false}'
_DATASETS: Mapping[str, tuple[str, str]] = {
    "sold": ("""
partitions: {by: day, every: day}
gdp:
  key: [sale_id]
  sql: sold.sql
  grain: silver.sales
  columns:
    sale_id: {type: bigint, nullable: false}
    day: {type: date, nullable: false}
    currency: {type: string, nullable: false, check: {matches: "[A-Z]{3}"}}
    amount: MONEY
serving: [{postgres: analytics.sold, load: replace}]
""", "select sale_id, day, currency, amount::decimal(18, 2) as amount from silver.sales"),
    "shares": ("""
partitions: {by: day, every: day}
gdp:
  key: [sale_id]
  sql: shares.sql
  grain: gdp.sold
  inputs: {gdp.months: {periods: [0, 0], rows: partitions}}
  columns:
    sale_id: {type: bigint, nullable: false}
    day: {type: date, nullable: false}
    amount: MONEY
    of_month: MONEY
""", "select s.sale_id, s.day, s.amount, m.amount as of_month "
     "from gdp.sold as s left join gdp.months as m on m.currency = s.currency"),
    "weeks": ("""
partitions: {by: week, every: week}
gdp:
  key: [week, currency]
  sql: weeks.sql
  conserve: {of: gdp.sold, sums: {sales: rows, amount: amount}}
  columns:
    week: {type: date, nullable: false}
    currency: {type: string, nullable: false}
    sales: {type: bigint, nullable: false}
    amount: MONEY
serving: [{postgres: analytics.weeks, load: upsert}]
""", "select p.start_date as week, s.currency, count(*) as sales, sum(s.amount)::decimal(18, 2) as amount "
     "from gdp.sold as s cross join calendar.period as p group by all"),
    "months": ("""
partitions: {by: month, every: month}
gdp:
  key: [month, currency]
  sql: months.sql
  conserve: {of: gdp.sold, sums: {amount: amount}}
  columns:
    month: {type: date, nullable: false}
    currency: {type: string, nullable: false}
    amount: MONEY
""", "select p.start_date as month, s.currency, sum(s.amount)::decimal(18, 2) as amount "
     "from gdp.sold as s cross join calendar.period as p group by all"),
    "quarters": ("""
partitions: {by: quarter, every: quarter}
kpi:
  key: [quarter, currency]
  sql: quarters.sql
  conserve: {of: gdp.sold, sums: {sales: rows, amount: amount}}
  columns:
    quarter: {type: date, nullable: false}
    currency: {type: string, nullable: false}
    sales: {type: bigint, nullable: false}
    amount: MONEY
  accept:
    reconcile:
      system: erp
      sql: reconcile.sql
      compare: {sales: "0", amount: "0.00"}
      by: [currency]
      rejected: {table: gdp.sold, columns: {sales: rows, amount: amount}}
serving: [{postgres: analytics.quarters, load: replace}]
""", "select p.start_date as quarter, s.currency, count(*) as sales, sum(s.amount)::decimal(18, 2) as amount "
     "from gdp.sold as s cross join calendar.period as p group by all"),
    "fiscal": ("""
partitions: {by: quarter, every: fiscal_quarter}
kpi:
  key: [quarter]
  sql: fiscal.sql
  columns:
    quarter: {type: date, nullable: false}
    fiscal_year: {type: int, nullable: false}
    label: {type: string, nullable: false}
    amount: MONEY
""", "select p.start_date as quarter, p.fiscal_year, p.label, coalesce(sum(m.amount), 0)::decimal(18, 2) as amount "
     "from calendar.period as p left join gdp.months as m on true group by all"),
    "two_periods": ("""
partitions: {by: period, every: fiscal_period}
kpi:
  key: [period]
  sql: two_periods.sql
  inputs: {gdp.weeks: {periods: [-1, 0]}}
  columns:
    period: {type: date, nullable: false}
    amount: MONEY
""", "select p.start_date as period, coalesce(sum(w.amount), 0)::decimal(18, 2) as amount "
     "from calendar.period as p left join gdp.weeks as w on true group by all"),
    "returned": ("""
partitions: {by: day, every: day}
gdp:
  key: [return_id]
  sql: returned.sql
  columns:
    return_id: {type: bigint, nullable: false}
    day: {type: date, nullable: false}
    amount: MONEY
serving: [{postgres: analytics.returned, load: replace}]
""", "select return_id, day, amount::decimal(18, 2) as amount from silver.returns"),
    "return_days": ("""
partitions: {by: day, every: day}
kpi:
  key: [day]
  sql: return_days.sql
  conserve: {of: gdp.returned, sums: {returns: rows, amount: amount}}
  columns:
    day: {type: date, nullable: false}
    returns: {type: bigint, nullable: false}
    amount: MONEY
  accept: {reconcile: {system: erp, sql: reconcile.sql, compare: {returns: "0", amount: "0.00"}}}
""", "select day, count(*) as returns, sum(amount)::decimal(18, 2) as amount from gdp.returned group by all"),
    "total": ("""
kpi:
  key: [currency]
  sql: total.sql
  inputs: {gdp.weeks: {partitions: all}}
  columns:
    currency: {type: string, nullable: false}
    amount: MONEY
""", "select currency, sum(amount)::decimal(18, 2) as amount from gdp.weeks group by all"),
}  # fmt: skip
_RECONCILE = {
    "quarters": """
select day as quarter, currency, count(*) as sales, sum(amount) as amount
from erp.sales where day >= %(start)s and day < %(end)s group by 1, 2
""",
    "return_days": """
select day, count(*) as returns, sum(amount) as amount
from erp.returns where day >= %(start)s and day < %(end)s group by 1
""",
}


def write_grains(root: Path, *, only: Iterable[str] = tuple(_DATASETS)) -> Path:
    """The project's files."""
    (root / "datasets" / "sales").mkdir(parents=True)
    (root / "platform.yaml").write_text(_PLATFORM.lstrip())
    (root / "datasets/sales/manifest.yaml").write_text(_SALES.lstrip())
    (root / "datasets/returns").mkdir()
    (root / "datasets/returns/manifest.yaml").write_text(_RETURNS.lstrip())
    for name in only:
        manifest, sql = _DATASETS[name]
        folder, head = root / "datasets" / name, f"dataset: {name}\nowner: team:test\ntenant: acme\ndescription: D."
        folder.mkdir()
        (folder / "manifest.yaml").write_text(head + manifest.replace("MONEY", _MONEY))
        (folder / f"{name}.sql").write_text(sql + "\n")
        if name in _RECONCILE:
            (folder / "reconcile.sql").write_text(_RECONCILE[name].lstrip())
    return root


@dataclass(frozen=True)
class Sale:
    """A row of the source."""

    day: date
    currency: str
    amount: Decimal


def grain(every: Every) -> Grain:
    """As the project's calendar cuts it."""
    return Grain(every, WEEK_START, FISCAL_YEAR_START)


def expected(sales: Mapping[int, Sale], returns: Mapping[int, Sale]) -> dict[str, list[tuple[Any, ...]]]:
    """Table → its rows, of all partitions of the calendar, in order."""
    good = {i: s for i, s in sales.items() if FIRST <= s.day <= LAST and len(s.currency) == 3}
    months = _sums(good, lambda s: (_first("month", s.day), s.currency))
    weeks = _sums(good, lambda s: (_first("week", s.day), s.currency))
    quarters = _sums(good, lambda s: (_first("quarter", s.day), s.currency))
    found: dict[str, list[tuple[Any, ...]]] = {
        "gdp/sold": [(i, s.day, s.currency, s.amount) for i, s in good.items()],
        "gdp/shares": [(i, s.day, s.amount, months[_first("month", s.day), s.currency][1]) for i, s in good.items()],
        "gdp/weeks": [(*key, *values) for key, values in weeks.items()],
        "gdp/months": [(*key, amount) for key, (_, amount) in months.items()],
        "kpi/quarters": [(*key, *values) for key, values in quarters.items()],
        "kpi/total": [(currency, total) for currency, total in _total(good).items()],
    }
    days = _sums(returns, lambda s: (s.day, ""))
    found["gdp/returned"] = [(i, s.day, s.amount) for i, s in returns.items()]
    found["kpi/return_days"] = [(day, *values) for (day, _), values in days.items()]
    found["kpi/fiscal"] = [
        (bounds(key)[0], fiscal_year(bounds(key)[0], FISCAL_YEAR_START), label(key, FISCAL_YEAR_START),
         sum((a for (m, _), (_, a) in months.items() if bounds(key)[0] <= m < bounds(key)[1]), Decimal(0)))
        for key in grain("fiscal_quarter").within(FIRST, date(2024, 5, 1))
    ]  # fmt: skip
    found["kpi/two_periods"] = []
    for key in grain("fiscal_period").within(FIRST, date(2024, 5, 1)):
        start, end = bounds(keys_around(key, -1, -1)[0])[0], bounds(key)[1]
        amount = sum((a for (w, _), (_, a) in weeks.items() if start <= w < end), Decimal(0))
        found["kpi/two_periods"].append((bounds(key)[0], amount))
    return {name: sorted(rows) for name, rows in found.items()}


def _first(every: Every, day: date) -> date:
    return bounds(grain(every).containing(day))[0]


def _sums(
    sales: Mapping[int, Sale], key: Callable[[Sale], tuple[date, str]]
) -> dict[tuple[date, str], tuple[int, Decimal]]:
    groups: dict[tuple[date, str], list[Decimal]] = defaultdict(list)
    for s in sales.values():
        groups[key(s)].append(s.amount)
    return {k: (len(v), sum(v, Decimal(0))) for k, v in groups.items()}


def _total(sales: Mapping[int, Sale]) -> dict[str, Decimal]:
    found: dict[str, Decimal] = defaultdict(Decimal)
    for s in sales.values():
        found[s.currency] += s.amount
    return found
