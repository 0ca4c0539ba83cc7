"""The manifest's vocabulary as strict models. What a field may say is said here, once.

Reading files, positions and errors live in manifest_file; what a manifest means to Dagster lives in etl_assets.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
QualifiedName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}\.[a-z_][a-z0-9_]{0,62}$")]
SecretReference = Annotated[str, Field(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\.sql$")]
Month = Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")]
ColumnType = Annotated[
    str,
    Field(
        pattern=r"^(bigint|int|string|date|timestamptz|boolean|decimal\(([1-9]|[12]\d|3[0-8]),\d{1,2}\))$",
        description="bigint, int, string, date, timestamptz, boolean or decimal(precision,scale)",
    ),
]


class Strict(BaseModel):
    """An unknown key is an error: a misspelt option must not be ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Rule(Strict):
    """A row rule on one column; a row that breaks it is rejected, kept as a dead letter. Nulls pass (see nullable)."""

    ge: int | str | None = None
    gt: int | str | None = None
    le: int | str | None = None
    lt: int | str | None = None
    isin: tuple[str | int, ...] | None = None
    matches: str | None = Field(default=None, description="regular expression that the whole value matches")

    @model_validator(mode="after")
    def _not_empty(self) -> "Rule":
        if not self.model_fields_set:
            raise ValueError("a check needs at least one of ge, gt, le, lt, isin, matches")
        return self


