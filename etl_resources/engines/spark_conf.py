"""Spark's configuration, of settings, a size and the platform: what each kind of master needs."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from etl_resources.errors import SettingsError
from etl_resources.manifest_sizes import SparkSize
from etl_resources.manifest_spark import SparkCluster
from etl_resources.settings import Settings

LOCAL = "local"
"""Master that means: in this process, with the cores of the size."""
GLUE = "glue"
"""Master that means: by jobs in AWS Glue, each with a Spark of its own; there is no session here."""
GIVEN = "given"
"""Master that means: on the Spark that started this process, as it is configured there."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_START = {
    "spark.app.name": "data-pipeline",
    "spark.sql.catalogImplementation": "in-memory",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "FATAL",  # errors come as exceptions, once
    "spark.speculation": "false",
    "spark.sql.codegen.cache.maxEntries": "5000",  # partitions are alike: with 100 each one's code is compiled anew
    "spark.redaction.regex": "(?i)secret|password|token|access[.-]?key|credential",
}
_HERE = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}


@dataclass(frozen=True)
class SparkConfiguration:
    """With what Spark starts."""

    shown: Mapping[str, str]
    """`ps` shows it."""
    secret: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Told to the JVM when it runs."""

    @property
    def master(self) -> str:
        """As Spark wants it."""
        return self.shown["spark.master"]


def is_cluster(settings: Settings) -> bool:
    """Whether executors are other processes, which may be missing. Raises SettingsError for an unknown master."""
    master = settings.spark_master
    if master == LOCAL or master.startswith("local["):
        return False
    if not master.startswith(("spark://", "k8s://")):
        raise SettingsError(
            f"ETL_SPARK_MASTER is {master!r}: it is local, glue, spark://host:7077 or k8s://https://host:6443."
        )
    return True


def configuration(
    settings: Settings, size: SparkSize, cluster: SparkCluster | None, jars: list[Path], spill: Path
) -> SparkConfiguration:
    """jars: what Spark needs beside its own. spill: folder of this machine. Raises SettingsError."""
    common = {**_START, "spark.local.dir": str(spill), "spark.sql.warehouse.dir": str(spill / "warehouse")}
    if not is_cluster(settings):
        return _local(settings, size, {**common, **_served(jars)})
    cluster = cluster or SparkCluster()
    python = cluster.python or sys.executable
    common |= {**cluster.conf, "spark.pyspark.python": python, "spark.network.crypto.enabled": "true"}
    common |= {"spark.master": settings.spark_master, **_executors(size)}
    if settings.spark_driver_host is not None:
        common["spark.driver.host"] = settings.spark_driver_host
    if settings.spark_master.startswith("k8s://"):
        pods = _pods(size, cluster)  # Spark makes the secret itself, and hands it to the pods
        return SparkConfiguration({**common, **_served(jars), **pods, "spark.authenticate": "true"})
    return _standalone(settings, size, common, jars)


def _local(settings: Settings, size: SparkSize, common: Mapping[str, str]) -> SparkConfiguration:
    master = f"local[{size.cores}]" if settings.spark_master == LOCAL else settings.spark_master
    memory = f"{size.memory_mb}m"
    return SparkConfiguration({**common, **_HERE, "spark.master": master, "spark.driver.memory": memory})


def _standalone(settings: Settings, size: SparkSize, common: Mapping[str, str], jars: list[Path]) -> SparkConfiguration:
    shown = {**common, "spark.cores.max": str(size.cores)}
    if _on_this_machine(settings.spark_master):
        classpath = ":".join(map(str, jars))  # nothing is copied into the folder of every executor
        shown |= {"spark.driver.extraClassPath": classpath, "spark.executor.extraClassPath": classpath}
        shown |= _HERE
    else:
        shown |= _served(jars)
    if settings.spark_secret is None:
        return SparkConfiguration(shown)
    shown["spark.authenticate"] = "true"
    secret = {"spark.authenticate.secret": settings.spark_secret.get_secret_value()}
    return SparkConfiguration(shown, secret)


def _executors(size: SparkSize) -> dict[str, str]:
    found = {"spark.executor.memory": f"{size.memory_mb}m"}
    if size.executor_cores is not None:
        found["spark.executor.cores"] = str(size.executor_cores)
    if size.min_executors is not None:
        low, high = str(size.min_executors), str(size.executors)
        found |= {
            "spark.dynamicAllocation.enabled": "true",
            "spark.dynamicAllocation.shuffleTracking.enabled": "true",  # no shuffle service is asked for
            "spark.dynamicAllocation.minExecutors": low,
            "spark.dynamicAllocation.initialExecutors": low,
            "spark.dynamicAllocation.maxExecutors": high,
        }
    return found


def _pods(size: SparkSize, cluster: SparkCluster) -> dict[str, str]:
    pods = cluster.kubernetes
    if pods is None:
        raise SettingsError("ETL_SPARK_MASTER is k8s://…, and platform.yaml names no image: add `spark: kubernetes:`.")
    found = {"spark.kubernetes.container.image": pods.image, "spark.kubernetes.namespace": pods.namespace}
    found["spark.executor.cores"] = str(size.executor_cores or 1)
    if size.min_executors is None:
        found["spark.executor.instances"] = str(size.executors)
    if pods.service_account is not None:
        found["spark.kubernetes.authenticate.executor.serviceAccountName"] = pods.service_account
    return found


def _served(jars: list[Path]) -> dict[str, str]:
    return {"spark.jars": ",".join(map(str, jars))}


def _on_this_machine(master: str) -> bool:
    return urlsplit(master).hostname in _LOOPBACK
