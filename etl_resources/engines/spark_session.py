"""The Spark session of a run: started when the first table needs it, one for the whole process.

Its catalog is the one that PyIceberg writes, under the same name, read-only here: what Spark reads is pinned to a
snapshot, and what it writes are files that the platform's own committer publishes.
"""

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from etl_resources import failpoints
from etl_resources.engines.spark_conf import GIVEN, SparkConfiguration, configuration, is_cluster
from etl_resources.engines.spark_executors import Executors, reach
from etl_resources.engines.spark_jars import java_command, spark_jars
from etl_resources.errors import PermanentError, RestartError
from etl_resources.manifest_sizes import SparkSize
from etl_resources.manifest_spark import SparkCluster
from etl_resources.progress import report
from etl_resources.settings import Settings
from etl_resources.tables.catalog import CATALOG_NAME, CATALOG_SCHEMA

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ARROW_ROWS = 2_048
"""Rows of a batch that a task hands to Python, as many as the embedded engine has in hand: whatever their size."""
_PASSED_ON = ("sslmode", "sslrootcert", "sslcert", "sslkey")
"""Parameters of a DSN that mean the same to the JDBC driver."""
MEANING = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",  # an overflow ends the run, where it would be a null or a wrapped number
    "spark.sql.ansi.doubleQuotedIdentifiers": "true",  # as DuckDB and Postgres quote
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",  # else a product of decimals is rounded silently
    "spark.sql.legacy.decimal.retainFractionDigitsOnTruncate": "true",  # else 100.51 is 100.5::decimal(38,1)
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",  # days before 1582 are as they are written
    "spark.sql.iceberg.aggregate-push-down.enabled": "false",  # rows are counted, not believed
    "spark.sql.execution.arrow.maxRecordsPerBatch": str(ARROW_ROWS),
    "spark.sql.adaptive.enabled": "true",
}
"""What results depend on, and how they are handed over: set in each session, whoever started Spark."""
_EFFORT = {
    "spark.sql.codegen.useIdInClassName": "false",  # else a partition's code is compiled anew where its plan differs
    "spark.sql.execution.arrow.maxBytesPerBatch": str(2**31 - 1),  # else each row's batch is measured: a tenth of all
}
"""What results don't depend on, but how long they take."""
BROADCAST_SHARE, BROADCAST_MB_MIN, BROADCAST_MB_MAX = 40, 10, 64
"""A relation of at most this part of the memory goes to all tasks, instead of all rows to the task of their key.

Through the driver, which has 1 GB on a cluster.
"""
_lock = Lock()
_idle: "dict[tuple[str, ...], list[SparkSession]]" = {}
"""Sessions that nobody uses now, by what their catalog is."""
_executors: Executors | None = None
"""Of the running Spark, where it is a cluster's."""


@contextmanager
def spark_session(settings: Settings, size: SparkSize, cluster: SparkCluster | None = None) -> "Iterator[SparkSession]":
    """A session that nobody else uses meanwhile, on the process's one Spark, started on first use in about 6 s.

    Sessions are used again: each has its catalog, with connections of its own. The first size of a run decides memory
    and cores; the parts of a shuffle are each session's own. cluster: as platform.yaml says. Raises PermanentError
    without Java or pyspark, RestartError where a cluster gives no executor, now or later.
    """
    catalog = _catalog(settings)
    with _lock:
        running, executors = _running(settings, size, cluster)
        waiting = _idle.setdefault(tuple(catalog.values()), [])
        own = waiting.pop() if waiting else running.newSession()
    sized = {
        "spark.sql.shuffle.partitions": str(size.shuffle_partitions),
        "spark.sql.autoBroadcastJoinThreshold": f"{_broadcast_mb(size)}m",
    }
    for name, value in {**MEANING, **_EFFORT, **sized, **catalog}.items():  # not at the start: `ps` shows that
        own.conf.set(name, value)
    with executors.watched() if executors is not None else nullcontext():
        yield own
    waiting.append(own)  # but for one that met an error, which may be that of its catalog


