"""Spark's configuration by kind of master: what is shown, what is secret, what may be said in platform.yaml."""

import time
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from etl_resources.engines.spark_conf import SparkConfiguration, configuration
from etl_resources.engines.spark_executors import reach
from etl_resources.engines.spark_session import MEANING
from etl_resources.errors import RestartError, SettingsError
from etl_resources.manifest_sizes import SparkSize
from etl_resources.manifest_spark import CONF_ALLOWED, CONF_OWNED, Kubernetes, SparkCluster
from etl_resources.settings import Settings
from etl_resources.stack.ports import LOOPBACK, choose

JARS = [Path("/jars/iceberg.jar"), Path("/jars/postgresql.jar")]
SIZE = SparkSize(cores=8, memory_mb=2048, shuffle_partitions=16)
PARTS = SparkSize(cores=8, memory_mb=2048, shuffle_partitions=16, executor_cores=2)
PODS = SparkCluster(
    python="/opt/venv/bin/python",
    kubernetes=Kubernetes(image="registry.example.com/etl:1", namespace="etl", service_account="spark"),
    conf={"spark.kubernetes.executor.node.selector.pool": "etl", "spark.driver.port": "7078"},
)


def made(
    master: str, size: SparkSize = SIZE, cluster: SparkCluster | None = None, **settings: object
) -> SparkConfiguration:
    known = Settings(spark_master=master, **settings)  # type: ignore[arg-type]
    return configuration(known, size, cluster, JARS, Path("/spill"))


def test_the_secret_of_a_cluster_is_never_shown() -> None:
    """What Spark starts with is in `ps`, a representation in logs."""
    found = made("spark://db.example.com:7077", spark_secret=SecretStr("sesame"))
    assert found.secret == {"spark.authenticate.secret": "sesame"}
    assert "sesame" not in str(found.shown)
    assert "sesame" not in repr(found)
    assert found.shown["spark.authenticate"] == "true"
    assert "spark.authenticate" not in made("spark://db.example.com:7077").shown


def test_a_cluster_on_this_machine_talks_on_loopback_and_copies_no_jars() -> None:
    """119 MB for each executor of each run would fill the disk; elsewhere there are none yet."""
    here, there = made("spark://127.0.0.1:7077").shown, made("spark://db.example.com:7077").shown
    assert here["spark.driver.host"] == here["spark.driver.bindAddress"] == "127.0.0.1"
    assert here["spark.executor.extraClassPath"] == "/jars/iceberg.jar:/jars/postgresql.jar"
    assert "spark.jars" not in here
    assert there["spark.jars"] == "/jars/iceberg.jar,/jars/postgresql.jar"
    assert "spark.driver.host" not in there
    named = made("spark://db.example.com:7077", spark_driver_host="runner.example.com").shown
    assert named["spark.driver.host"] == "runner.example.com"


def test_a_size_is_cores_in_all_and_memory_of_each() -> None:
    """On a cluster the heap is the executors', in one process the driver's."""
    cluster, local = made("spark://db.example.com:7077", PARTS).shown, made("local").shown
    assert (cluster["spark.cores.max"], cluster["spark.executor.cores"]) == ("8", "2")
    assert cluster["spark.executor.memory"] == local["spark.driver.memory"] == "2048m"
    assert "spark.executor.cores" not in made("spark://db.example.com:7077").shown
    assert (local["spark.master"], made("local[3]").shown["spark.master"]) == ("local[8]", "local[3]")


def test_dynamic_allocation_lies_between_the_least_and_all_cores() -> None:
    """Without a shuffle service of its own it has to follow the shuffles."""
    size = SparkSize(cores=8, memory_mb=2048, shuffle_partitions=16, executor_cores=2, min_executors=1)
    for master, cluster in (("spark://db.example.com:7077", None), ("k8s://https://k8s.example.com:6443", PODS)):
        shown = made(master, size, cluster).shown
        prefix = "spark.dynamicAllocation"
        assert shown[f"{prefix}.enabled"] == shown[f"{prefix}.shuffleTracking.enabled"] == "true"
        assert (shown[f"{prefix}.minExecutors"], shown[f"{prefix}.maxExecutors"]) == ("1", "4")
        assert "spark.executor.instances" not in shown
    assert not [k for k in made("local", size).shown if k.startswith("spark.dynamicAllocation")]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"min_executors": 1}, "executor_cores"),
        ({"executor_cores": 3}, "no multiple"),
        ({"source_readers": 9}, "8 cores"),
        ({"executor_cores": 4, "min_executors": 3}, "2 executors"),
    ],
)
def test_a_size_that_no_cluster_can_give_is_refused(fields: dict[str, int], words: str) -> None:
    """It would wait for executors in vain, or leave cores unused without a word."""
    with pytest.raises(ValidationError, match=words):
        SparkSize(cores=8, memory_mb=2048, shuffle_partitions=16, **fields)


