"""A standalone cluster whose processes are killed while a table is computed: the same content, or nothing."""

import os
import signal
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from psycopg.conninfo import conninfo_to_dict

from etl_resources import stack as servers
from etl_resources.ledger.ledger import Ledger
from etl_resources.object_store import ObjectStore
from etl_resources.settings import load_settings
from etl_resources.stack.processes import is_alive, marked
from etl_resources.stack.state import SparkShape, load
from etl_resources.tables.head import read_head
from tests.conftest import BUCKET
from tests.fault.scenarios import until
from tests.integration.example import MONTHS, new_example
from tests.integration.test_maintain import command as maintain
from tests.invariants import prove_whole
from tests.lake import LINES, ORDERS, Child, Lake

pytest_plugins = ["tests.lake"]
pytestmark = pytest.mark.timeout(1800)  # Java starts a dozen times
MONTH = "2024-05"
POINT = "spark.files_written"
WAIT_S = 400


class Cluster:
    """A master and two workers of one core each, beside the session's servers."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def up(self) -> None:
        """As `data-pipeline up --spark 2`, and as each `up` after it."""
        shape = SparkShape(workers=2, cores=1, memory_mb=1536)
        servers.up(
            load_settings(home=self.home), bucket=BUCKET, project_dir=self.home.parent, ui=False, search=False,
            spark=shape,
        )  # fmt: skip

    def kill(self, name: str) -> None:
        """As the out-of-memory killer does."""
        pid = load(self.home).servers[name].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[psutil.Process]:
        """Masters, workers, executors and their Python."""
        return [p for name in ("spark-master", "spark-worker-1", "spark-worker-2") for p in marked(self.home, name)]

    @property
    def variables(self) -> dict[str, str]:
        """How a lake's runs find it."""
        found = load(self.home).settings
        return {
            "ETL_SIZE": "large",
            "ETL_SPARK_MASTER": found["spark_master"],
            "ETL_SPARK_SECRET": found["spark_secret"],
        }


@pytest.fixture(scope="module")
def cluster(stack: Any, java: object) -> Iterator[Cluster]:
    """Stopped and forgotten afterwards: other modules compute in their own process."""
    made = Cluster(stack.home)
    made.up()
    yield made
    servers.up(
        load_settings(home=stack.home), bucket=BUCKET, project_dir=stack.home.parent, ui=False, search=False,
        spark="none",
    )  # fmt: skip
    assert not made.processes()


class Stopped:
    """A task of a table that stopped when its files were written; its executor and worker."""

    def __init__(self, lake: Lake, table: str) -> None:
        self.table, self._reached = table, lake.home / f"reached-{table.replace('/', '-')}"

    @property
    def point(self) -> dict[str, Any]:
        return {"point": POINT, "match": self.table, "action": "stop", "reached": str(self._reached), "once": True}

    def wait(self, child: Child) -> "psutil.Process":
        """The executor's JVM."""
        until(lambda: self._reached.exists() or not child.process.is_alive(), f"{self.table} written", WAIT_S)
        assert self._reached.exists(), child.log[-3000:]
        self.task = psutil.Process(int(self._reached.read_text()))
        (executor,) = [p for p in self.task.parents() if "CoarseGrainedExecutorBackend" in " ".join(p.cmdline())]
        return executor

    def go_on(self) -> None:
        """A zombie by now: it was written off when its executor died."""
        with suppress(psutil.NoSuchProcess):
            self.task.send_signal(signal.SIGCONT)


def prove_private(cluster: Cluster) -> None:
    """On loopback only, on no port but its own, and the secret is in no argument of anybody."""
    found = load(cluster.home)
    for name in ("spark-master", "spark-worker-1", "spark-worker-2"):
        record = found.servers[name]
        sockets = psutil.Process(record.pid).net_connections("tcp")
        listening = {(c.laddr.ip.removeprefix("::ffff:"), c.laddr.port) for c in sockets if c.status == "LISTEN"}
        assert listening == {("127.0.0.1", port) for port in record.ports.values()}, name
    assert len(cluster.processes()) > 3
    secret = found.settings["spark_secret"]
    assert not [p for p in psutil.process_iter(["cmdline"]) if secret in " ".join(p.info["cmdline"] or ())]
    files = [p for p in (cluster.home / "spark").iterdir() if p.is_file()]
    assert {stat.S_IMODE(p.stat().st_mode) for p in files} == {0o600}


def unnamed_files(lake: Lake, asset: str) -> set[str]:
    """In the table's folder, and in no version of it."""
    address = lake.runtime.addresses[asset]
    catalog = lake.runtime.store.catalog
    named = {path for head in read_head(catalog.load_table(address.identifier)).values() for path in head.data_paths}
    there = {f.path for f in ObjectStore.of(catalog, address.location).list("data")}
    return there - named


