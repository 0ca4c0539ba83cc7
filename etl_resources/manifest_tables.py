"""Tables that SQL makes from other tables: contract, checks, and what must hold before a KPI is published."""

from typing import Literal

from pydantic import Field, model_validator

from etl_resources.manifest_buckets import Buckets
from etl_resources.manifest_columns import Bounds, Columns, RowRule, RowSeverity
from etl_resources.manifest_targets import AnyTarget
from etl_resources.manifest_types import FileName, FunctionName, Identifier, Strict, TableName

PERIODS_MAX = 1_100
"""Longest look back of a window: three years of days."""
ROWS = "rows"
"""Instead of a column that is summed: the number of rows."""


class Change(Strict):
    """How much a partition may differ from those before it."""

    le: str | int = Field(description="Largest difference from their median, as a share of it, e.g. '0.50'.")


class Freshness(Strict):
    """How old the newest row may be."""

    column: Identifier = Field(description="Date or timestamptz of a row.")
    within_days: int = Field(ge=0, description="Days from its newest value to the last day of the period, or to today.")


class Rejected(Strict):
    """Dead letters that count as captured and not published: those of exactly the partition that was read."""

    table: TableName = Field(description="Input, read for the same period, whose rejected rows are counted.")
    columns: dict[Identifier, Identifier] = Field(
        min_length=1, description="Measure: the input's column that is summed, or `rows` for their number."
    )


class Reconcile(Strict):
    """Control totals of the system of record, in the captured snapshot, that the table must equal (M15)."""

    system: Identifier = Field(description="Entry of `systems` in platform.yaml.")
    sql: FileName = Field(description="One SELECT for that system with the dates %(start)s and %(end)s (excluded).")
    compare: dict[Identifier, str] = Field(
        min_length=1, description="Measure: largest absolute difference, a quoted decimal such as '0.01'."
    )
    by: tuple[Identifier, ...] | None = Field(
        default=None,
        min_length=1,
        description="Columns of the key by which both sides are summed before they are compared; omitted: each row.",
    )
    rejected: Rejected | None = Field(
        default=None, description="captured = published + rejected: where the rejected rows are. Needs `by`."
    )

    @model_validator(mode="after")
    def _groups(self) -> "Reconcile":
        if self.rejected is not None and self.by is None:
            raise ValueError("rejected needs `by`: the groups to which rejected rows are added")
        return self


class Check(Strict):
    """A rule on a whole partition: exactly one of the fields before severity."""

    rejected_share: Bounds | None = Field(default=None, description="Rejected of read rows, e.g. {le: '0.05'}.")
    rejected_rows: Bounds | None = Field(default=None, description="Number of rejected rows, e.g. {le: 1000}.")
    rows: Bounds | None = Field(default=None, description="Number of rows written, e.g. {ge: 1}.")
    rows_change: Change | None = Field(
        default=None, description="Rows against the median of up to 6 published partitions before it, at least 3."
    )
    unique: tuple[Identifier, ...] | None = Field(
        default=None, min_length=1, description="Columns whose values are unique together where none is null."
    )
    freshness: Freshness | None = Field(default=None, description="How old the newest row may be.")
    sql: FileName | None = Field(
        default=None, description="One SELECT over the partition and the table's inputs that gives rows that offend."
    )
    reconcile: Reconcile | None = Field(
        default=None, description="Control totals of the system of record, by the groups of `by`."
    )
    severity: Literal["error", "warn"] = Field(default="error", description="error: not published.")
    name: Identifier | None = Field(default=None, description="Unique in the table; omitted: that of the check.")
    description: str | None = Field(default=None, min_length=1, description="What it means, for the web UI.")

    @model_validator(mode="after")
    def _one(self) -> "Check":
        kinds = [n for n in type(self).model_fields if n not in ("severity", "name", "description")]
        if sum(getattr(self, n) is not None for n in kinds) != 1:
            raise ValueError(f"a check names exactly one of {', '.join(kinds)}")
        return self

    @property
    def kind(self) -> str:
        """The field that it has."""
        return next(n for n in type(self).model_fields if getattr(self, n) is not None)


