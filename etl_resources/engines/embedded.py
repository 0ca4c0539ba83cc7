"""The embedded engine: DuckDB with S3 and Postgres extensions from wheels, bounded in threads and memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from etl_resources.engines.spill import spill_folder
from etl_resources.identifiers import literal
from etl_resources.settings import Settings

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MAX_UPLOAD = "50GB"
"""Largest file of one upload; DuckDB's default of 800 GB reserves 80 MB for each part and runs out of memory."""

_checked: set[str] = set()
"""Extensions whose signature this process has checked: it takes as long as a month's transform, at each load."""


def connect(
    settings: Settings,
    *,
    threads: int | None = None,
    memory_mb: int | None = None,
    extensions: tuple[str, ...] = (),
) -> "duckdb.DuckDBPyConnection":
    """An in-memory DuckDB that reads and writes the platform's S3; beyond memory_mb it spills to disk.

    Raises SettingsError when S3 is not configured.
    """
    from duckdb_extensions import import_extension

    wanted = ("httpfs", *extensions)
    connection = _open(
        threads=threads or settings.engine_threads,
        memory_limit=f"{memory_mb or settings.engine_memory_mb}MB",
        temp_directory=str(spill_folder(Path(settings.home))),
        allow_unsigned_extensions=_checked.issuperset(wanted),
    )
    for name in wanted:
        import_extension(name, con=connection)
        connection.execute(f"load {name}")
    _checked.update(wanted)
    connection.execute("set allow_unsigned_extensions = false")
    connection.execute(f"set global s3_uploader_max_filesize = '{MAX_UPLOAD}'")
    connection.execute(f"set global http_timeout = {settings.s3_timeout_s}")
    _add_s3_secret(connection, settings)
    return connection


def connect_offline() -> "duckdb.DuckDBPyConnection":
    """An in-memory DuckDB of one thread that is set as the platform's, without its S3."""
    return _open(threads=1)


def _open(**config: str | int) -> "duckdb.DuckDBPyConnection":
    import duckdb

    same: dict[str, str | int | bool] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "preserve_insertion_order": False,
    }
    connection = duckdb.connect(config={**same, **config})
    connection.execute("set enable_progress_bar = false")
    connection.execute("set global timezone = 'UTC'")
    return connection


def stream(engine: "duckdb.DuckDBPyConnection", statement: str, batch_rows: int) -> "Iterator[pa.RecordBatch]":
    """The rows of a query, batch by batch. Raises duckdb.Error, also for what fails while rows are already coming.

    Arrow's reader tells the latter as OSError, which would be taken for one of S3; and as "Interrupted" where another
    thread failed first, whose reason is lost: that is tried again.
    """
    import duckdb

    reader = engine.execute(statement).to_arrow_reader(batch_rows)
    try:
        yield from reader
    except OSError as e:
        kinds = {
            "IO": duckdb.IOException,
            "INTERRUPT": duckdb.IOException,
            "HTTP": duckdb.HTTPException,
            "Out of Memory": duckdb.OutOfMemoryException,
        }
        raise kinds.get(str(e).partition(" Error: ")[0], duckdb.Error)(str(e)) from e


def _add_s3_secret(connection: "duckdb.DuckDBPyConnection", settings: Settings) -> None:
    endpoint, key, secret = settings.require_s3()
    address = urlsplit(endpoint)
    connection.execute(
        f"create secret platform_s3 (type s3, provider config, key_id {literal(key)}, secret {literal(secret)}, "
        f"endpoint {literal(address.netloc)}, url_style 'path', use_ssl {str(address.scheme == 'https').lower()}, "
        f"region {literal(settings.s3_region)})"
    )


def attach_postgres(engine: "duckdb.DuckDBPyConnection", dsn: str, alias: str) -> None:
    """Attach a database read-only; its password goes into a secret of the engine, not into a statement's text."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    parts = {k: str(v) for k, v in conninfo_to_dict(dsn).items() if v is not None}
    secret = {k: parts.pop(k) for k in ("host", "port", "user", "password", "dbname") if k in parts}
    fields = ", ".join(f"{'database' if k == 'dbname' else k} {literal(v)}" for k, v in secret.items())
    engine.execute(f"create or replace secret {alias}_secret (type postgres, {fields})")
    engine.execute(
        f"attach {literal(make_conninfo('', **parts))} as {alias} (type postgres, secret {alias}_secret, read_only)"
    )
