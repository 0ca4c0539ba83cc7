"""Random changes of the sources, by a seed: what an ERP, a CRM and a bank do to their data over time.

Each change is a method of Changes whose name says what it does. SEEN: what a tick sees by itself; UNSEEN: what only the
sweep finds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import Any, Protocol

import psycopg

from tests.histories.deliveries import (
    CURRENCIES,
    CUSTOMERS,
    FILES,
    RATES,
    SEGMENTS,
    UNQUOTED,
    WITHOUT_CUSTOMER,
    Deliveries,
)
from tests.histories.oracle import LATER, MONTHS
from tests.histories.sources import Sources

SHOPS, LINES_MAX = 3, 3
POSTGRES = (
    "insert_order", "insert_line", "change_amount", "touch_order", "restamp_line", "change_customer",
    "change_currency", "move_order", "swap_months", "change_many_with_one_stamp", "roll_back", "begin_late",
    "commit_late",
)  # fmt: skip
SEEN = {"erp": POSTGRES, "crm": FILES, "bank": RATES}
"""Source → its changes that a tick sees."""
UNSEEN = ("delete_order", "delete_line", "rename_shop", "move_to_later", "insert_later", "come_from_later", "renumber")


class Executes(Protocol):
    """A connection or a cursor."""

    def execute(self, query: bytes, params: Any = None, /) -> Any: ...


class Changes(Deliveries):
    """A seeded author of changes."""

    def __init__(self, sources: Sources, random: Random) -> None:
        super().__init__(sources, random)
        self._late: list[tuple[psycopg.Connection[Any], set[int]]] = []

    def first(self) -> None:
        """What the sources hold before anybody runs anything."""
        lake, random = self.sources.lake, self.random
        for shop in range(1, SHOPS + 1):
            lake.erp("insert into erp.shops values (%s, %s)", shop, f"Shop {shop}")
        for name in ("a", "b", "c"):
            share = range("abc".index(name) + 1, CUSTOMERS + 1, 3)
            self.sources.drop(name, {(c, date(2022, 1, 1)): (random.choice(SEGMENTS), "") for c in share})
        day = date(2022, 12, 20)
        while day < date(2024, 3, 1):
            for currency in CURRENCIES:
                self.sources.rates[currency, day] = self._some_rate()
            day += timedelta(days=random.choice((3, 6, 9, 13)))  # now and then there is none for more than ten days
        with psycopg.connect(lake.erp_dsn) as connection:
            for month in MONTHS:
                for _ in range(random.randint(2, 4)):
                    self._insert(connection, month)

    def make(self, name: str) -> None:
        """One change."""
        getattr(self, name)()

    @property
    def is_late(self) -> bool:
        """Whether a transaction is open."""
        return bool(self._late)

    def close(self) -> None:
        """Commit what is still open."""
        while self._late:
            self.commit_late()

    # the ERP, seen by stamps

    def insert_order(self) -> None:
        with self._erp() as connection:
            self._insert(connection, self._month())

    def insert_line(self) -> None:
        with self._erp() as connection:
            order = self._order(connection)
            number = self._one(
                connection, "select coalesce(max(line_number), 0) + 1 from erp.lines where order_id = %s", order
            )
            connection.execute(b"insert into erp.lines values (%s, %s, %s)", (order, number, self._amount()))

    def change_amount(self) -> None:
        with self._erp() as connection:
            self._change_amount(connection, self._order(connection))

    def touch_order(self) -> None:
        """No result depends on a note."""
        self._set("note", f"note {self._next()}")

    def restamp_line(self) -> None:
        """Another stamp, and nothing else."""
        with self._erp() as connection:
            connection.execute(b"update erp.lines set amount = amount where order_id = %s", (self._order(connection),))

    def change_customer(self) -> None:
        self._set("customer_id", self._customer())

    def change_currency(self) -> None:
        self._set("currency", self._currency())

    def move_order(self) -> None:
        self._set("order_date", self._day(self._month()))

    def swap_months(self) -> None:
        """Two orders change places, in one transaction."""
        with self._erp() as connection:
            one, two = self._order(connection), self._order(connection)
            days = [
                self._one(connection, "select order_date from erp.orders where order_id = %s", o) for o in (two, one)
            ]
            for order, day in zip((one, two), days, strict=True):
                connection.execute(b"update erp.orders set order_date = %s where order_id = %s", (day, order))

    def change_many_with_one_stamp(self) -> None:
        with self._erp() as connection:
            for _ in range(3):
                self._change_amount(connection, self._order(connection))

    def roll_back(self) -> None:
        with self._erp() as connection:
            self._insert(connection, self._month())
            connection.rollback()

    def begin_late(self) -> None:
        """A transaction that stays open: its rows appear later, stamped with now."""
        connection = psycopg.connect(self.sources.lake.erp_dsn)
        orders = {self._insert(connection, self._month())}
        changed = self._order(connection)
        if changed not in orders:
            self._change_amount(connection, changed)
            connection.execute(b"update erp.orders set note = 'late' where order_id = %s", (changed,))
        self._late.append((connection, orders | {changed}))

    def commit_late(self) -> None:
        """In any order, not that of their beginnings."""
        if self._late:
            connection, _ = self._late.pop(self.random.randrange(len(self._late)))
            connection.commit()
            connection.close()

    # the ERP, not seen by stamps

    def delete_order(self) -> None:
        with self._erp() as connection:
            order = self._order(connection)
            connection.execute(b"delete from erp.lines where order_id = %s", (order,))
            connection.execute(b"delete from erp.orders where order_id = %s", (order,))

    def delete_line(self) -> None:
        with self._erp() as connection:
            connection.execute(
                b"delete from erp.lines where (order_id, line_number) = (select order_id, min(line_number) "
                b"from erp.lines where order_id = %s group by 1)", (self._order(connection),)
            )  # fmt: skip

    def rename_shop(self) -> None:
        self.sources.lake.erp(
            "update erp.shops set name = %s where shop_id = %s", f"Shop {self._next()}", self.random.randint(1, SHOPS)
        )

    def move_to_later(self) -> None:
        """To a month that nobody publishes."""
        self._set("order_date", self._day(LATER))

    def insert_later(self) -> None:
        with self._erp() as connection:
            self._insert(connection, LATER)

    def come_from_later(self) -> None:
        with self._erp() as connection:
            connection.execute(
                b"update erp.orders set order_date = %s where order_id = (select min(order_id) from erp.orders "
                b"where order_date >= '2024-03-01' and not order_id = any(%s))",
                (self._day(self._month()), self._locked()),
            )  # fmt: skip

    def renumber(self) -> None:
        """Deleted in one month, and there with the same number in another one."""
        with self._erp() as connection:
            order = self._order(connection)
            connection.execute(b"delete from erp.lines where order_id = %s", (order,))
            connection.execute(b"delete from erp.orders where order_id = %s", (order,))
            self._insert(connection, self._month(), order)

    # what they are made of

    def _set(self, column: str, value: Any) -> None:
        with self._erp() as connection:
            order = self._order(connection)
            connection.execute(f"update erp.orders set {column} = %s where order_id = %s".encode(), (value, order))

    def _insert(self, connection: Executes, month: str, number: int | None = None) -> int:
        order = number or self._next()
        shop, day = self.random.randint(1, SHOPS), self._day(month)
        connection.execute(
            b"insert into erp.orders (order_id, order_date, customer_id, currency, shop_id) "
            b"values (%s, %s, %s, %s, %s)",
            (order, day, self._customer(), self._currency(), shop),
        )
        for line in range(self.random.randint(0 if number else 1, LINES_MAX)):
            connection.execute(b"insert into erp.lines values (%s, %s, %s)", (order, line + 1, self._amount()))
        return order

    def _change_amount(self, connection: Executes, order: int) -> None:
        connection.execute(
            b"update erp.lines set amount = %s where (order_id, line_number) = (select order_id, min(line_number) "
            b"from erp.lines where order_id = %s group by 1)", (self._amount(), order)
        )  # fmt: skip

    def _order(self, connection: Executes) -> int:
        """One that no open transaction has touched, of the months that are published."""
        rows = connection.execute(
            b"select order_id from erp.orders where order_date < '2024-03-01' and not order_id = any(%s) order by 1",
            (self._locked(),),
        ).fetchall()
        return int(self.random.choice(rows)[0])

    def _locked(self) -> list[int]:
        return sorted(order for _, orders in self._late for order in orders)

    @contextmanager
    def _erp(self) -> "Iterator[psycopg.Connection[Any]]":
        with psycopg.connect(self.sources.lake.erp_dsn) as connection:
            yield connection

    @staticmethod
    def _one(connection: Executes, sql: str, *values: Any) -> Any:
        return connection.execute(sql.encode(), values).fetchone()[0]

    def _amount(self) -> Decimal:
        return Decimal(self.random.randint(1, 50_000)).scaleb(-2)

    def _customer(self) -> int:
        return WITHOUT_CUSTOMER if self.random.random() < 0.05 else self.random.randint(1, CUSTOMERS)

    def _currency(self) -> str:
        return UNQUOTED if self.random.random() < 0.1 else self.random.choice(CURRENCIES)