class Reference(Strict):
    """Rows must find their key in another published table, one without partitions. A key with a null in it passes."""

    from_: TableName | None = Field(
        default=None,
        alias="from",
        description="Input whose rows hold the key; omitted: the grain, or silver's bronze.",
    )
    on: dict[Identifier, Identifier] = Field(
        min_length=1, description="Column, of that input and unchanged of this table: the column that it equals."
    )
    reason: str | None = Field(
        default=None, min_length=1, description="Why a row is rejected; omitted: `<columns> not in <table>`."
    )
    severity: RowSeverity = Field(default="reject", description="As of a column's rule.")


class Filter(Strict):
    """Rows of the grain that the SQL leaves out on purpose. It must leave out exactly those."""

    name: Identifier = Field(description="Of the rule, unique in the table; they are counted under it.")
    expression: str = Field(min_length=1, description="Boolean in DuckDB's SQL over the columns of the grain.")
    reason: str = Field(min_length=1, description="Why they don't belong into the table.")


class Conserve(Strict):
    """What an aggregate doesn't lose: sums over its rows equal sums over the rows that it reads."""

    of: TableName = Field(description="Input whose rows are aggregated.")
    sums: dict[Identifier, Identifier] = Field(
        min_length=1,
        description="Measure of this table: the input's column that is summed; `rows`: their number.",
    )


class Table(Strict):
    """A table made by SQL from other tables: its contract and its checks."""

    key: tuple[Identifier, ...] = Field(min_length=1, description="Columns whose values are unique together.")
    load: Literal["overwrite_partition"] = Field(
        default="overwrite_partition", description="A run replaces its partitions, whole."
    )
    sql: FileName = Field(description="One SELECT in DuckDB's dialect that gives the columns, or what `python` gets.")
    python: FunctionName | None = Field(
        default=None,
        description="Function from polars frame to polars frame that makes the columns of what the SQL gives, batch by "
        "batch.",
    )
    version: int = Field(default=1, ge=1, description="A change of meaning is a new version.")
    grain: TableName | None = Field(
        default=None, description="Input of which each row gives one row, e.g. silver.sales_lines."
    )
    filters: tuple[Filter, ...] = Field(default=(), description="Rows of the grain that the SQL leaves out.")
    columns: Columns = Field(min_length=1, description="The contract: every column of the result.")
    rules: tuple[RowRule, ...] = Field(default=(), description="Rules on several columns of a row.")
    references: dict[TableName, Reference] = Field(
        default={}, description="Tables in which rows must find their key; a partition depends on those keys alone."
    )
    checks: tuple[Check, ...] = Field(default=(), description="Rules on a whole partition.")
    buckets: Buckets | None = Field(
        default=None,
        description="How the files of a large table are split within a partition; omitted: they aren't. Not of a kpi, "
        "nor with period_close.",
    )


class Window(Strict):
    """What one partition reads of an input, other than the same period: exactly one of periods, partitions."""

    periods: tuple[int, ...] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="First and last period relative to this one and as long, both read: of months, [-11, 0] is a "
        "trailing year.",
    )
    partitions: Literal["all"] | None = Field(default=None, description="all: every one that is published.")
    rows: Literal["period", "partitions"] = Field(
        default="period",
        description="Of partitions that reach out of the window, because they are of another grain: the rows of its "
        "days, or all rows of the partitions.",
    )
    missing: Literal["refuse", "allow"] = Field(
        default="refuse", description="An unpublished partition. allow: it has no rows until it is published."
    )

    @property
    def has_own_period(self) -> bool:
        """Whether it reads the period that is made, too."""
        return self.periods is None or self.periods[1] == 0

    @model_validator(mode="after")
    def _makes_sense(self) -> "Window":
        if (self.periods is None) == (self.partitions is None):
            raise ValueError("a window names exactly one of periods, partitions")
        if self.periods is None:
            if self.missing == "allow":
                raise ValueError("missing: allow belongs to periods; partitions: all reads what is published")
            if self.rows == "partitions":
                raise ValueError("rows: partitions belongs to periods; partitions: all reads all rows")
            return self
        first, last = self.periods
        if not -PERIODS_MAX <= first <= last <= 0:
            raise ValueError(
                f"periods [{first}, {last}] is not valid; expected [first, last], -{PERIODS_MAX} <= first <= last <= 0"
            )
        return self


