"""Changes of the ERP that a run has to follow. Each picks its rows by the caller's random numbers."""

from collections.abc import Callable, Mapping
from random import Random

from tests.lake import Lake

MONTHS = ("2024-01", "2024-02")
_LINES = "from erp.orders o where o.order_id = l.order_id and to_char(o.order_date, 'YYYY-MM') = %s"
_KEPT = "fault_kept"
"""Schema in which an emptied month waits for its return."""


def raise_prices(lake: Lake, month: str = MONTHS[0], by: int = 1) -> None:
    """A line of every order of a month costs more, or less."""
    lake.erp(f"update erp.order_lines l set extended_price = extended_price + %s {_LINES} and line_number = 1",
             by, month)  # fmt: skip


def nth_order(lake: Lake, month: str, n: int) -> int | None:
    """The n-th order of a month, counted round and round; None when the month is empty. Rejected ones don't count."""
    orders = lake.erp(
        "select order_id from erp.orders where order_id > 0 and to_char(order_date, 'YYYY-MM') = %s order by 1", month
    )
    return int(orders[n % len(orders)][0]) if orders else None


def _raise_one(lake: Lake, random: Random) -> None:
    raise_prices(lake, random.choice(MONTHS))


def _raise_both(lake: Lake, random: Random) -> None:
    for month in MONTHS:
        raise_prices(lake, month, random.randint(1, 9))


def _move(lake: Lake, random: Random) -> None:
    here, there = random.sample(MONTHS, 2)
    order = nth_order(lake, here, random.randrange(1000))
    lake.erp("update erp.orders set order_date = %s where order_id = %s", f"{there}-15", order)


def _delete(lake: Lake, random: Random) -> None:
    lake.erp("delete from erp.orders where order_id = %s",
             nth_order(lake, random.choice(MONTHS), random.randrange(1000)))  # fmt: skip


def _insert(lake: Lake, random: Random) -> None:
    """A copy of an order with its lines, as a new order."""
    order = nth_order(lake, random.choice(MONTHS), random.randrange(1000))
    ((kept,),) = lake.erp("select to_regclass(%s) is not null", f"{_KEPT}.orders")
    known = [f"select order_id from {schema}.orders" for schema in ("erp", *([_KEPT] if kept else []))]
    ((new,),) = lake.erp(f"select max(order_id) + 1 from ({' union all '.join(known)}) as ids")
    for table in ("orders", "order_lines"):
        columns = [c for (c,) in lake.erp(
            "select column_name from information_schema.columns where table_schema = 'erp' and table_name = %s "
            "and column_name <> 'order_id' order by ordinal_position", table)]  # fmt: skip
        names = ", ".join(columns)
        lake.erp(f"insert into erp.{table} (order_id, {names}) select {new}, {names} from erp.{table} "
                 "where order_id = %s", order)  # fmt: skip


def reject_one(lake: Lake, random: Random) -> None:
    """An order without lines has a status that silver refuses; another one becomes right again."""
    lake.erp("delete from erp.orders where order_id < 0")
    lake.erp("insert into erp.orders (order_id, customer_id, status, total_price, order_date, priority, clerk, "
             "ship_priority, currency, comment) select %s, customer_id, '?', total_price, order_date, priority, clerk, "
             "ship_priority, currency, comment from erp.orders where order_id = %s",
             -random.randint(1, 10**6), nth_order(lake, MONTHS[0], 0))  # fmt: skip


def empty_month(lake: Lake, month: str = MONTHS[1]) -> None:
    """All orders of a month are gone, with their lines; `refill_month` brings them back."""
    lake.erp(f"create schema if not exists {_KEPT}")
    for table in ("orders", "order_lines"):
        lake.erp(f"create table if not exists {_KEPT}.{table} (like erp.{table})")
    chosen = "select order_id from erp.orders where to_char(order_date, 'YYYY-MM') = %s"
    for table in ("orders", "order_lines"):
        lake.erp(f"insert into {_KEPT}.{table} select * from erp.{table} where order_id in ({chosen})", month)
    lake.erp(f"delete from erp.orders where order_id in ({chosen})", month)


def refill_month(lake: Lake) -> bool:
    """Put back what `empty_month` took away; whether there was something."""
    ((there,),) = lake.erp("select to_regclass(%s) is not null", f"{_KEPT}.orders")
    if not there:
        return False
    for table in ("orders", "order_lines"):
        lake.erp(f"insert into erp.{table} select * from {_KEPT}.{table}")
    lake.erp(f"drop schema {_KEPT} cascade")
    return True


def _empty_or_refill(lake: Lake, _: Random) -> None:
    if not refill_month(lake):
        empty_month(lake)


def _nothing(_: Lake, __: Random) -> None:
    """The source stays as it is: everything is pruned, most failpoints aren't reached."""


CHANGES: Mapping[str, Callable[[Lake, Random], None]] = {
    "prices of one month": _raise_one,
    "prices of both months": _raise_both,
    "an order moves": _move,
    "an order vanishes": _delete,
    "an order arrives": _insert,
    "an order is rejected": reject_one,
    "a month empties or returns": _empty_or_refill,
    "nothing": _nothing,
}
