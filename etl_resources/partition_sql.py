"""The partition of a row, as SQL: the one place that knows how a partition key follows from a column."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Literal

from etl_resources.calendar import MONTH, WHOLE, Grain, bounds, contiguous_ranges
from etl_resources.contract import Contract
from etl_resources.identifiers import literal, quote


@dataclass(frozen=True)
class Placement:
    """A column that decides the partition of a row, and how long a partition is."""

    column: str
    grain: Grain = MONTH

    @classmethod
    def of(cls, contract: Contract) -> "Placement | None":
        """Of a contract; None where it has one partition."""
        return cls(contract.partition_column, contract.grain) if contract.partition_column is not None else None


@dataclass(frozen=True)
class PartitionBy:
    """What places a row: an SQL expression, or nothing where a table has the one partition WHOLE."""

    column: str | None
    stamp: bool = False
    """A timestamptz, whose day is that of UTC; else a date."""
    grain: Grain = MONTH

    @classmethod
    def of(cls, contract: Contract) -> "PartitionBy":
        """Of a contract's tables, whose columns bear their names."""
        name = contract.partition_column
        if name is None:
            return cls(None)
        stamp = any(c.name == name and c.type == "timestamptz" for c in contract.columns)
        return cls(quote(name), stamp, contract.grain)

    def key(self, dialect: Literal["duckdb", "postgres"] = "duckdb") -> str:
        """Expression: the key of a row's partition; null where the column is null."""
        if self.column is None:
            return literal(WHOLE)
        first = self._first_day(f"({self.column} at time zone 'UTC')" if self.stamp else self.column)
        if dialect == "duckdb":
            return f"strftime({first}, {literal(self.grain.form)})"
        name, _, digits = self.grain.form.partition("%Y")
        form = f'"{name}"' * bool(name) + "YYYY" + digits.replace("%m", "MM").replace("%d", "DD")
        return f"to_char({first}, {literal(form)})"

    def _first_day(self, day: str) -> str:
        """Expression: a day of the period, of which the key is written: its first one where that matters."""
        if self.grain.every == "week":
            return f"({day}::date - ((extract(isodow from {day})::int - {self.grain.week_start} + 7) % 7))"
        if self.grain.every not in ("quarter", "fiscal_quarter"):
            return day
        after = f"interval '{self.grain.months_after} months'" if self.grain.months_after else ""
        if not after:
            return f"date_trunc('quarter', {day}::timestamp)"
        return f"(date_trunc('quarter', {day}::timestamp - {after}) + {after})"

    def keep(self, partitions: Collection[str]) -> str:
        """Condition that keeps the rows of these partitions: ranges of the column, which an index can serve."""
        if self.column is None:
            return "true" if WHOLE in partitions else "false"
        kept = [self.in_days(start, end) for start, end in contiguous_ranges(partitions)]
        return f"({' or '.join(f'({k})' for k in kept)})" if kept else "false"

    def between(self, first: str, end: str) -> str:
        """Condition: the row lies between two expressions as `literals` gives them (end excluded)."""
        return "true" if self.column is None else f"{self.column} >= {first} and {self.column} < {end}"

    def in_days(self, start: date, end: date) -> str:
        """Condition: the row lies in these days (end excluded)."""
        return self.between(self._day(start), self._day(end))

    def literals(self, partition: str) -> tuple[str, str]:
        """Literals of a partition's first day and of the first day after it; null for WHOLE."""
        if self.column is None:
            return "null::date", "null::date"
        first, end = bounds(partition)
        return self._day(first), self._day(end)

    def _day(self, day: date) -> str:
        return f"timestamptz '{day} 00:00:00+00'" if self.stamp else f"date '{day}'"
