"""The manifest's vocabulary of how big a run is: sizes, hints, categories of input, prices (M1, M11, G3)."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

from pydantic import Field, model_validator

from etl_resources.manifest_types import Amount, Currency, Identifier, Strict

Category = Literal["small", "medium", "large", "xlarge"]
Engine = Literal["duckdb", "spark", "glue"]
HINT_MAX = 10_000


class Runner(Strict):
    """Where and how big a run is (M1)."""

    class_: Literal["managed_etl"] = Field(default="managed_etl", alias="class", description="Kind of runner.")
    size: Identifier = Field(
        default="medium", description="Entry of `sizes` in platform.yaml. xlarge is refused until there are approvals."
    )
    up_to: Identifier | None = Field(
        default=None,
        description="Largest size to which a run is raised by itself when its estimate misses a `freshness`; "
        "omitted: its size is never raised.",
    )
    network_profile: Identifier = Field(default="private_vpc", description="Entry of `network_profiles`.")
    partition_hint: int | None = Field(
        default=None,
        ge=1,
        le=HINT_MAX,
        description="Tasks of Spark that write a partition, each a file; omitted: as many as Spark finds right. "
        "KPIs, and tables whose periods are closed, are one file in any case.",
    )
    shuffle_partition_hint: int | None = Field(
        default=None,
        ge=1,
        le=HINT_MAX,
        description="Parts into which Spark splits its joins and groupings at most, instead of the size's "
        "`shuffle_partitions`.",
    )
    size_category: Category | None = Field(
        default=None,
        description="How big its input is, an entry of `size_categories`; another one than is measured is warned of.",
    )


class GlueSize(Strict):
    """Workers of a job of AWS Glue."""

    worker_type: Literal["G.1X", "G.2X", "G.4X", "G.8X"] = Field(description="Kind of each worker.")
    workers: int = Field(ge=2, le=299, description="How many.")

    def __str__(self) -> str:
        return f"{self.worker_type} × {self.workers}"


class SizeCategory(Strict):
    """One category of input (G3). It describes data; how big a run may be is a matter of `size`."""

    max_bytes: int | None = Field(default=None, ge=1, description="Largest input in bytes, included; omitted: any.")
    glue: GlueSize = Field(description="Workers of a job of such a dataset.")


def _category(max_bytes: int | None, worker_type: Literal["G.1X", "G.2X"], workers: int) -> SizeCategory:
    return SizeCategory(max_bytes=max_bytes, glue=GlueSize(worker_type=worker_type, workers=workers))


class SizeCategories(Strict):
    """Categories of input by what one run of a table reads."""

    small: SizeCategory = Field(default=_category(99_999_999, "G.1X", 2), description="Below 100 MB.")
    medium: SizeCategory = Field(default=_category(1_000_000_000, "G.1X", 5), description="Up to 1 GB.")
    large: SizeCategory = Field(default=_category(5_000_000_000, "G.1X", 10), description="Up to 5 GB.")
    xlarge: SizeCategory = Field(default=_category(None, "G.2X", 10), description="Above.")

    @model_validator(mode="after")
    def _grows(self) -> "SizeCategories":
        *bounded, last = self.by_name.values()
        bounds = [c.max_bytes for c in bounded if c.max_bytes is not None]
        if last.max_bytes is not None or len(bounds) < len(bounded) or bounds != sorted(set(bounds)):
            raise ValueError("max_bytes must grow from small to large, and xlarge has none")
        return self

    @property
    def by_name(self) -> Mapping[Category, SizeCategory]:
        """From small to large."""
        return {"small": self.small, "medium": self.medium, "large": self.large, "xlarge": self.xlarge}

    def of(self, size_bytes: int) -> Category:
        """The category of so much input."""
        fits = (name for name, c in self.by_name.items() if c.max_bytes is None or size_bytes <= c.max_bytes)
        return next(fits)


class EnginePrices(Strict):
    """What an hour of one worker of a size costs, by engine (M11)."""

    duckdb: Amount = Field(description="Of the embedded engine: the share of the machine that the size takes.")
    spark: Amount | None = Field(
        default=None,
        description="Of Spark: all that the size takes, the run's own process included. Omitted: what Spark computes "
        "at this size has no known cost.",
    )
    glue: Amount | None = Field(
        default=None,
        description="Of one worker of AWS Glue. A run is estimated at all workers of as many jobs at once as the size "
        "has threads of `duckdb`: at most what it costs.",
    )


class Prices(Strict):
    """What runs cost, for estimates and for what a backfill did cost."""

    currency: Currency = Field(description="Of all prices.")
    per_worker_hour: dict[Identifier, EnginePrices] = Field(
        min_length=1, description="By size, an entry of `sizes`. A size without a price has no cost, and says so."
    )

    def of(self, size: str, engine: Engine) -> Decimal | None:
        """Price of a worker-hour of an engine at a size; None where there is none."""
        found = self.per_worker_hour.get(size)
        price = getattr(found, engine) if found else None
        return Decimal(price) if price is not None else None
