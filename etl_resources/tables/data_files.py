"""Iceberg data files from Parquet files that DuckDB wrote.

PyIceberg's own adoption refuses NOT NULL columns because DuckDB marks all as optional; here NOT NULL is proved by
the null counts instead. Uses private functions of pyiceberg 0.12.0 (tests/integration/test_pyiceberg_contract.py).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from etl_resources.calendar import WHOLE, bounds
from etl_resources.conventions import parse_bucket
from etl_resources.errors import PermanentError
from etl_resources.retries import retry_transient, with_retries_of_here
from etl_resources.tables.partitioning import (
    BY_KEY,
    Bucketing,
    partition_record,
    partition_value,
    period_field,
    spec_of_file,
)

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.io.pyarrow import DataFileStatistics
    from pyiceberg.manifest import DataFile
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.table.metadata import TableMetadata

READERS = 8
"""Parquet footers read at once."""
PROVED_ROWS = 100_000
"""Rows of a file whose bucket is proved at once."""


def data_files(io: "FileIO", metadata: "TableMetadata", paths: Sequence[tuple[str, str]]) -> list["DataFile"]:
    """Data files of (partition, path) pairs; a file without rows is a tombstone that keeps its partition's epoch.

    Raises PermanentError for a null in a required column or a row outside its partition or bucket.
    """

    def read(pair: tuple[str, str]) -> "DataFile":
        return retry_transient(lambda: _data_file(io, metadata, *pair), pair[1])

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(with_retries_of_here(read), paths))


def _data_file(io: "FileIO", metadata: "TableMetadata", partition: str, path: str) -> "DataFile":
    import pyarrow.parquet as pq
    from pyiceberg.io.pyarrow import (
        _check_pyarrow_schema_compatible,
        compute_statistics_plan,
        data_file_statistics_from_parquet_metadata,
        parquet_path_to_id_mapping,
    )
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat

    source = io.new_input(path)
    with source.open() as stream:
        footer = pq.read_metadata(stream)
    schema = metadata.schema()
    _check_pyarrow_schema_compatible(
        _all_optional(schema), footer.schema.to_arrow_schema(), format_version=metadata.format_version
    )
    statistics = data_file_statistics_from_parquet_metadata(
        footer, compute_statistics_plan(schema, metadata.properties), parquet_path_to_id_mapping(schema)
    )
    details = statistics.to_serialized_dict()
    field, bucket = parse_bucket(path) or (None, None)
    spec = spec_of_file(metadata, field) if footer.num_rows else metadata.spec()
    bucket = bucket if footer.num_rows else 0  # any: without rows no reader looks for one
    if footer.num_rows == 0:
        details = {
            **{k: {} for k in details if k != "split_offsets"},
            "split_offsets": None,
            "record_count": 0,
        }
    else:
        nulls = [f.name for f in schema.fields if f.required and statistics.null_value_counts.get(f.field_id, -1) != 0]
        if nulls:
            raise PermanentError(f"Partition {partition}: nulls in required columns {', '.join(nulls)} of {path}.")
        _prove_partition(statistics, metadata, spec, partition, path)
        _prove_bucket(io, metadata, spec, partition, bucket, path)
    found = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=partition_record(spec, partition, bucket),
        file_size_in_bytes=len(source),
        sort_order_id=None,
        equality_ids=None,
        key_metadata=None,
        **details,
    )
    found.spec_id = spec.spec_id
    return found


def _prove_partition(
    statistics: "DataFileStatistics", metadata: "TableMetadata", spec: "PartitionSpec", partition: str, path: str
) -> None:
    """Every row lies in the partition that the path names (column bounds decide)."""
    from pyiceberg.partitioning import PartitionSpec

    if partition == WHOLE:
        return
    if (period := period_field(spec)) is None:
        _prove_bounds(statistics, metadata, partition, path)
        return
    try:
        found = statistics.partition(PartitionSpec(period), metadata.schema())[0]
    except ValueError as e:
        raise PermanentError(f"Partition {partition}: {path} holds rows of several partitions.") from e
    if found != partition_value(spec, partition):
        raise PermanentError(f"Partition {partition}: {path} holds rows of another partition ({found}).")


def _prove_bucket(
    io: "FileIO", metadata: "TableMetadata", spec: "PartitionSpec", partition: str, bucket: int | None, path: str
) -> None:
    """Every row lies in the bucket that the path names: readers that look for another don't open the file."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if (buckets := Bucketing.by(metadata.schema(), spec)) is None:
        return
    expected = pa.scalar(bucket, pa.int32())
    with io.new_input(path).open() as stream:
        for batch in pq.ParquetFile(stream).iter_batches(PROVED_ROWS, columns=[buckets.column]):
            found = buckets.bucket_of(batch.column(0))
            wrong = found.is_valid() if bucket is None else pc.fill_null(pc.not_equal(found, expected), True)
            if pc.any(wrong).as_py():
                other = found.filter(wrong)[0]
                raise PermanentError(
                    f"Partition {partition}: {path} holds rows of bucket {other} of {buckets.column}. Nothing is "
                    "published: readers would not find them. This is a defect of the platform; please report it."
                )


def _prove_bounds(statistics: "DataFileStatistics", metadata: "TableMetadata", partition: str, path: str) -> None:
    """As Iceberg's spec would, where it has no field for this grain: by the first and last day of the rows."""
    field = metadata.schema().find_field(metadata.properties[BY_KEY])
    column = statistics.column_aggregates.get(field.field_id)
    first, last = (None, None) if column is None else (column.current_min, column.current_max)
    start, end = bounds(partition)
    if first is None or last is None or not start <= _day(first) <= _day(last) < end:
        told = f"{field.name} from {first} to {last}"
        raise PermanentError(f"Partition {partition}: {path} holds rows of another partition ({told}).")


def _day(value: date | datetime) -> date:
    """Of UTC, for a point in time."""
    return value.astimezone(UTC).date() if isinstance(value, datetime) else value


def _all_optional(schema: "Schema") -> "Schema":
    from pyiceberg.schema import Schema

    return Schema(*[f.model_copy(update={"required": False}) for f in schema.fields])
