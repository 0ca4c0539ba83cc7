"""How a table's files are placed, as Iceberg's partition spec says it: by period, and by bucket of a column."""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from etl_resources.calendar import WHOLE, bounds
from etl_resources.contract import Contract
from etl_resources.errors import PermanentError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.typedef import Record

GRAIN_KEY, BY_KEY = "etl.partition-grain", "etl.partition-by"
"""Properties of a table with partitions: their grain, and the column that places a row."""
PARTITION_FIELDS = {"day": "partition_day", "month": "partition_month", "fiscal_period": "partition_month"}
"""Kinds of periods that a transform of Iceberg gives. Files of the others are told apart by their path and bounds."""
_EPOCH = date(1970, 1, 1)
_PARTITION_FIELD_ID = 1000


@dataclass(frozen=True)
class Bucketing:
    """How the files of each partition of a table are split: by Iceberg's hash of a column."""

    column: str
    count: int
    field: str
    """Of the partition spec: begins the folder of a bucket, so that a path tells by which spec its file was written."""

    @classmethod
    def of(cls, table: "Table") -> "Bucketing | None":
        """As new files of a table are split."""
        return cls.by(table.schema(), table.spec())

    @classmethod
    def by(cls, schema: "Schema", spec: "PartitionSpec") -> "Bucketing | None":
        """As a spec splits files, by the table's column names of today."""
        from pyiceberg.transforms import BucketTransform

        for field in spec.fields:
            if isinstance(field.transform, BucketTransform):
                column = schema.find_column_name(field.source_id) or ""
                return cls(column, field.transform.num_buckets, field.name)
        return None

    def bucket_of(self, values: "pa.Array") -> "pa.Array":
        """The bucket of each value of the column, null for null, by the code of Iceberg itself."""
        from pyiceberg.transforms import BucketTransform
        from pyiceberg.types import StringType

        found: pa.Array = BucketTransform(self.count).pyarrow_transform(StringType())(values)  # Arrow tells the type
        return found


def partition_spec(schema: "Schema", contract: Contract) -> "PartitionSpec":
    """Hidden partitioning by the contract's partition column, where Iceberg has a transform for its grain, and by its
    buckets.

    Weeks and quarters have none: their tables have no field of the period, and readers prune by the bounds of each
    file's column, which holds one period. So has a table without partitions.
    """
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.transforms import BucketTransform, DayTransform, MonthTransform

    fields: list[PartitionField] = []
    name = PARTITION_FIELDS.get(contract.grain.every)
    if contract.partition_column is not None and name is not None:
        source = schema.find_field(contract.partition_column).field_id
        transform = DayTransform if contract.grain.every == "day" else MonthTransform
        fields.append(PartitionField(source, _PARTITION_FIELD_ID, transform(), name))
    if contract.buckets is not None:
        by = contract.buckets
        source, number = schema.find_field(by.of).field_id, _PARTITION_FIELD_ID + len(fields)
        fields.append(PartitionField(source, number, BucketTransform(by.count), by.field))
    return PartitionSpec(*fields)


def partition_properties(contract: Contract) -> dict[str, str]:
    """What a table keeps of its partitions, beside Iceberg's own spec."""
    if contract.partition_column is None:
        return {}
    return {GRAIN_KEY: contract.grain.identity, BY_KEY: contract.partition_column}


def kept_grain(table: "Table") -> str:
    """Identity of the grain that a table was made with; WHOLE without partitions."""
    made_before = "month" if period_field(table.spec()) else WHOLE
    return table.properties.get(GRAIN_KEY, made_before)


def period_field(spec: "PartitionSpec") -> "PartitionField | None":
    """The field of the period; None where Iceberg has none for it."""
    return next((f for f in spec.fields if f.name in PARTITION_FIELDS.values()), None)


def partition_value(spec: "PartitionSpec", partition: str) -> int | None:
    """Iceberg's value of a partition key: days or months since 1970; None where the spec has no field."""
    field = period_field(spec)
    if field is None:
        return None
    first = bounds(partition)[0]
    if str(field.transform) == "day":
        return (first - _EPOCH).days
    return (first.year - 1970) * 12 + first.month - 1


def partition_record(spec: "PartitionSpec", partition: str, bucket: int | None) -> "Record":
    """Iceberg's values of a file. bucket: None for rows without a value of the column."""
    from pyiceberg.typedef import Record

    period = period_field(spec)
    return Record(*(partition_value(spec, partition) if field is period else bucket for field in spec.fields))


def spec_of_file(metadata: "TableMetadata", bucket_field: str | None) -> "PartitionSpec":
    """The spec by which a file was written: of today, or an earlier one if the table's was changed meanwhile.

    bucket_field: of its path; None without. Raises PermanentError when the table never had such a spec.
    """
    schema, today = metadata.schema(), metadata.spec()
    others = sorted(metadata.specs().values(), key=lambda s: s.spec_id, reverse=True)
    for spec in (today, *others):
        found = Bucketing.by(schema, spec)
        if bucket_field == (found.field if found else None):
            return spec
    raise PermanentError(
        f"A file {f'of buckets {bucket_field}' if bucket_field else 'without buckets'} was written, which the table "
        "never had. Run again."
    )


def follow_buckets(table: "Table", contract: Contract) -> "Table":
    """The table, whose new files are split as the contract says; those that there are stay as they are.

    Raises CommitFailedException when the table changed meanwhile.
    """
    from pyiceberg.transforms import BucketTransform

    wanted, now = contract.buckets, Bucketing.of(table)
    if (wanted and (wanted.of, wanted.count)) == (now and (now.column, now.count)):
        return table
    with table.update_spec() as update:
        if now is not None:
            update.remove_field(now.field)
        if wanted is not None:
            update.add_field(wanted.of, BucketTransform(wanted.count), wanted.field)
    return table.refresh()
