"""Names and paths, computed from prefix, layer and dataset; never configured (G1).

silver, gdp and kpi share the gold folder and database of the convention; a dataset's tables there are told apart
by the layer in front of the name where the dataset's own name doesn't begin with it.
"""

import re
from urllib.parse import quote, unquote

LAYERS = ("bronze", "silver", "gdp", "kpi")
BRANCH_PREFIX = "wap-"
META_RUN_ID = "meta_run_id"
"""Column that bronze adds: the run that delivered the row (G2). It is audit data, outside the content hash."""
PARQUET = "format parquet, compression zstd, compression_level 1"
"""Options of DuckDB's COPY. By its default level files are no smaller (the codec sees dictionaries and packed numbers),
and take a tenth longer to write."""

_RAW_FILE = re.compile(r"/run_id=([^/]+)/([0-9a-f]{16})/(.+)$")
_RAW_NOTE = re.compile(r"/run_id=([^/]+)/(delivery|page)-[0-9a-f]{16}\.json$")
_BUCKET = re.compile(r"/epoch=[^/]+/([a-z][a-z0-9_]*_bucket_\d+)=(\d+|null)/[^/]+$")
_STAGED_FILE = re.compile(r"/partition=([0-9A-Za-z-]+)/epoch=(\d+)-([0-9a-f]+)/")


def bucket_name(resource_prefix: str, account: str) -> str:
    """Bucket of the platform, e.g. pp-dw-123456789."""
    return f"{resource_prefix}-{account}"


def resource_name(resource_prefix: str, layer: str, dataset: str) -> str:
    """AWS resource (job, role) of a dataset's layer, e.g. pp-dw-bronze-sales-orders."""
    return f"{resource_prefix}-{layer}-{dataset.replace('_', '-')}"


def table_name(layer: str, dataset: str) -> str:
    """Table of a dataset's layer inside its database: silver_sales_orders, gdp_sales."""
    if layer == "bronze" or dataset.startswith(f"{layer}_"):
        return dataset
    return f"{layer}_{dataset}"


def database_name(database_prefix: str, layer: str) -> str:
    """Catalog database (Iceberg namespace) of a layer: pp_dw_bronze or pp_dw_gold."""
    return f"{database_prefix}_{_zone(layer)}"


def glue_job_name(resource_prefix: str) -> str:
    """The job in AWS Glue that computes tables, of every dataset: pp-dw-spark."""
    return f"{resource_prefix}-spark"


def glue_code_folder(bucket: str) -> str:
    """Folder of what that job runs."""
    return f"s3://{bucket}/etl/spark/glue"


def table_location(bucket: str, layer: str, dataset: str) -> str:
    """Folder of a table: s3://{bucket}/gold/gdp_sales."""
    return f"s3://{bucket}/{_zone(layer)}/{table_name(layer, dataset)}"


def staged_folder(location: str, partition: str, epoch: int, token: str) -> str:
    """Folder of one attempt at one partition; readers of the table learn the epoch from it.

    token: the run token; for a capture, whose token is known only after it is hashed, the attempt's own digits.
    """
    return f"{location}/data/partition={partition}/{epoch_folder(epoch, token)}"


def epoch_folder(epoch: int, token: str) -> str:
    """Name of the innermost folder of an attempt; token as in `staged_folder`."""
    return f"epoch={epoch}-{token[:16]}"


def parse_staged_path(path: str) -> tuple[str, int, str]:
    """(partition, epoch, first 16 digits of the token or, in bronze, of the attempt) in a data file's path.

    Raises ValueError when the path is not of this form: somebody else wrote that file.
    """
    found = _STAGED_FILE.search(path)
    if found is None:
        raise ValueError(f"{path} does not carry partition, epoch and token: it was not written by this platform.")
    return found[1], int(found[2]), found[3]


def bucket_folder(field: str, bucket: int | None) -> str:
    """Folder below that of an attempt for the files of one bucket; field: of the table's partition spec."""
    return f"{field}={'null' if bucket is None else bucket}"


def parse_bucket(path: str) -> tuple[str, int | None] | None:
    """(field, bucket) of a data file's path; None for a file whose partition isn't split."""
    found = _BUCKET.search(path)
    return (found[1], None if found[2] == "null" else int(found[2])) if found else None


def branch_name(attempt: str) -> str:
    """Branch of the table on which an attempt stages."""
    return f"{BRANCH_PREFIX}{attempt}"


def raw_location(bucket: str) -> str:
    """Folder of original bytes as they were delivered."""
    return f"s3://{bucket}/raw"


def raw_folder(dataset: str, run_id: str) -> str:
    """Folder below the raw location that a run lands a dataset in: customers/run_id=…"""
    return f"{dataset}/run_id={run_id}"


def raw_name(dataset: str, run_id: str, marker: str, name: str) -> str:
    """Path below the raw location of an object; marker: 16 hex digits of what identifies its content."""
    return f"{raw_folder(dataset, run_id)}/{marker}/{quote(name, safe='/')}"


def parse_raw_path(path: str) -> tuple[str, str, str] | None:
    """(run id, marker, name) of an original object's path; None for anything else in the raw zone."""
    found = _RAW_FILE.search(path)
    return (found[1], found[2], unquote(found[3])) if found else None


def raw_note(dataset: str, run_id: str, kind: str, marker: str) -> str:
    """Path below the raw location of a note: which objects a `delivery` has, or how a `page` was asked for."""
    return f"{raw_folder(dataset, run_id)}/{kind}-{marker}.json"


def parse_raw_note(path: str) -> tuple[str, str] | None:
    """(run id, kind) of a raw_note's path; None for anything else in the raw zone."""
    found = _RAW_NOTE.search(path)
    return (found[1], found[2]) if found else None


def raw_note_kind(path: str) -> str:
    """Kind of a raw_note, by its path; empty for anything else in the raw zone."""
    note = parse_raw_note(path)
    return note[1] if note else ""


def _zone(layer: str) -> str:
    if layer not in LAYERS:
        raise ValueError(f"Layer {layer!r} is not one of {', '.join(LAYERS)}.")
    return "bronze" if layer == "bronze" else "gold"