def test_killed_executor_worker_and_master_are_survived_by_one_run(cluster: Cluster, lake: Lake) -> None:
    """Each dies at the worst moment: a task's files are written and its driver doesn't know. Same rows, none twice;
    what the dead tasks wrote is named by nobody."""
    silver, gdp, kpi = (Stopped(lake, name) for name in ("silver_sales_orders", "gdp_sales", "kpi_net_revenue"))
    child = lake.spawn(MONTH, points=[t.point for t in (silver, gdp, kpi)], **cluster.variables)

    executor = silver.wait(child)
    prove_private(cluster)
    executor.kill()
    silver.go_on()
    executor = gdp.wait(child)
    executor.parent().kill()  # the worker; its executor ends with it, a moment later
    executor.wait(WAIT_S)
    gdp.go_on()
    kpi.wait(child)
    cluster.kill("spark-master")
    cluster.up()  # the master that comes back knows the run, and the dead worker is replaced
    kpi.go_on()

    run = child.wait(WAIT_S)
    assert run is not None
    assert run.success, run.error
    assert lake.published_kpi() == lake.oracle(MONTH)
    prove_whole(lake)
    assert unnamed_files(lake, "gdp.gdp_sales")
    maintain(lake, "gdp.gdp_sales")
    assert not unnamed_files(lake, "gdp.gdp_sales")
    prove_whole(lake)


def test_a_source_is_read_again_of_the_same_moment_when_an_executor_dies(cluster: Cluster, lake: Lake) -> None:
    """It dies when its task's files are written and nobody knows, and the source has changed since: no row twice, none
    of later; what it wrote is deleted. No argument of anybody shows the source's password or the bucket's."""
    cluster.up()
    month = "to_char(order_date, 'YYYY-MM') = '2024-05'"
    before = lake.erp(f"select count(*)::int, sum(order_id)::bigint from erp.orders where {month}")
    orders, spread = Stopped(lake, "bronze/sales_orders"), {**cluster.variables, "ETL_SIZE": "spread"}
    child = lake.spawn(MONTH, points=[orders.point], selection=[ORDERS, LINES], **spread)
    executor = orders.wait(child)
    secrets = (str(conninfo_to_dict(lake.erp_dsn)["password"]), lake.env["ETL_S3_SECRET_KEY"])
    shown = [" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])]
    assert not [line for line in shown for secret in secrets if secret in line]
    lake.erp(f"update erp.orders set updated_at = now(), clerk = 'later' where {month}")
    executor.kill()
    orders.go_on()

    run = child.wait(WAIT_S)
    assert run is not None
    assert run.success, run.error
    assert run.retried == []
    assert lake.rows(ORDERS, "count(*), sum(order_id)::bigint") == before
    assert not lake.rows(ORDERS, "1", "clerk = 'later'")
    left = unnamed_files(lake, "bronze.sales_orders")
    assert left
    maintain(lake, "bronze.sales_orders")
    assert not left & unnamed_files(lake, "bronze.sales_orders")
    run = lake.materialize(MONTH)
    assert run.success, run.error
    assert len(lake.rows(ORDERS, "1", "clerk = 'later'")) == before[0][0]
    prove_whole(lake)


def test_a_killed_driver_leaves_nothing_and_a_cluster_without_workers_ends_the_run(
    cluster: Cluster, lake: Lake
) -> None:
    """Spark itself would wait for ever. What a dead run's tasks still write is nobody's; another engine goes on."""
    cluster.up()
    gdp = Stopped(lake, "gdp_sales")
    child = lake.spawn(MONTH, points=[gdp.point], **cluster.variables)
    executor = gdp.wait(child)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() is None
    gdp.go_on()
    until(lambda: not is_alive(executor), "the executor ends with its driver", WAIT_S)
    cluster.kill("spark-worker-1")
    cluster.kill("spark-worker-2")

    waiting = {"ETL_SPARK_WAIT_S": "2", "ETL_RETRY_STEPS": "0"}
    run = lake.spawn(MONTH, **cluster.variables, **waiting).wait(WAIT_S)

    assert run is not None
    assert not run.success
    assert "has given no executor for 2 s" in run.error
    assert "1 cores and 1024 MB free" in run.error
    assert not run.published("gdp/gdp_sales")
    run = lake.materialize(MONTH)
    assert run.success, run.error
    assert lake.published_kpi() == lake.oracle(MONTH)
    prove_whole(lake)


def test_the_example_from_nothing_with_a_killed_worker_is_that_of_the_embedded_engine(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Done when: every partition of every table has the same content hash."""
    cluster.up()
    folders = [tmp_path_factory.mktemp("example") for _ in range(2)]
    with new_example(folders[0], {}) as large, new_example(folders[1], {}) as medium:
        gdp = Stopped(large.lake, "gdp_sales")
        child = large.lake.spawn(MONTHS[0], MONTHS[-1], points=[gdp.point], selection=large.assets, **cluster.variables)
        executor = gdp.wait(child)
        executor.parent().kill()
        executor.wait(WAIT_S)
        gdp.go_on()
        run = child.wait(WAIT_S)
        assert run is not None
        assert run.success, run.error
        medium.run()
        found = versions(large.lake)
        assert len({asset for asset, _ in found}) == 12
        assert found == versions(medium.lake)


def versions(lake: Lake) -> dict[tuple[str, str], str]:
    """Content hash of each published partition that Spark may compute."""
    with Ledger.open(lake.settings) as ledger:
        return {
            (node.name, partition): publish.version
            for node in lake.runtime.project.tables.values()
            if node.sql is not None
            for partition, publish in ledger.current(node.name).items()
        }
