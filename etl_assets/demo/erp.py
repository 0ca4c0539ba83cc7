"""Creating the demo's ERP: built in a staging schema, published by one rename, so never half made.

The guard is one transaction, open from before the first row until the rename. It excludes a second builder,
and its early start keeps watermarks, which never pass an open transaction, below the stamps of the new rows.
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl_assets.demo import tpch
from etl_assets.demo.erp_load import ErpLoader
from etl_assets.demo.erp_server import connect, server_errors, server_name
from etl_assets.demo.erp_tables import AFTER_LOAD, ERP_TABLES, STAMP_FUNCTION, STAMPED_TABLES, stamp_trigger
from etl_resources.errors import PermanentError

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

SCHEMA = "erp"
STAGING_SCHEMA = "erp_building"
READER_ROLE = "erp_reader"
MARK = "Demo ERP of data-pipeline"
"""Schema comment of what create_erp made. A schema without it belongs to somebody else."""
MIN_SCALE = 0.001
"""6 thousand order lines: below it months and nations without any order abound."""
LOCK_WAIT_S = 300
"""Longest wait for another process that builds the same ERP, and for readers of an ERP to be replaced."""
_LOCK_KEY = 0x4552505F44454D4F  # "ERP_DEMO"


@dataclass(frozen=True)
class ErpSummary:
    """What create_erp made or found. `rows` by table name, as they are now; `seconds` of this call."""

    scale: float
    created: bool
    rows: dict[str, int]
    seconds: float


def create_erp(
    admin_dsn: str,
    *,
    scale: float,
    work_dir: Path,
    progress: Callable[[str], None],
    recreate: bool = False,
) -> ErpSummary:
    """Make schema `erp` in the database of `admin_dsn` from TPC-H at `scale` (1 is 6 million order lines).

    A complete ERP of the same scale is left as it is, with the edits made in it; `recreate` replaces it,
    whatever its scale. `work_dir` holds the generator's files (300 MB at scale 1) until the call returns.

    Raises SettingsError when the server can't be reached or refuses the user, PermanentError when another
    scale or a schema that create_erp didn't make is there or the disk is full, TransientError when the
    connection is lost or another builder takes longer than LOCK_WAIT_S.
    """
    if not MIN_SCALE <= scale < float("inf"):
        raise PermanentError(f"Scale {scale} is not a TPC-H scale. Use {MIN_SCALE} or more, such as 0.1 or 1.")
    started = time.monotonic()
    with _guard(admin_dsn) as guard:
        existing = _existing_scale(guard, admin_dsn)
        created = recreate or existing is None
        if created:
            _refuse_foreign_staging(guard, admin_dsn)
            _build_and_publish(guard, admin_dsn, scale, work_dir, progress)
        elif existing != Decimal(str(scale)):
            raise PermanentError(
                f"The ERP at {server_name(admin_dsn)} has scale {existing}, not {scale:g}. "
                f"Use scale {existing}, or --recreate-source to drop it and build scale {scale:g}."
            )
        _grant_to_reader(guard)
        rows = _count_rows(guard, SCHEMA)
        guard.commit()
    return ErpSummary(scale, created, rows, time.monotonic() - started)


@contextmanager
def _guard(admin_dsn: str) -> "Iterator[Connection]":
    """The transaction that publishes: exclusive per database, durable, rolled back by any failure."""
    guard = connect(admin_dsn, autocommit=False)
    with closing(guard), server_errors(admin_dsn):
        guard.execute("SET LOCAL synchronous_commit = on")
        guard.execute("SET LOCAL transaction_isolation = 'read committed'")  # sees what the builder commits
        guard.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        guard.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'")
        guard.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK_KEY])
        yield guard


def _existing_scale(guard: "Connection", admin_dsn: str) -> Decimal | None:
    if not _is_ours(guard, SCHEMA, admin_dsn):
        return None
    found = guard.execute(f"SELECT scale FROM {SCHEMA}.demo_info").fetchone()
    if found is None:
        raise PermanentError(
            f"{SCHEMA}.demo_info at {server_name(admin_dsn)} is empty, so the ERP's scale is unknown. "
            f"Drop schema {SCHEMA} by hand, then run again."
        )
    return Decimal(found[0])


def _refuse_foreign_staging(guard: "Connection", admin_dsn: str) -> None:
    _is_ours(guard, STAGING_SCHEMA, admin_dsn)


def _is_ours(guard: "Connection", schema: str, admin_dsn: str) -> bool:
    """True when create_erp made `schema`, False when there is none. PermanentError for anybody else's."""
    found = guard.execute(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s", [schema]
    ).fetchone()
    if found is not None and not (found[0] or "").startswith(MARK):
        raise PermanentError(
            f"Schema {schema} at {server_name(admin_dsn)} was not made by data-pipeline: it is left alone. "
            "Use an empty database for the demo, or drop that schema by hand."
        )
    return found is not None


