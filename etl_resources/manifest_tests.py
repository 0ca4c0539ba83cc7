"""The vocabulary of a transform's test: rows in, rows out. What the rows mean is for their contracts to say."""

from typing import Any

from pydantic import Field

from etl_resources.manifest_types import Identifier, PeriodKey, Strict

Row = dict[Identifier, Any]
"""Column: value as YAML gives it, numbers with a point as text. Typed by the contract of its table."""


class RejectedRow(Strict):
    """A row that the contract must set aside."""

    key: Row = Field(description="Its key, whole.")
    reason: str | tuple[str, ...] = Field(description="Why, word for word; a list where there are several reasons.")


class TransformTest(Strict):
    """One test of a dataset's SQL: `datasets/<dataset>/tests/<test>.yaml`."""

    description: str | None = Field(default=None, min_length=1, description="What it proves, in a sentence.")
    partition: PeriodKey | None = Field(
        default=None, description="The partition that is made; given exactly where the dataset has partitions."
    )
    defaults: dict[str, Row] = Field(
        default={}, description="Table: values of the columns that its given rows leave out."
    )
    given: dict[str, tuple[Row, ...]] = Field(
        description="Every table that the SQL reads: its rows. A column that is left out is null."
    )
    expect: tuple[Row, ...] = Field(
        description="All rows that are written, each with its key and the columns that matter here."
    )
    rejected: tuple[RejectedRow, ...] = Field(default=(), description="All rows that are set aside.")
