"""Columns of a manifest: type, meaning and the rule that each value keeps."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from etl_resources.manifest_types import ColumnType, Identifier, Sensitivity, Strict

DECIMAL = re.compile(r"^decimal\((\d+),(\d+)\)$")
"""A decimal's precision and scale."""


RowSeverity = Literal["reject", "warn", "error"]
"""reject: the row becomes a dead letter. warn: it passes and is counted. error: the partition isn't published."""


class Bounds(Strict):
    """Limits of a value: at least one of ge, gt, le, lt."""

    ge: int | str | None = Field(default=None, description="At least; decimals and dates in quotes.")
    gt: int | str | None = Field(default=None, description="More than.")
    le: int | str | None = Field(default=None, description="At most.")
    lt: int | str | None = Field(default=None, description="Less than.")

    @model_validator(mode="after")
    def _not_empty(self) -> "Bounds":
        wanted = [name for name in type(self).model_fields if name not in _ABOUT_A_RULE]
        if all(getattr(self, name) is None for name in wanted):
            raise ValueError(f"a check needs at least one of {', '.join(wanted)}")
        return self


class Length(Strict):
    """How long a text may be, in characters."""

    ge: int | None = Field(default=None, ge=0, description="At least.")
    le: int | None = Field(default=None, ge=0, description="At most.")

    @model_validator(mode="after")
    def _makes_sense(self) -> "Length":
        if self.ge is None and self.le is None:
            raise ValueError("a length needs ge, le or both")
        if self.ge is not None and self.le is not None and self.le < self.ge:
            raise ValueError(f"no text has at least {self.ge} and at most {self.le} characters")
        return self


class Rule(Bounds):
    """A rule that the values of one column keep, one by one. Nulls pass: `nullable: false` speaks of them."""

    isin: tuple[str | int, ...] | None = Field(default=None, min_length=1, description="One of these values.")
    matches: str | None = Field(default=None, description="Regular expression (RE2) that the whole value matches.")
    length: Length | None = Field(default=None, description="Characters of a text, e.g. {ge: 1, le: 40}.")
    severity: RowSeverity = Field(
        default="reject",
        description="reject: the row is a dead letter; warn: it is counted; error: the partition isn't published.",
    )
    name: Identifier | None = Field(
        default=None, description="Of the check of a rule that doesn't reject; omitted: from column and rule."
    )

    @model_validator(mode="after")
    def _named(self) -> "Rule":
        if self.name is not None and self.severity == "reject":
            raise ValueError("name is that of a check, which a rule that rejects has not: give severity warn or error")
        return self


_ABOUT_A_RULE = ("severity", "name")


class RowRule(Strict):
    """A rule on several columns of a row. Where its expression is null it holds."""

    name: Identifier = Field(description="Of the rule, unique in the table; dead letters and checks bear it.")
    expression: str = Field(min_length=1, description="Boolean in DuckDB's SQL over the columns of the contract.")
    reason: str | None = Field(
        default=None, min_length=1, description="Why a row is rejected; omitted: `<name> doesn't hold`."
    )
    severity: RowSeverity = Field(default="reject", description="As of a column's rule.")


def _one_or_more(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """One rule may be written without a list; its errors then bear the path as written."""
    if isinstance(value, Rule):
        return (value,)
    if isinstance(value, Mapping):
        return (Rule.model_validate(value, strict=True, by_alias=True, by_name=False),)
    return validate(value)


_Listed = Annotated[tuple[Rule, ...], Field(min_length=1)]
Rules = Annotated[_Listed, WrapValidator(_one_or_more, json_schema_input_type=Rule | _Listed)]
"""`check: {ge: 0}`, or a list of such rules."""


class Column(Strict):
    """A column. `name: bigint` is short for `name: {type: bigint}`."""

    type: ColumnType | None = Field(default=None, description="Silver may omit it: the source column's.")
    nullable: bool = Field(default=True, description="false: a row with a null here is rejected.")
    reason: str | None = Field(
        default=None, min_length=1, description="Why a row with a null here is rejected; omitted: `<name> is null`."
    )
    description: str | None = Field(default=None, description="What it means.")
    unit: str | None = Field(default=None, description="Unit of the values, e.g. order currency.")
    check: Rules = Field(default=(), description="Rule that each value keeps, or a list of them.")
    renamed_from: Identifier | None = Field(
        default=None, description="Its former name: what was published under it is found under the new one."
    )
    sensitive: Sensitivity | None = Field(
        default=None,
        description="In source: its values are covered before anything is written. mask: by a fixed text, a date by "
        "its year; hash: by a keyed hash; drop: the column isn't captured.",
    )

    @property
    def stored_type(self) -> str | None:
        """Type of the captured column: a hash is text."""
        return "string" if self.sensitive == "hash" else self.type


def _column_shorthand(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


Columns = dict[
    Identifier,
    Annotated[Column, BeforeValidator(_column_shorthand, json_schema_input_type=Column | ColumnType)],
]
