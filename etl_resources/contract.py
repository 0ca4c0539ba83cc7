"""What a table promises, resolved from its manifest: the one source of its Iceberg schema, rules, hash and DDL."""

from dataclasses import dataclass
from typing import Literal

from etl_resources.calendar import MONTH, WHOLE, Grain
from etl_resources.manifest_buckets import Buckets
from etl_resources.manifest_columns import RowRule, RowSeverity, Rule


@dataclass(frozen=True)
class Cover:
    """How the values of a captured column are covered."""

    mode: Literal["mask", "hash"]
    source_type: str
    """Manifest type of what the source has there."""


@dataclass(frozen=True)
class ContractColumn:
    """One column; type is a manifest type (bigint, decimal(18,2) …)."""

    name: str
    type: str
    nullable: bool = True
    description: str | None = None
    unit: str | None = None
    rules: tuple[Rule, ...] = ()
    reason: str | None = None
    """Of the dead letter where a required column is null."""
    renamed_from: str | None = None
    """The name that it had in the table before."""
    cover: "Cover | None" = None
    """How the values of a sensitive column are covered when they are captured."""
    evolved: bool = False
    """Whether no manifest declares it: the source has it, and the table followed."""


@dataclass(frozen=True)
class ContractReference:
    """A key that rows must find in another table."""

    asset: str
    columns: tuple[str, ...]
    """Of the table itself."""
    reason: str
    severity: RowSeverity


@dataclass(frozen=True)
class Contract:
    """Columns in their order, the key that is unique in the table, and the column that decides the partition.

    Without such a column the table has one partition, calendar.WHOLE.
    """

    columns: tuple[ContractColumn, ...]
    key: tuple[str, ...]
    partition_column: str | None
    rules: tuple[RowRule, ...] = ()
    """Those on several columns."""
    references: tuple[ContractReference, ...] = ()
    dropped: tuple[str, ...] = ()
    """Sensitive columns of the source that are never captured."""
    grain: Grain = MONTH
    """Length of a partition, where there is a partition column."""
    buckets: Buckets | None = None
    """How its files are split within a partition. It decides where rows lie, not which there are."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    def has_partition(self, partition: str) -> bool:
        """Whether a key is one that its rows can have: a target may have been filled from other partitions before."""
        if self.partition_column is None or partition == WHOLE:
            return (self.partition_column is None) == (partition == WHOLE)
        return self.grain.is_key(partition)

    @property
    def is_sensitive(self) -> bool:
        """Whether the source has values that may not be written, nor quoted anywhere."""
        return bool(self.dropped) or any(c.cover for c in self.columns)