class Lookup(Strict):
    """Rows that another input's rows look up. The SQL reads them as lookup.<dataset>, one row per key."""

    from_: TableName = Field(alias="from", description="Input, read for the same period, whose rows look up.")
    on: dict[Identifier, Identifier] = Field(min_length=1, description="That input's column: the column it equals.")
    as_of: dict[Identifier, Identifier] | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        description="That input's column: the column whose newest value at or before it is taken.",
    )
    latest_by: Identifier | None = Field(
        default=None, description="Instead of as_of: column whose newest value is taken, the current row."
    )
    days_back: int | None = Field(default=None, ge=0, description="With as_of: what is older is not found.")
    columns: tuple[Identifier, ...] = Field(min_length=1, description="Columns that are taken.")

    @model_validator(mode="after")
    def _makes_sense(self) -> "Lookup":
        if self.as_of is not None and self.latest_by is not None:
            raise ValueError("a lookup has as_of or latest_by, not both")
        if self.days_back is not None and self.as_of is None:
            raise ValueError("days_back needs as_of: the day back from which")
        return self


class PeriodClose(Strict):
    """Periods of the table may be closed (`data-pipeline close`): what late data does to one from then on."""

    late_data: Literal["approval", "adjustment"] = Field(
        description="approval: the new result waits until a named person accepts it, then it replaces the closed one. "
        "adjustment: the closed figures stay, and the difference is booked in the table <dataset>_adjustments."
    )
    measures: tuple[Identifier, ...] | None = Field(
        default=None,
        min_length=1,
        description="Numeric columns that are summed: told before and after, negated where an adjustment reverses a "
        "row. Omitted: the decimals outside the key; required for adjustment.",
    )
    serving: tuple[AnyTarget, ...] = Field(default=(), description="Where the adjustments are copied to.")

    @model_validator(mode="after")
    def _makes_sense(self) -> "PeriodClose":
        if self.late_data == "adjustment" and self.measures is None:
            raise ValueError("adjustment needs `measures`: the columns of which the reversed value is negative")
        if self.late_data != "adjustment" and self.serving:
            raise ValueError("serving is of adjustments; approval has none")
        return self


class Derived(Table):
    """A table over tables of other datasets; it reads the same period of each, unless `inputs` says otherwise."""

    inputs: dict[TableName, Window] = Field(
        default={}, description="Inputs that are read in another window than the same period."
    )
    lookups: dict[TableName, Lookup] = Field(
        default={}, description="Tables of which a partition reads only the rows that it looks up."
    )
    conserve: Conserve | None = Field(default=None, description="Without a grain: sums that no row may be lost from.")
    period_close: PeriodClose | None = Field(
        default=None, description="What late data does to a closed period; omitted: its periods can't be closed."
    )


class Silver(Table):
    """Cleaned and deduplicated by key, from the bronze table of the same dataset."""

    sql: FileName | None = Field(  # type: ignore[assignment]  # wider than Table: there is a convention
        default=None,
        description="One SELECT; omitted: the columns as they are in bronze, with `python` all that aren't masked.",
    )


class ChangeLimit(Strict):
    """How far the sums of a partition may move when it is published again: by late data, or by another logic."""

    within: dict[Identifier, str] = Field(
        min_length=1, description="Measure: largest change of its sum, as a share of the published one: '0.10'."
    )
    by: tuple[Identifier, ...] = Field(
        default=(), description="Columns of the key by which the sums are compared; omitted: all rows together."
    )


class Accept(Strict):
    """What must hold before a KPI is published; else it waits for a person. At least one of the two."""

    reconcile: Reconcile | None = Field(default=None, description="Control totals of the system of record.")
    change: ChangeLimit | None = Field(default=None, description="How far it may move from what is published.")

    @model_validator(mode="after")
    def _not_empty(self) -> "Accept":
        if self.reconcile is None and self.change is None:
            raise ValueError("accept names reconcile, change or both")
        return self


class Kpi(Derived):
    """Measures over gdp tables."""

    accept: Accept | None = Field(default=None, description="What must hold before it is published.")
