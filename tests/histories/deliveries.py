"""Random changes of what a CRM and a bank deliver."""

from datetime import date
from decimal import Decimal
from random import Random

from tests.histories.oracle import MONTHS
from tests.histories.sources import Customer, Rate, Sources

CUSTOMERS = 12
WITHOUT_CUSTOMER = CUSTOMERS + 1
"""A customer's number that no file has."""
CURRENCIES = ("USD", "CHF", "SEK")
UNQUOTED = "RUB"
"""No rate of it is there at first."""
UNUSED = "JPY"
"""Nothing is sold in it."""
SEGMENTS = ("RETAIL", "TRADE", "PUBLIC")
FILES = (
    "change_segment", "change_note", "add_customer_row", "remove_customer_row", "add_unrelated_customer",
    "rename_file", "remove_file",
)  # fmt: skip
RATES = ("restate_rate", "add_rate", "remove_rate", "add_unused_rate", "quote_the_unquoted")


class Deliveries:
    """A seeded author of files and rates."""

    def __init__(self, sources: Sources, random: Random) -> None:
        self.sources, self.random = sources, random
        self._number = 0

    # files

    def change_segment(self) -> None:
        name, key = self._row()
        self._put(name, key, (self.random.choice(SEGMENTS), self.sources.files[name][key][1]))

    def change_note(self) -> None:
        name, key = self._row()
        self._put(name, key, (self.sources.files[name][key][0], f"note {self._next()}"))

    def add_customer_row(self) -> None:
        """From some day on, another segment; sometimes of one who was not known."""
        name, (customer, _) = self._row()
        who = WITHOUT_CUSTOMER if self.random.random() < 0.3 else customer
        key = (who, self._day(self._month()))
        if all(key not in rows for rows in self.sources.files.values()):
            self._put(name, key, (self.random.choice(SEGMENTS), ""))

    def remove_customer_row(self) -> None:
        """Orders of the customer may be without one then."""
        name, key = self._row()
        if len(self.sources.files[name]) > 1:
            self.sources.drop(name, {k: v for k, v in self.sources.files[name].items() if k != key})

    def add_unrelated_customer(self) -> None:
        """Nothing was sold to them."""
        self.sources.drop(f"new-{self._next()}", {(100 + self._next(), date(2022, 1, 1)): ("RETAIL", "")})

    def rename_file(self) -> None:
        """The same rows in another object."""
        name = self.random.choice(sorted(self.sources.files))
        self.sources.drop(f"renamed-{self._next()}", self.sources.files[name])
        self.sources.remove(name)

    def remove_file(self) -> None:
        if len(self.sources.files) > 1:
            self.sources.remove(self.random.choice(sorted(self.sources.files)))

    # rates

    def restate_rate(self) -> None:
        self.sources.rates[self._quoted()] = self._some_rate()

    def add_rate(self) -> None:
        self.sources.rates[self.random.choice(CURRENCIES), self._day(self._month())] = self._some_rate()

    def remove_rate(self) -> None:
        del self.sources.rates[self._quoted()]

    def add_unused_rate(self) -> None:
        self.sources.rates[UNUSED, self._day(self._month())] = self._some_rate()

    def quote_the_unquoted(self) -> None:
        """What was rejected for a missing rate comes back."""
        self.sources.rates[UNQUOTED, self._day(self._month())] = self._some_rate()

    # what they are made of

    def _put(self, name: str, key: Customer, row: tuple[str, str]) -> None:
        self.sources.drop(name, {**self.sources.files[name], key: row})

    def _row(self) -> tuple[str, Customer]:
        name = self.random.choice(sorted(self.sources.files))
        return name, self.random.choice(sorted(self.sources.files[name]))

    def _quoted(self) -> Rate:
        return self.random.choice(sorted(self.sources.rates))

    def _some_rate(self) -> Decimal:
        return Decimal(self.random.randint(100_000, 2_000_000)).scaleb(-6)

    def _month(self) -> str:
        return self.random.choice(MONTHS)

    def _day(self, month: str) -> date:
        return date.fromisoformat(f"{month}-{self.random.randint(1, 28):02d}")

    def _next(self) -> int:
        self._number += 1
        return self._number
