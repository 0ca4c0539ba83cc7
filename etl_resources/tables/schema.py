"""A contract as Iceberg schema, DuckDB types and Parquet field ids."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from etl_resources.contract import Contract
from etl_resources.conventions import META_RUN_ID
from etl_resources.identifiers import quote
from etl_resources.manifest_columns import DECIMAL
from etl_resources.schema_drift import promotes

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.schema import Schema
    from pyiceberg.types import NestedField, PrimitiveType

_DUCKDB_TYPES = {
    "bigint": "BIGINT",
    "int": "INTEGER",
    "string": "VARCHAR",
    "date": "DATE",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
    "boolean": "BOOLEAN",
}
_POSTGRES_TYPES = {
    "bigint": "bigint",
    "int": "integer",
    "string": "text",
    "date": "date",
    "timestamptz": "timestamp with time zone",
    "boolean": "boolean",
}


def duckdb_type(column_type: str) -> str:
    """DuckDB's name of a manifest type, as DESCRIBE prints it."""
    return _DUCKDB_TYPES.get(column_type, column_type.upper())


def arrow_type(column_type: str) -> "pa.DataType":
    """Arrow's type of a manifest type."""
    import pyarrow as pa

    simple: dict[str, pa.DataType] = {
        "bigint": pa.int64(), "int": pa.int32(), "string": pa.string(), "date": pa.date32(),
        "timestamptz": pa.timestamp("us", tz="UTC"), "boolean": pa.bool_(),
    }  # fmt: skip
    decimal = DECIMAL.match(column_type)
    return pa.decimal128(int(decimal[1]), int(decimal[2])) if decimal else simple[column_type]


def postgres_type(column_type: str) -> str:
    """Postgres' name of a manifest type, as format_type prints it."""
    return _POSTGRES_TYPES.get(column_type) or column_type.replace("decimal", "numeric")


def iceberg_schema(contract: Contract, *, with_run_id: bool) -> "Schema":
    """Iceberg schema: contract columns in order, NOT NULL as required, docs from descriptions."""
    from pyiceberg.schema import Schema
    from pyiceberg.types import NestedField, StringType

    fields = [
        NestedField(i, c.name, _iceberg_type(c.type), required=not c.nullable, doc=c.description)
        for i, c in enumerate(contract.columns, start=1)
    ]
    if with_run_id:
        fields.append(NestedField(len(fields) + 1, META_RUN_ID, StringType(), required=True, doc="Delivering run"))
    return Schema(*fields)


def field_ids(schema: "Schema", columns: Collection[str]) -> str:
    """FIELD_IDS option of DuckDB's COPY of these columns; by the table's own schema: create_table reassigns ids."""
    return "{" + ", ".join(f"{quote(f.name)}: {f.field_id}" for f in schema.fields if f.name in columns) + "}"


def field_numbers(schema: "Schema", columns: Sequence[str]) -> dict[str, int]:
    """Column → field id in the table's own schema, in the order of `columns`."""
    return {name: schema.find_field(name).field_id for name in columns}


def read_schema(schema: "Schema", columns: Collection[str] | None = None, contract: Contract | None = None) -> str:
    """SCHEMA option of DuckDB's read_parquet: columns by field id, so that older files read as the current schema.

    contract: a column that was widened beyond it is read as it says; a value that doesn't fit ends the reading.
    """
    declared = {c.name: c.type for c in contract.columns} if contract else {}
    entries = [
        f"{f.field_id}: {{name: '{f.name}', type: '{_read_as(f, declared.get(f.name))}', default_value: NULL}}"
        for f in schema.fields
        if columns is None or f.name in columns
    ]
    return "MAP {" + ", ".join(entries) + "}"


def _read_as(field: "NestedField", declared: str | None) -> str:
    stored = manifest_type_of(field.field_type)
    return duckdb_type(declared if declared is not None and promotes(declared, stored) else stored)


def fields_of(schema: "Schema") -> dict[str, str]:
    """Column → manifest type, of all columns that a table has."""
    return {f.name: manifest_type_of(f.field_type) for f in schema.fields}


def _iceberg_type(column_type: str) -> "PrimitiveType":
    from pyiceberg.types import (
        BooleanType,
        DateType,
        DecimalType,
        IntegerType,
        LongType,
        StringType,
        TimestamptzType,
    )

    decimal = DECIMAL.match(column_type)
    if decimal:
        return DecimalType(int(decimal[1]), int(decimal[2]))
    simple: dict[str, PrimitiveType] = {
        "bigint": LongType(),
        "int": IntegerType(),
        "string": StringType(),
        "date": DateType(),
        "timestamptz": TimestamptzType(),
        "boolean": BooleanType(),
    }
    return simple[column_type]


def manifest_type_of(field_type: object) -> str:
    """Manifest type of an Iceberg type."""
    text = str(field_type).replace(" ", "")
    return "bigint" if text == "long" else text