def _column_shorthand(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


class Column(Strict):
    """A column; `name: bigint` is short for `name: {type: bigint}`."""

    type: ColumnType | None = Field(
        default=None, description="omitted: the type of the same column in the source"
    )
    nullable: bool = True
    description: str | None = None
    unit: str | None = None
    check: Rule | None = None


Columns = dict[Identifier, Annotated[Column, BeforeValidator(_column_shorthand)]]


class Partitions(Strict):
    """Calendar partitions, aligned to the platform's calendar, whose start and end hold unless narrowed here."""

    by: Identifier
    every: Literal["month"]
    start: Month | None = None
    end: Month | None = None


class Runner(Strict):
    """Where and how big a run is (M1)."""

    class_: Literal["managed_etl"] = Field(default="managed_etl", alias="class")
    size: Identifier = "medium"
    network_profile: Identifier = "private_vpc"


class Connection(Strict):
    secret: SecretReference


class Join(Strict):
    """Columns that a row takes from a parent in the same system, inside the same captured snapshot (left join)."""

    table: QualifiedName
    on: dict[Identifier, Identifier] = Field(min_length=1, description="parent's column: this row's column")
    columns: dict[Identifier, Identifier] = Field(min_length=1, description="name here: parent's column")


class PostgresSource(Strict):
    """A table of a Postgres system, read by windows of its partition column."""

    kind: Literal["postgres"]
    system: Identifier = Field(
        description="entry of `systems` in platform.yaml: one snapshot for all its tables"
    )
    table: QualifiedName
    extract: Literal["window"] = "window"
    key: tuple[Identifier, ...] = Field(min_length=1)
    change_column: Identifier | None = Field(
        default=None, description="stamp kept by the database; without it every column is compared"
    )
    joins: tuple[Join, ...] = ()
    columns: Columns = Field(min_length=1)


class Bronze(Strict):
    """As delivered and typed; nothing to say beyond the convention."""


class Check(Strict):
    """A rule on a whole partition."""

    rejected_share: Rule | None = Field(
        default=None, description="rejected rows of read rows, e.g. {le: '0.05'}"
    )
    rows: Rule | None = Field(default=None, description="number of rows written")
    severity: Literal["error", "warn"] = "error"

    @model_validator(mode="after")
    def _one(self) -> "Check":
        if (self.rejected_share is None) == (self.rows is None):
            raise ValueError("a check names exactly one of rejected_share, rows")
        return self


class Table(Strict):
    """A table made by SQL from other tables: its contract and its checks."""

    key: tuple[Identifier, ...] = Field(min_length=1)
    load: Literal["overwrite_partition"] = "overwrite_partition"
    sql: FileName
    version: int = Field(default=1, ge=1, description="a change of meaning is a new version")
    grain: str | None = Field(
        default=None, description="input of which each row gives one row, e.g. silver.sales_lines"
    )
    columns: Columns = Field(min_length=1)
    checks: tuple[Check, ...] = ()

    @model_validator(mode="after")
    def _key_is_declared(self) -> "Table":
        missing = [k for k in self.key if k not in self.columns]
        if missing:
            raise ValueError(f"key {missing[0]!r} is not one of the columns")
        return self


class Silver(Table):
    """Cleaned and deduplicated by key; without `sql` the columns are taken as they are."""

    sql: FileName | None = None  # type: ignore[assignment]  # narrower than Table: the convention has a default


class Reconcile(Strict):
    """Control totals, taken in the captured snapshot of the system of record, that the table must equal (M15)."""

    system: Identifier
    sql: FileName = Field(
        description="one SELECT with the parameters %(start)s and %(end)s (dates, end excluded)"
    )
    compare: dict[Identifier, str] = Field(min_length=1, description="measure: largest absolute difference")


class Accept(Strict):
    reconcile: Reconcile


class Kpi(Table):
    accept: Accept | None = None


class PostgresTarget(Strict):
    """A serving table; its columns are those of the dataset's last layer."""

    postgres: QualifiedName
    load: Literal["replace", "upsert"] = "replace"
    key: tuple[Identifier, ...] | None = Field(
        default=None, description="omitted: the key of the dataset's last layer"
    )


class Dataset(Strict):
    """One dataset: where it comes from, what it promises, where it is served."""

    dataset: Identifier
    owner: str = Field(pattern=r"^(team:[a-z0-9-]+|[^@\s]+@[^@\s]+\.[^@\s]+)$")
    tenant: Identifier
    description: str = Field(min_length=1)
    partitions: Partitions
    runner: Runner = Runner()
    source: PostgresSource | None = None
    bronze: Bronze | None = None
    silver: Silver | None = None
    gdp: Table | None = None
    kpi: Kpi | None = None
    serving: tuple[PostgresTarget, ...] = ()

    @model_validator(mode="after")
    def _shape(self) -> "Dataset":
        starts = [name for name in ("source", "gdp", "kpi") if getattr(self, name) is not None]
        if len(starts) != 1:
            raise ValueError("a dataset has exactly one of source, gdp, kpi")
        if (self.source is None) != (self.bronze is None):
            raise ValueError("source and bronze belong together (`bronze: {}` is enough)")
        if self.silver is not None and self.source is None:
            raise ValueError("silver needs a source; a table over other datasets is gdp or kpi")
        return self

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers that this dataset has, in the order of the flow."""
        return tuple(x for x in ("bronze", "silver", "gdp", "kpi") if getattr(self, x) is not None)

    def table(self, layer: str) -> Table:
        """The contract of silver, gdp or kpi. Raises KeyError for a layer that this dataset doesn't have."""
        table = getattr(self, layer, None)
        if not isinstance(table, Table):
            raise KeyError(f"{self.dataset} has no contract for layer {layer}")
        return table


DECIMAL = re.compile(r"^decimal\((\d+),(\d+)\)$")


class Calendar(Strict):
    """The platform's calendar (M5): partitions and KPI periods are aligned to it."""

    time_zone: str = "UTC"
    fiscal_year_start: int = Field(default=1, ge=1, le=12)
    start: Month
    end: Month

    @model_validator(mode="after")
    def _ordered(self) -> "Calendar":
        if self.end < self.start:
            raise ValueError(f"end {self.end} lies before start {self.start}")
        return self


class System(Strict):
    kind: Literal["postgres"]
    connection: Connection


class DuckdbSize(Strict):
    threads: int = Field(ge=1)
    memory_mb: int = Field(ge=256)


class Size(Strict):
    duckdb: DuckdbSize


class AllowedTargets(Strict):
    postgres: tuple[Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*\.(\*|[a-z_][a-z0-9_]*)$")], ...]


class Platform(Strict):
    """platform.yaml: what holds for every dataset."""

    etl_resource_prefix: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,30}$")]
    database_prefix: Identifier
    calendar: Calendar
    sizes: dict[Identifier, Size]
    tenants: tuple[Identifier, ...]
    network_profiles: tuple[Identifier, ...]
    systems: dict[Identifier, System]
    allowed_targets: AllowedTargets

    def allows_postgres(self, target: str) -> bool:
        """Whether a table may be written (C8)."""
        schema = target.partition(".")[0]
        return target in self.allowed_targets.postgres or f"{schema}.*" in self.allowed_targets.postgres
