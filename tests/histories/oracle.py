"""What every partition must hold, and what may be computed for a change, in plain Python: no code of the product.

A place is (table or target, partition). Beside the tables there are places for what a partition finds in the tables
that it looks up, and for the control totals: they are read, and not published.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from tests.histories.sources import State

MONTHS = tuple(f"{year}-{month:02d}" for year in (2023, 2024) for month in range(1, 13))[:14]
"""What is published: January 2023 to February 2024."""
LATER = "2024-03"
"""A month of the calendar that nobody ever publishes."""
WHOLE = "all"
TRAILING = 12
DAYS_BACK = 10
SERVED = {
    "postgres.analytics.revenue": "kpi.revenue",
    "postgres.analytics.growth": "kpi.growth",
    "postgres.analytics.trailing": "kpi.trailing",
    "elasticsearch.history_orders": "gdp.order_totals",
    "elasticsearch.history_customers": "gdp.customer_totals",
}
BRONZE = ("bronze.orders", "bronze.lines", "bronze.customers", "bronze.rates")
READ_ONLY = ("looked up customers", "looked up rates", "control totals", "rejected sales")
Place = tuple[str, str]
Rows = Sequence[tuple[Any, ...]]
Contents = Mapping[Place, Rows]
CENT = Decimal("0.01")


def contents(state: State) -> Contents:
    """Every place's rows, sorted."""
    found: dict[Place, list[tuple[Any, ...]]] = {}
    whole = [(c, since, segment, note) for (c, since), (segment, note) in state.customers.items()]
    found["bronze.customers", WHOLE] = found["silver.customers", WHOLE] = whole
    rates = [(c, day, rate) for (c, day), rate in state.rates.items()]
    found["bronze.rates", WHOLE] = found["silver.rates", WHOLE] = rates
    for month in MONTHS:
        found |= _month(state, month)
    for number, month in enumerate(MONTHS):
        first = date.fromisoformat(f"{month}-01")
        before = found["kpi.revenue", MONTHS[number - 1]] if number else []
        found["kpi.growth", month] = _growth(first, found["kpi.revenue", month], before)
        year = MONTHS[max(0, number - TRAILING + 1) : number + 1]
        found["kpi.trailing", month] = _trailing(first, [r for m in year for r in found["gdp.sales", m]])
    found["gdp.customer_totals", WHOLE] = _customers(state, [r for m in MONTHS for r in found["gdp.order_totals", m]])
    for target, table in SERVED.items():
        found |= {(target, p): rows for (t, p), rows in list(found.items()) if t == table}
    return {place: sorted(rows, key=repr) for place, rows in found.items()}


def changed(before: Contents, after: Contents) -> set[Place]:
    """Places that differ."""
    return {place for place in after if before[place] != after[place]}


def published(places: Iterable[Place]) -> set[Place]:
    """Of these, tables and targets."""
    return {place for place in places if place[0] not in READ_ONLY}


def may_be_computed(different: set[Place], *, mixed: bool) -> set[Place]:
    """What a run may compute when these places differ, or differed for a while: what reads one of them.

    mixed: several sources changed, so that a table may have been made from the old of one and the new of the other:
    then what reads what may be computed may be, too.
    """
    found: set[Place] = set()
    for place in _places():
        if any(read in different or (mixed and read in found) for read in reads(*place)):
            found.add(place)
    return found


def reads(asset: str, partition: str) -> Iterator[Place]:
    """What a partition is made from."""
    layer, _, name = asset.partition(".")
    if asset in SERVED:
        yield SERVED[asset], partition
    elif layer == "silver":
        yield f"bronze.{name}", partition
    elif asset == "gdp.sales":
        for read in ("silver.lines", "silver.orders", "looked up customers", "looked up rates"):
            yield read, partition
    elif asset == "gdp.order_totals":
        yield "gdp.sales", partition
    elif asset == "gdp.customer_totals":
        yield "silver.customers", WHOLE
        yield from (("gdp.order_totals", m) for m in MONTHS)
    elif asset == "kpi.revenue":
        yield "gdp.sales", partition
        yield "control totals", partition
        yield "rejected sales", partition
    elif asset in ("kpi.growth", "kpi.trailing"):
        number, months = MONTHS.index(partition), 2 if asset == "kpi.growth" else TRAILING
        read = "kpi.revenue" if asset == "kpi.growth" else "gdp.sales"
        yield from ((read, m) for m in MONTHS[max(0, number - months + 1) : number + 1])


def _places() -> Iterator[Place]:
    """Computed ones, inputs first."""
    for name in ("silver.orders", "silver.lines"):
        yield from ((name, m) for m in MONTHS)
    yield from (("silver.customers", WHOLE), ("silver.rates", WHOLE))
    for name in ("gdp.sales", "gdp.order_totals", "kpi.revenue", "kpi.growth", "kpi.trailing"):
        yield from ((name, m) for m in MONTHS)
    yield "gdp.customer_totals", WHOLE
    for name, table in SERVED.items():
        yield from ((name, p) for p in ((WHOLE,) if table == "gdp.customer_totals" else MONTHS))


