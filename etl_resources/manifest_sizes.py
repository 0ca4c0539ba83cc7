"""What a size of `sizes` in platform.yaml means to each engine (M1)."""

from pydantic import Field, model_validator

from etl_resources.manifest_runner import GlueSize
from etl_resources.manifest_types import Strict


class DuckdbSize(Strict):
    """What a size means to the embedded engine; beyond its memory it spills to disk."""

    threads: int = Field(ge=1, description="Threads.")
    memory_mb: int = Field(ge=256, description="Memory in MB.")


class SparkSize(Strict):
    """What a size means to Spark, whose master ETL_SPARK_MASTER names; beyond its memory it spills to disk."""

    cores: int = Field(ge=1, description="Cores in all.")
    memory_mb: int = Field(
        ge=512, description="Heap in MB: of the driver where the master is local, else of each executor."
    )
    shuffle_partitions: int = Field(
        ge=1, description="Parts into which a join or a grouping is split at most; small ones are put together."
    )
    executor_cores: int | None = Field(
        default=None,
        ge=1,
        description="Cores of an executor of a cluster; omitted: what a worker of a standalone cluster has, one on "
        "Kubernetes.",
    )
    min_executors: int | None = Field(
        default=None,
        ge=1,
        description="Dynamic allocation, on a cluster: executors come and go between so many and all cores.",
    )

    source_readers: int | None = Field(
        default=None,
        ge=1,
        description="Tasks by which executors read a Postgres source or files in S3, each by its own connection: at "
        "most so many at once. Omitted: the embedded engine reads them.",
    )

    @property
    def executors(self) -> int:
        """How many there are at most."""
        return max(1, self.cores // (self.executor_cores or 1))

    @model_validator(mode="after")
    def _divisible(self) -> "SparkSize":
        if self.min_executors is not None and self.executor_cores is None:
            raise ValueError("min_executors needs executor_cores: how large is one of them?")
        if self.source_readers is not None and self.source_readers > self.cores:
            raise ValueError(f"source_readers is {self.source_readers}, and the size has {self.cores} cores")
        if self.executor_cores is not None and self.cores % self.executor_cores:
            raise ValueError(f"{self.cores} cores are no multiple of executor_cores, {self.executor_cores}")
        if self.min_executors is not None and self.min_executors > self.executors:
            raise ValueError(f"min_executors is {self.min_executors}, and the cores are {self.executors} executors")
        return self


class Size(Strict):
    """What a size means to each engine (M1)."""

    duckdb: DuckdbSize = Field(
        description="The embedded engine: plans and audits, and reads sources and computes where Spark doesn't."
    )
    spark: SparkSize | None = Field(
        default=None, description="Spark, which then computes silver, gdp and kpi tables; the rows are the same."
    )
    glue: GlueSize | None = Field(
        default=None,
        description="Workers of a run in AWS Glue, which computes what `spark` would where ETL_SPARK_MASTER is `glue`, "
        "of a dataset without `size_category`.",
    )
