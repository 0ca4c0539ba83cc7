"""Imported once by the server that forks the runs: everything that a run would import, so that a run starts at once.

Connects nowhere and reads no setting: each run has its own.
"""

import importlib

MODULES = (
    "boto3",
    "dagster._daemon",
    "dagster_postgres",
    "duckdb",
    "duckdb_extensions",
    "etl_assets.graph.capture_step",
    "etl_assets.graph.serving_step",
    "etl_assets.graph.table_step",
    "fsspec.implementations.local",
    "psycopg.types.json",
    "pyarrow.dataset",
    "pyarrow.fs",
    "pyarrow.parquet",
    "pyiceberg.avro.file",
    "pyiceberg.catalog.sql",
    "pyiceberg.expressions.visitors",
    "pyiceberg.io.pyarrow",
    "pyiceberg.table.update.snapshot",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlglot",
    "tests.lake",
)
for name in MODULES:
    importlib.import_module(name)

from etl_assets.definitions import build_definitions  # noqa: E402  (after what it would import)
from etl_assets.project import load_project  # noqa: E402
from tests.lake import instance  # noqa: E402
from tests.projects import SALES  # noqa: E402

build_definitions(load_project(SALES)).resolve_job_def("all_layers")
instance()
