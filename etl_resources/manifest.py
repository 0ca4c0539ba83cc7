"""The manifest's vocabulary as strict models. What a field may say is said here, once.

Reading files, positions and errors live in manifest_file; what a manifest means to Dagster in etl_assets.
docs/manifest.md and the JSON Schema are generated from the descriptions here.
"""

from datetime import date
from functools import lru_cache
from typing import Literal
from zoneinfo import available_timezones

from pydantic import Field, model_validator

from etl_resources.calendar import WHOLE, Every, Grain, bounds, keys_between
from etl_resources.manifest_calendar import WORKING_DAYS, Holidays, Weekday
from etl_resources.manifest_glue import Glue
from etl_resources.manifest_runner import GlueSize, Prices, Runner, SizeCategories
from etl_resources.manifest_schedules import OffPeak, Schedule
from etl_resources.manifest_sizes import Size
from etl_resources.manifest_sources import PostgresSource, Source, System
from etl_resources.manifest_spark import SparkCluster
from etl_resources.manifest_tables import Derived, Kpi, Lookup, Silver, Table, Window
from etl_resources.manifest_targets import AllowedTargets, AnyTarget
from etl_resources.manifest_types import (
    Identifier,
    Month,
    Owner,
    PeriodKey,
    ResourcePrefix,
    SchemaEvolution,
    SecretReference,
    Strict,
)

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Partitions(Strict):
    """Calendar partitions, aligned to the platform's calendar, whose span holds unless narrowed here."""

    by: Identifier = Field(description="Column, date or timestamptz in every layer, that places a row.")
    every: Every = Field(description="Length of a partition.")
    start: PeriodKey | None = Field(
        default=None, description="First partition; omitted: the first that shares a day with the calendar."
    )
    end: PeriodKey | None = Field(
        default=None, description="Last partition, included; omitted: the last that shares a day with the calendar."
    )


class Bronze(Strict):
    """As delivered and typed; there is nothing that it must say: `bronze: {}`."""

    schema_evolution: SchemaEvolution | None = Field(
        default=None,
        description="When the source's columns change. evolve: the table follows; freeze: nothing is captured; "
        "quarantine: what doesn't fit is set aside. Omitted: a new column is left out, a changed one refused.",
    )
    max_rejected_share: str | None = Field(
        default=None,
        pattern=r"^(0|1|0?\.\d+)$",
        description="Of the rows read, e.g. '0.05'. If more don't fit, nothing is published.",
    )
    max_rejected_rows: int | None = Field(
        default=None, ge=0, description="If more rows don't fit, nothing is published."
    )


class Promise(Strict):
    """How far a dataset may be behind its sources before somebody is told (M15b)."""

    within_hours: float = Field(
        gt=0,
        description="Hours in which what a source held must be in every table and target of the dataset, a complete "
        "period included. Longer than it takes to look at the source, and to run.",
    )


class Dataset(Strict):
    """One dataset: where it comes from, what it promises, where it is served."""

    dataset: Identifier = Field(description="Name, equal to its folder's.")
    owner: Owner = Field(description="Who answers for it.")
    tenant: Identifier = Field(description="Entry of `tenants` in platform.yaml.")
    description: str = Field(min_length=1, description="What it is, in a sentence.")
    partitions: Partitions | None = Field(
        default=None, description="How its rows are placed in time; omitted: one partition, always computed whole."
    )
    runner: Runner = Field(default_factory=Runner, description="Where and how big a run is.")
    source: Source | None = Field(default=None, description="Where its rows come from.")
    bronze: Bronze | None = Field(default=None, description="Required with a source: `bronze: {}`.")
    silver: Silver | None = Field(default=None, description="The source, cleaned.")
    gdp: Derived | None = Field(default=None, description="A golden table over silver and gdp tables.")
    kpi: Kpi | None = Field(default=None, description="Measures over gdp and kpi tables.")
    serving: tuple[AnyTarget, ...] = Field(default=(), description="Where the last layer is copied to.")
    freshness: Promise | None = Field(default=None, description="How far it may be behind; omitted: nobody is told.")

    @model_validator(mode="after")
    def _shape(self) -> "Dataset":
        starts = [name for name in ("source", "gdp", "kpi") if getattr(self, name) is not None]
        if len(starts) != 1:
            raise ValueError(f"a dataset has exactly one of source, gdp, kpi; given: {', '.join(starts) or 'none'}")
        if (self.source is None) != (self.bronze is None):
            raise ValueError("source and bronze belong together (`bronze: {}` is enough)")
        if self.silver is not None and self.source is None:
            raise ValueError("silver needs a source; a table over other datasets is gdp or kpi")
        return self

    @property
    def source_name(self) -> str:
        """Name of the source in its system: the table, or the dataset's own where the source has no tables."""
        return self.source.table if isinstance(self.source, PostgresSource) else self.dataset

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

    def windows(self, layer: str) -> dict[str, Window]:
        """Inputs of a layer that are read in another window than the same period."""
        table = getattr(self, layer)
        return table.inputs if isinstance(table, Derived) else {}

    def lookups(self, layer: str) -> dict[str, Lookup]:
        """Tables that a layer looks up."""
        table = getattr(self, layer)
        return table.lookups if isinstance(table, Derived) else {}


