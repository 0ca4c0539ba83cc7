"""Changes of the tiny source, each made from a seed so that they shrink to the same."""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal

from tests.property.tiny_sales import GOOD_CURRENCIES, MONTHS, State, month_of

ELSEWHERE = "2024-04"
"""A month outside the calendar."""
MAX_ORDERS = 8


def change(state: State, how: "Change", seed: int) -> State:
    return how(state, random.Random(seed))  # type: ignore[arg-type]


Change = Callable[[State, random.Random], State]


def _day(month: str, r: random.Random) -> date:
    return date.fromisoformat(f"{month}-{r.randint(1, 28):02}")


def _order(state: State, r: random.Random) -> int | None:
    return r.choice(sorted(state.orders)) if state.orders else None


def _without(state: State, gone: set[int]) -> State:
    return State(
        {o: v for o, v in state.orders.items() if o not in gone},
        {k: a for k, a in state.lines.items() if k[0] not in gone},
    )


def _fill(state: State, r: random.Random) -> State:
    """Two orders of two lines in every month."""
    orders = {10 * i + n: (_day(m, r), GOOD_CURRENCIES[n]) for i, m in enumerate(MONTHS) for n in range(2)}
    return State(orders, {(o, n): Decimal(o + n) for o in orders for n in (1, 2)})


def _add(state: State, r: random.Random) -> State:
    order = r.randint(0, 60)
    if len(state.orders) >= MAX_ORDERS or order in state.orders:
        return state
    lines = {(order, n): Decimal(r.randint(0, 999)) / 100 for n in range(1, r.randint(1, 3))}
    return State(
        {**state.orders, order: (_day(r.choice(MONTHS), r), r.choice(GOOD_CURRENCIES))}, {**state.lines, **lines}
    )


def _delete(state: State, r: random.Random) -> State:
    order = _order(state, r)
    return state if order is None else _without(state, {order})


def _move(state: State, r: random.Random) -> State:
    order = _order(state, r)
    if order is None:
        return state
    month = r.choice([*MONTHS, *MONTHS, ELSEWHERE])
    return replace(state, orders={**state.orders, order: (_day(month, r), state.orders[order][1])})


def _empty_month(state: State, r: random.Random) -> State:
    month = r.choice(MONTHS)
    return _without(state, {o for o, (d, _) in state.orders.items() if month_of(d) == month})


def _set_currency(state: State, r: random.Random) -> State:
    order = _order(state, r)
    if order is None:
        return state
    currency = r.choice([*GOOD_CURRENCIES, *GOOD_CURRENCIES, "x"])
    return replace(state, orders={**state.orders, order: (state.orders[order][0], currency)})


def _set_amount(state: State, r: random.Random) -> State:
    if not state.lines:
        return state
    line = r.choice(sorted(state.lines))
    return replace(state, lines={**state.lines, line: r.choice([Decimal("1.00"), Decimal("2.50"), Decimal("-1.00")])})


def _touch_all(state: State, _: random.Random) -> State:
    """Every row of both tables has another value."""
    other = dict(zip(GOOD_CURRENCIES, reversed(GOOD_CURRENCIES), strict=True))
    return State(
        {o: (d, other.get(c, c)) for o, (d, c) in state.orders.items()},
        {k: a + Decimal("0.01") for k, a in state.lines.items()},
    )


TOUCH_ALL = "touch all"
CHANGES: Mapping[str, Change] = {
    "fill": _fill, "add": _add, "delete": _delete, "move": _move, "empty a month": _empty_month,
    "set a currency": _set_currency, "set an amount": _set_amount, TOUCH_ALL: _touch_all,
}  # fmt: skip


def without_bad_rows(state: State) -> State:
    """The source corrected: every row keeps the contract, so that every KPI can be published."""
    return State(
        {o: (d, c if c in GOOD_CURRENCIES else "EUR") for o, (d, c) in state.orders.items()},
        {k: abs(a) for k, a in state.lines.items()},
    )
