"""Sources of a dataset, one model per kind, and the systems that hold them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from etl_resources.manifest_columns import Columns
from etl_resources.manifest_http import HttpApiSource
from etl_resources.manifest_types import Identifier, QualifiedName, SecretReference, Strict


class Connection(Strict):
    """How a system is reached."""

    secret: SecretReference = Field(
        description="Reference to its address with the credentials; the value is fetched at run time."
    )


class Join(Strict):
    """Columns that a row takes from a parent in the same captured snapshot (left join)."""

    table: QualifiedName = Field(description="The parent.")
    on: dict[Identifier, Identifier] = Field(min_length=1, description="Parent's column: this row's column.")
    columns: dict[Identifier, Identifier] = Field(min_length=1, description="Name here: parent's column.")


class PostgresSource(Strict):
    """A table of a Postgres system, read by windows of its partition column, or whole."""

    kind: Literal["postgres"] = Field(description="Kind of source.")
    system: Identifier = Field(
        description="Entry of `systems` in platform.yaml; its tables are captured in one snapshot."
    )
    table: QualifiedName = Field(description="Table that is read.")
    extract: Literal["window", "full"] = Field(
        default="window",
        description="window: whole partitions, in one of which each row must be; full: the table, of a dataset "
        "without partitions.",
    )
    key: tuple[Identifier, ...] = Field(min_length=1, description="Columns that identify a row.")
    change_column: Identifier | None = Field(
        default=None, description="Stamp kept by the database; without it every column is compared."
    )
    joins: tuple[Join, ...] = Field(default=(), description="Columns from parents, in order.")
    columns: Columns = Field(min_length=1, description="What is read, joined columns included, with types.")


class CsvDialect(Strict):
    """How CSV text is read. The first line names the columns; every one that the source declares must be there."""

    delimiter: str = Field(default=",", min_length=1, max_length=1, description="Between values.")
    quote: str = Field(default='"', min_length=1, max_length=1, description="Around values; doubled inside of one.")
    null_values: tuple[str, ...] = Field(default=("",), description="Unquoted texts that mean null.")


class S3FilesSource(Strict):
    """Objects in S3 that together are the whole table, such as the daily drop of a CRM."""

    kind: Literal["s3_files"] = Field(description="Kind of source.")
    system: Identifier = Field(description="Entry of `systems` in platform.yaml.")
    prefix: str = Field(description="What the keys of its objects begin with, e.g. `customers/`.")
    pattern: str = Field(
        default="*", min_length=1, description="What the rest of the key matches: `*` (not over a `/`), `**`, `?`."
    )
    format: Literal["csv", "json_lines", "parquet"] = Field(description="Format of every object.")
    compression: Literal["none", "gzip", "zstd"] | None = Field(
        default=None, description="Omitted: by the key's ending, .gz or .zst. Parquet compresses inside."
    )
    csv: CsvDialect = Field(default_factory=CsvDialect, description="How CSV text is read.")
    settle_s: int = Field(
        default=0, ge=0, description="A delivery whose newest object is younger is still being written: not read."
    )
    extract: Literal["full"] = Field(default="full", description="How: all objects, each time that one changed.")
    key: tuple[Identifier, ...] = Field(min_length=1, description="Columns that identify a row.")
    columns: Columns = Field(min_length=1, description="What is read, with types; other columns stay in the raw copy.")

    @model_validator(mode="after")
    def _fits_format(self) -> "S3FilesSource":
        if self.format != "csv" and "csv" in self.model_fields_set:
            raise ValueError(f"csv describes CSV text, the format is {self.format}: remove it")
        if self.format == "parquet" and self.compression is not None:
            raise ValueError("Parquet compresses inside: remove compression")
        return self


Source = Annotated[PostgresSource | S3FilesSource | HttpApiSource, Field(discriminator="kind")]
"""Every kind. All but Postgres are delivered whole (extract/delivery)."""


class System(Strict):
    """A system of record. All tables of a Postgres are captured in one snapshot."""

    kind: Literal["postgres", "s3_files", "http_api"] = Field(description="Kind of system.")
    connection: Connection = Field(description="How it is reached.")