class Calendar(Strict):
    """The platform's calendar (M5): partitions and KPI periods are aligned to it."""

    time_zone: str = Field(default="UTC", description="Zone in which a timestamp has its day, e.g. Europe/Berlin.")
    fiscal_year_start: int = Field(default=1, ge=1, le=12, description="Month.")
    week_start: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = Field(
        default="monday", description="First day of a week."
    )
    start: Month = Field(description="First month of the data.")
    end: Month = Field(description="Last month of the data, included.")
    working_days: tuple[Weekday, ...] = Field(
        default=WORKING_DAYS, min_length=1, description="Days of the week on which one works."
    )
    holidays: Holidays = Field(default_factory=Holidays, description="Days on which nobody works.")

    @model_validator(mode="after")
    def _exists(self) -> "Calendar":
        if self.time_zone != "UTC" and self.time_zone not in available_timezones():
            raise ValueError(f"unknown time zone {self.time_zone!r}; a name such as Europe/Berlin")
        if self.end < self.start:
            raise ValueError(f"end {self.end} lies before start {self.start}")
        return self

    @property
    def span(self) -> tuple[date, date]:
        """First day, and first day after the last one."""
        return bounds(self.start)[0], bounds(self.end)[1]

    def grain(self, every: Every) -> Grain:
        """The periods of a kind."""
        return Grain(every, WEEKDAYS.index(self.week_start) + 1, self.fiscal_year_start)

    def keys(self, partitions: Partitions | None) -> list[str]:
        """A dataset's partitions, in order: all that share a day with the calendar, unless it narrows them."""
        if partitions is None:
            return [WHOLE]
        return list(_keys(self.grain(partitions.every), self.span, partitions.start, partitions.end))


@lru_cache(maxsize=100)
def _keys(grain: Grain, span: tuple[date, date], first: str | None, last: str | None) -> tuple[str, ...]:
    """A thousand days, asked for by each of a thousand partitions."""
    found = grain.within(*span)
    return tuple(keys_between(first or found[0], last or found[-1]))


class HashKey(Strict):
    """What `sensitive: hash` is keyed with."""

    secret: SecretReference = Field(
        description="Reference to a random text of at least 32 characters; the value is fetched at run time."
    )


class KeepFresh(Strict):
    """What the reconcile sensor asks for by itself: what has been published once, whenever its inputs change."""

    enabled: bool = Field(default=True, description="Whether the sensor runs unless somebody turns it off or on.")
    follow_logic: bool = Field(
        default=False,
        description="Whether a partition is made again because its logic changed. Otherwise that is only told: a "
        "deploy must not recompute the world by surprise.",
    )
    sweep_every_hours: float = Field(
        default=24, gt=0, description="How often every partition of a Postgres table is compared, stamped or not."
    )
    poll_every_minutes: float = Field(default=60, gt=0, description="How often an HTTP API is asked for its pages.")
    tries: int = Field(default=5, ge=1, description="Runs of a partition without a publish, then it is stuck.")
    wait_s: float = Field(
        default=60,
        ge=0,
        description="Seconds from the first of them to the second; four times as long each time, up to an hour.",
    )
    heavy_runs: Literal["any_time", "off_peak"] = Field(
        default="any_time",
        description="When runs may start that take longer than heavy_minutes. off_peak: in a window.",
    )
    heavy_minutes: float = Field(default=10, gt=0, description="Estimated from earlier runs.")


class Platform(Strict):
    """platform.yaml: what holds for every dataset."""

    etl_resource_prefix: ResourcePrefix = Field(description="Begins every bucket, job and role.")
    database_prefix: Identifier = Field(description="Begins every catalog database.")
    calendar: Calendar = Field(description="Partitions of all datasets.")
    sizes: dict[Identifier, Size] = Field(
        min_length=1, description="Sizes that a runner may name, from small to large."
    )
    spark: SparkCluster | None = Field(
        default=None, description="The Spark cluster that ETL_SPARK_MASTER names, where it needs to be told more."
    )
    size_categories: SizeCategories = Field(
        default_factory=SizeCategories,
        description="Categories of input, by bytes, with the workers of their Glue jobs.",
    )
    prices: Prices | None = Field(default=None, description="What a worker-hour costs; omitted: costs are unknown.")
    tenants: tuple[Identifier, ...] = Field(min_length=1, description="Tenants that a dataset may name.")
    network_profiles: tuple[Identifier, ...] = Field(min_length=1, description="What a runner may name.")
    systems: dict[Identifier, System] = Field(description="Systems of record that a source may name.")
    hash_key: HashKey | None = Field(
        default=None, description="Key of hashed columns; required where a column is `sensitive: hash`."
    )
    allowed_targets: AllowedTargets = Field(description="Where data may be served; nothing else is written.")
    keep_fresh: KeepFresh = Field(default_factory=KeepFresh, description="What is recomputed by itself.")
    schedules: tuple[Schedule, ...] = Field(default=(), description="What is materialized when.")
    off_peak: tuple[OffPeak, ...] = Field(default=(), description="When heavy runs may start.")
    glue: Glue | None = Field(default=None, description="The job in AWS Glue; omitted: there is none.")

    @model_validator(mode="after")
    def _windows(self) -> "Platform":
        if self.keep_fresh.heavy_runs == "off_peak" and not self.off_peak:
            raise ValueError("keep_fresh waits for off-peak, and there is no window: add `off_peak`")
        return self

    def glue_workers(self, runner: Runner, size: str | None = None) -> GlueSize | None:
        """Workers of a Glue job of a dataset: those of its category, else of its size; None where neither has any.

        size: at which it runs, if not at that of its manifest.
        """
        if runner.size_category is not None:
            return self.size_categories.by_name[runner.size_category].glue
        return self.sizes[size or runner.size].glue