def _month(state: State, month: str) -> dict[Place, list[tuple[Any, ...]]]:
    orders = {number: o for number, o in state.orders.items() if f"{o.day:%Y-%m}" == month}
    lines = [(o, n, orders[o].day, *rest) for (o, n), rest in state.lines.items() if o in orders]
    segments = {(o.customer, o.day): _segment(state, o.customer, o.day) for o in orders.values()}
    rates = {(o.currency, o.day): _rate(state, o.currency, o.day) for o in orders.values()}
    sales, rejected = list[tuple[Any, ...]](), list[tuple[Any, ...]]()
    for number, line, day, amount, _ in lines:
        o = orders[number]
        (_, segment), (_, rate) = segments[o.customer, o.day], rates[o.currency, o.day]
        eur = None if rate is None else (amount * rate).quantize(CENT, ROUND_HALF_UP)
        into = rejected if segment is None or rate is None else sales
        into.append((number, line, day, o.customer, segment, o.currency, o.shop_name, amount, eur))
    return {
        ("bronze.orders", month): [
            (n, o.day, o.customer, o.currency, o.shop, o.shop_name, o.note, o.stamp) for n, o in orders.items()
        ],
        ("bronze.lines", month): lines,
        ("silver.orders", month): [
            (n, o.day, o.customer, o.currency, o.shop_name, o.note) for n, o in orders.items()
        ],
        ("silver.lines", month): [line[:4] for line in lines],
        ("looked up customers", month): [(*key, *found) for key, found in segments.items()],
        ("looked up rates", month): [(*key, *found) for key, found in rates.items()],
        ("control totals", month): _sums((orders[line[0]].currency, line[3]) for line in lines),
        ("rejected sales", month): rejected,
        ("gdp.sales", month): sales,
        ("gdp.order_totals", month): _orders(sales),
        ("kpi.revenue", month): _revenue(date.fromisoformat(f"{month}-01"), sales),
    }  # fmt: skip


def _segment(state: State, customer: int, day: date) -> tuple[date | None, str | None]:
    """As of a day, and since when: the day from which a row holds is looked up with it."""
    held = [(since, segment) for (c, since), (segment, _) in state.customers.items() if c == customer and since <= day]
    return max(held, default=(None, None))


def _rate(state: State, currency: str, day: date) -> tuple[date | None, Decimal | None]:
    """The last one of at most so many days before, and its day."""
    days = (day - timedelta(days=n) for n in range(DAYS_BACK + 1))
    return next(((d, state.rates[currency, d]) for d in days if (currency, d) in state.rates), (None, None))


def _sums(amounts: Iterable[tuple[str, Decimal]]) -> list[tuple[Any, ...]]:
    groups = defaultdict[str, list[Decimal]](list)
    for currency, amount in amounts:
        groups[currency].append(amount)
    return [(currency, len(found), sum(found)) for currency, found in groups.items()]


def _orders(sales: Rows) -> list[tuple[Any, ...]]:
    groups = defaultdict[tuple[Any, ...], list[Decimal]](list)
    for number, _, day, customer, *_, eur in sales:
        groups[number, day, customer].append(eur)
    return [(*key, len(found), sum(found)) for key, found in groups.items()]


def _revenue(first: date, sales: Rows) -> list[tuple[Any, ...]]:
    groups = defaultdict[tuple[Any, ...], list[tuple[Decimal, Decimal]]](list)
    for *_, segment, currency, _, amount, eur in sales:
        groups[first, segment, currency].append((amount, eur))
    return [(*key, len(f), sum(a for a, _ in f), sum(e for _, e in f)) for key, f in groups.items()]


def _growth(first: date, revenue: Rows, before: Rows) -> list[tuple[Any, ...]]:
    now, then = defaultdict[str, Decimal](Decimal), defaultdict[str, Decimal](Decimal)
    for sums, rows in ((now, revenue), (then, before)):
        for _, segment, *_, eur in rows:
            sums[segment] += eur
    return [(first, s, now[s], now[s] - then[s]) for s in sorted({*now, *then})]


def _trailing(first: date, sales: Rows) -> list[tuple[Any, ...]]:
    groups = defaultdict[str, list[Decimal]](list)
    for *_, shop, _, eur in sales:
        groups[shop].append(eur)
    return [(first, shop, len(found), sum(found)) for shop, found in groups.items()]


def _customers(state: State, orders: Rows) -> list[tuple[Any, ...]]:
    newest = {c: state.customers[c, max(s for k, s in state.customers if k == c)][0] for c, _ in state.customers}
    sums = defaultdict[int, list[Decimal]](list)
    for _, _, customer, _, eur in orders:
        sums[customer].append(eur)
    return [(c, segment, len(sums[c]), sum(sums[c], Decimal("0.00"))) for c, segment in newest.items()]
