"""Columns of a manifest: type, meaning and the rule that each value keeps."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from etl_resources.manifest_types import ColumnType, Identifier, Strict

DECIMAL = re.compile(r"^decimal\((\d+),(\d+)\)$")
"""A decimal's precision and scale."""


class Rule(Strict):
    """A row rule on one column. A row that breaks it is rejected and kept as a dead letter; nulls pass."""

    ge: int | str | None = Field(default=None, description="At least; decimals and dates in quotes.")
    gt: int | str | None = Field(default=None, description="More than.")
    le: int | str | None = Field(default=None, description="At most.")
    lt: int | str | None = Field(default=None, description="Less than.")
    isin: tuple[str | int, ...] | None = Field(default=None, min_length=1, description="One of these values.")
    matches: str | None = Field(default=None, description="Regular expression that the whole value matches.")

    @model_validator(mode="after")
    def _not_empty(self) -> "Rule":
        if not self.model_fields_set:
            raise ValueError("a check needs at least one of ge, gt, le, lt, isin, matches")
        return self


class Column(Strict):
    """A column. `name: bigint` is short for `name: {type: bigint}`."""

    type: ColumnType | None = Field(default=None, description="Silver may omit it: the source column's.")
    nullable: bool = Field(default=True, description="false: a row with a null here is rejected.")
    reason: str | None = Field(
        default=None, min_length=1, description="Why a row with a null here is rejected; omitted: `<name> is null`."
    )
    description: str | None = Field(default=None, description="What it means.")
    unit: str | None = Field(default=None, description="Unit of the values, e.g. order currency.")
    check: Rule | None = Field(default=None, description="Rule that each value keeps.")


def _column_shorthand(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


Columns = dict[
    Identifier,
    Annotated[Column, BeforeValidator(_column_shorthand, json_schema_input_type=Column | ColumnType)],
]
