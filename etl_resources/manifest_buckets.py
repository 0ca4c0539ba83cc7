"""How a large table's files are split, beside its partitions in time."""

from pydantic import Field

from etl_resources.manifest_types import Identifier, Strict


class Buckets(Strict):
    """How the files of each partition are split by the hash of a column, for readers that look for few values of it."""

    of: Identifier = Field(description="Column by which is looked up, of many values: customer_id.")
    count: int = Field(
        ge=2, le=1024, description="How many. It pays where a partition has some 50 MB for each; a bucket is a file."
    )

    @property
    def field(self) -> str:
        """Of Iceberg's partition spec."""
        return f"{self.of}_bucket_{self.count}"