def test_pods_have_their_image_account_and_python() -> None:
    """The names are those of Spark's documentation (running on Kubernetes)."""
    shown = made("k8s://https://k8s.example.com:6443", PARTS, PODS).shown
    assert {k: v for k, v in shown.items() if k.startswith("spark.kubernetes.")} == {
        "spark.kubernetes.container.image": "registry.example.com/etl:1",
        "spark.kubernetes.namespace": "etl",
        "spark.kubernetes.authenticate.executor.serviceAccountName": "spark",
        "spark.kubernetes.executor.node.selector.pool": "etl",
    }
    assert (shown["spark.executor.instances"], shown["spark.executor.cores"]) == ("4", "2")
    assert shown["spark.pyspark.python"] == "/opt/venv/bin/python"
    assert shown["spark.driver.port"] == "7078"
    assert shown["spark.authenticate"] == "true"
    with pytest.raises(SettingsError, match="kubernetes"):
        made("k8s://https://k8s.example.com:6443")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        *((key, "may be set here") for key in MEANING),
        ("spark.speculation", "may be set here"),
        ("spark.sql.catalog.etl.uri", "may be set here"),
        ("spark.executor.memory", "sizes, settings or another field"),
        ("spark.authenticate.secret", "is a secret"),
        ("spark.ssl.keyPassword", "is a secret"),
        ("spark.kubernetes.authenticate.oauthToken", "is a secret"),
    ],
)
def test_what_decides_rows_or_is_secret_is_refused_in_conf(key: str, words: str) -> None:
    """A session with another time zone or without ANSI would publish other rows under the same token."""
    with pytest.raises(ValidationError, match=words):
        SparkCluster(conf={key: "x"})


def test_references_to_secrets_are_no_secrets() -> None:
    """Kubernetes hands them to the pods; the file has a name only."""
    names = ("spark.kubernetes.executor.secretKeyRef.S3_KEY", "spark.kubernetes.authenticate.oauthTokenFile")
    assert set(SparkCluster(conf=dict.fromkeys(names, "x")).conf) == set(names)


def test_what_the_platform_sets_cant_be_set_twice() -> None:
    """Of two values for one thing, somebody's would be ignored without a word."""
    size = SparkSize(cores=8, memory_mb=2048, shuffle_partitions=16, executor_cores=2, min_executors=1)
    pods = SparkCluster(kubernetes=PODS.kubernetes)
    set_here: set[str] = set()
    for master in ("local", "spark://127.0.0.1:7077", "spark://db.example.com:7077", "k8s://https://k8s.example.com"):
        for one in (SIZE, PARTS, size):
            found = made(master, one, pods, spark_driver_host="here", spark_secret=SecretStr("s"))
            set_here |= {*found.shown, *found.secret}
    assert {k for k in set_here if k.startswith(CONF_ALLOWED)} - CONF_OWNED == {"spark.driver.bindAddress"}


def test_an_unknown_master_is_refused_by_name() -> None:
    """`yarn` would go on to fail in Java."""
    with pytest.raises(SettingsError, match="ETL_SPARK_MASTER is 'yarn'"):
        made("yarn")


def test_a_master_that_isnt_there_is_told_at_once() -> None:
    """Spark itself tries for a minute, and then says that its context was stopped."""
    port = choose(("rpc",), {}, set())["rpc"]
    began = time.monotonic()
    with pytest.raises(RestartError, match=rf"spark://{LOOPBACK}:{port} can't be reached \(ConnectionRefusedError"):
        reach(f"spark://{LOOPBACK}:{port}")
    assert time.monotonic() - began < 5