def _broadcast_mb(size: SparkSize) -> int:
    return min(BROADCAST_MB_MAX, max(BROADCAST_MB_MIN, size.memory_mb // BROADCAST_SHARE))


def _running(
    settings: Settings, size: SparkSize, cluster: SparkCluster | None
) -> "tuple[SparkSession, Executors | None]":
    global _executors
    if settings.spark_master == GIVEN:
        from pyspark.sql import SparkSession

        return SparkSession.builder.getOrCreate(), None
    java_command()
    if not all(map(importlib.util.find_spec, ("pyspark", "pandas"))):
        raise PermanentError(
            "Spark's packages are not installed. Install them (pip install -c constraints.txt -e '.[spark]'), or give "
            "the dataset a size of the embedded engine."
        )
    from pyspark.sql import SparkSession

    spill = Path(settings.home).resolve() / "spill"
    spill.mkdir(parents=True, exist_ok=True)
    wanted = configuration(settings, size, cluster, spark_jars(settings.maven_repository), spill)
    _forget_ended(wanted.master)
    running = SparkSession._instantiatedSession
    if running is None:
        running = _started(wanted)
        shape = f"{size.executor_cores or 1} cores and {size.memory_mb} MB"
        _executors = Executors(running, settings.spark_wait_s, shape) if is_cluster(settings) else None
    return running, _executors


def _started(wanted: SparkConfiguration) -> "SparkSession":
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

    report("spark", "starting", master=wanted.master)
    reach(wanted.master)
    logging.getLogger("SQLQueryContextLogger").disabled = True  # the error itself says all of it
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    shown = {**wanted.shown, **_failpoints()}
    SparkContext._ensure_initialized(conf=SparkConf(loadDefaults=False).setAll([*shown.items()]))
    builder = SparkSession.builder
    for name, value in {**shown, **wanted.secret}.items():
        builder = builder.config(name, value)
    try:
        return builder.getOrCreate()
    except Exception as e:
        if wanted.master.startswith("local"):
            raise
        raise RestartError(
            f"Spark's master {wanted.master} lets no run begin. Its log tells why; for one that asks for a secret set "
            "ETL_SPARK_SECRET to it."
        ) from e


def _failpoints() -> dict[str, str]:
    """What tests armed in this process is armed in executors."""
    armed = os.environ.get(failpoints.SETTING)
    return {f"spark.executorEnv.{failpoints.SETTING}": armed} if armed else {}


def _forget_ended(master: str) -> None:
    """A JVM that was killed takes its session along, a master that gives a run up its context: pyspark would go on
    talking to them. Of another master there is no use any more."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    gateway, context = SparkContext._gateway, SparkContext._active_spark_context
    process = getattr(gateway, "proc", None)
    if process is not None and process.poll() is not None:
        SparkContext._active_spark_context = None
        SparkContext._gateway = SparkContext._jvm = None
    elif context is not None and (context._jsc.sc().isStopped() or context.master != master):
        context.stop()
    else:
        return
    _idle.clear()
    SparkSession._instantiatedSession = None


def _catalog(settings: Settings) -> dict[str, str]:
    """Addresses and secrets."""
    endpoint, key, secret = settings.require_s3()
    address, user, password = jdbc_address(settings.require_postgres())
    prefix = f"spark.sql.catalog.{CATALOG_NAME}"
    options = {
        "type": "jdbc",
        "uri": address,
        "jdbc.user": user,
        "jdbc.password": password,
        "jdbc.schema-version": "V1",
        "init-catalog-tables": "false",
        "warehouse": "s3://unused",  # tables know where they are
        "cache-enabled": "false",
        "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        "s3.endpoint": endpoint,
        "s3.path-style-access": "true",
        "s3.access-key-id": key,
        "s3.secret-access-key": secret,
        "client.region": settings.s3_region,
    }
    found = {f"{prefix}.{name}": value for name, value in options.items() if value}
    return {prefix: "org.apache.iceberg.spark.SparkCatalog", **found}


def jdbc_address(dsn: str) -> tuple[str, str, str]:
    """(JDBC address, user, password) of a DSN of libpq; the address holds no secret."""
    from psycopg.conninfo import conninfo_to_dict

    parts = {k: str(v) for k, v in conninfo_to_dict(dsn).items() if v is not None}
    options = {"currentSchema": CATALOG_SCHEMA, **{k: parts[k] for k in _PASSED_ON if k in parts}}
    place = f"{parts.get('host', 'localhost')}:{parts.get('port', '5432')}/{parts.get('dbname', '')}"
    return f"jdbc:postgresql://{place}?{urlencode(options)}", parts.get("user", ""), parts.get("password", "")