def _build_and_publish(
    guard: "Connection", admin_dsn: str, scale: float, work_dir: Path, progress: Callable[[str], None]
) -> None:
    with closing(connect(admin_dsn, autocommit=True)) as builder:
        try:
            _create_staging(builder)
            with _generated(admin_dsn, scale, work_dir, progress) as folder:
                expected = _load(builder, admin_dsn, folder, progress)
            _finish_staging(builder, expected)
        except BaseException:
            _drop_staging_quietly(builder)
            raise
    _publish(guard, scale)
    progress(f"published schema {SCHEMA} at scale {scale:g}")


def _create_staging(builder: "Connection") -> None:
    # a killed builder's statement may still run in the server and hold locks until it notices
    builder.execute("SET client_connection_check_interval = '1s'")
    builder.execute(f"SET lock_timeout = '{LOCK_WAIT_S}s'")
    builder.execute(f"DROP SCHEMA IF EXISTS {STAGING_SCHEMA} CASCADE")
    with builder.transaction():
        builder.execute(f"CREATE SCHEMA {STAGING_SCHEMA}")
        builder.execute(f"COMMENT ON SCHEMA {STAGING_SCHEMA} IS '{MARK}: being built, not complete'")
        builder.execute(f"SET search_path TO {STAGING_SCHEMA}")
        for table in ERP_TABLES:
            builder.execute(table.create_sql)


@contextmanager
def _generated(admin_dsn: str, scale: float, work_dir: Path, progress: Callable[[str], None]) -> Iterator[Path]:
    """Folder with TPC-H's files. Its name is the database's, so a rerun clears what a killed run left."""
    digest = hashlib.sha256(server_name(admin_dsn).encode()).hexdigest()[:12]
    folder = work_dir / f"erp-source-{digest}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _make_folder(folder)
        started = time.monotonic()
        tpch.generate(scale, folder)
        progress(f"generated TPC-H at scale {scale:g} in {time.monotonic() - started:.1f} s")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except OSError as e:
        raise PermanentError(
            f"Folder {folder} for TPC-H's files can't be made: {e.strerror}. Choose another work folder."
        ) from e


def _load(builder: "Connection", admin_dsn: str, folder: Path, progress: Callable[[str], None]) -> dict[str, int]:
    """Copy every table, and index each one while the next is copied; rows expected by table."""
    expected: dict[str, int] = {}
    indexing: list[Future[None]] = []
    loader = ErpLoader(admin_dsn, schema=STAGING_SCHEMA, folder=folder)
    with closing(loader), ThreadPoolExecutor(max_workers=1) as pool:
        for table in ERP_TABLES:
            started = time.monotonic()
            expected[table.name] = loader.load(table)
            progress(f"loaded {table.name}: {expected[table.name]:,} rows in {time.monotonic() - started:.1f} s")
            indexing.append(pool.submit(_index, builder, table.name))
        for done in indexing:
            done.result()
    return expected


def _index(builder: "Connection", table: str) -> None:
    for statement in AFTER_LOAD[table]:
        builder.execute(statement)
    builder.execute(f"ANALYZE {table}")


def _finish_staging(builder: "Connection", expected: dict[str, int]) -> None:
    builder.execute(STAMP_FUNCTION)
    for table in STAMPED_TABLES:
        builder.execute(stamp_trigger(table))
    loaded = _count_rows(builder, STAGING_SCHEMA)
    if loaded != expected:
        raise PermanentError(f"The ERP has rows {loaded}, TPC-H has {expected}. Nothing was published: run again.")


def _publish(guard: "Connection", scale: float) -> None:
    guard.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    guard.execute(f"ALTER SCHEMA {STAGING_SCHEMA} RENAME TO {SCHEMA}")
    guard.execute(f"COMMENT ON SCHEMA {SCHEMA} IS '{MARK}, made from TPC-H. Edit its rows as you like.'")
    guard.execute(f"CREATE TABLE {SCHEMA}.demo_info (scale numeric NOT NULL, created_at timestamptz NOT NULL)")
    guard.execute(f"INSERT INTO {SCHEMA}.demo_info VALUES (%s, clock_timestamp())", [Decimal(str(scale))])


def _drop_staging_quietly(builder: "Connection") -> None:
    """Give the space back after a failure; the next run drops what a lost connection leaves."""
    import psycopg

    with suppress(psycopg.Error):
        builder.execute(f"DROP SCHEMA IF EXISTS {STAGING_SCHEMA} CASCADE")


def _grant_to_reader(guard: "Connection") -> None:
    if guard.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [READER_ROLE]).fetchone():
        guard.execute(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {READER_ROLE}")
        guard.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {SCHEMA} TO {READER_ROLE}")


def _count_rows(connection: "Connection", schema: str) -> dict[str, int]:
    counts = {}
    for table in ERP_TABLES:
        found = connection.execute(f"SELECT count(*) FROM {schema}.{table.name}").fetchone()
        assert found is not None  # noqa: S101  (an aggregate always yields a row)
        counts[table.name] = int(found[0])
    return counts
