"""The partition of a row, as SQL: the one place that knows how a partition key follows from a column."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from etl_resources.calendar import WHOLE, contiguous_ranges, month_bounds
from etl_resources.contract import Contract
from etl_resources.identifiers import literal, quote


@dataclass(frozen=True)
class PartitionBy:
    """What places a row: an SQL expression, or nothing where a table has the one partition WHOLE."""

    column: str | None
    stamp: bool = False
    """A timestamptz, whose month is that of UTC; else a date."""

    @classmethod
    def of(cls, contract: Contract) -> "PartitionBy":
        """Of a contract's tables, whose columns bear their names."""
        name = contract.partition_column
        if name is None:
            return cls(None)
        return cls(quote(name), any(c.name == name and c.type == "timestamptz" for c in contract.columns))

    def key(self, dialect: Literal["duckdb", "postgres"] = "duckdb") -> str:
        """Expression: the key of a row's partition; null where the column is null."""
        if self.column is None:
            return literal(WHOLE)
        column = f"{self.column} at time zone 'UTC'" if self.stamp else self.column
        return f"strftime({column}, '%Y-%m')" if dialect == "duckdb" else f"to_char({column}, 'YYYY-MM')"

    def keep(self, partitions: Collection[str]) -> str:
        """Condition that keeps the rows of these partitions: ranges of the column, which an index can serve."""
        if self.column is None:
            return "true" if WHOLE in partitions else "false"
        kept = [self.between(self._day(a), self._day(b)) for a, b in contiguous_ranges(partitions)]
        return f"({' or '.join(f'({k})' for k in kept)})" if kept else "false"

    def between(self, first: str, end: str) -> str:
        """Condition: the row lies between two expressions as `bounds` gives them (end excluded)."""
        return "true" if self.column is None else f"{self.column} >= {first} and {self.column} < {end}"

    def bounds(self, partition: str) -> tuple[str, str]:
        """Literals of a partition's first day and of the first day after it; null for WHOLE."""
        if self.column is None:
            return "null::date", "null::date"
        first, end = month_bounds(partition)
        return self._day(first), self._day(end)

    def _day(self, day: object) -> str:
        return f"timestamptz '{day} 00:00:00+00'" if self.stamp else f"date '{day}'"
