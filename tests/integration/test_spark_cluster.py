"""A standalone cluster whose processes are killed while a table is computed: the same content, or nothing."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from etl_resources import stack as servers
from etl_resources.object_store import ObjectStore
from etl_resources.settings import load_settings
from etl_resources.stack.processes import HOME_MARK
from etl_resources.stack.state import SparkShape, load
from etl_resources.tables.head import read_head
from tests.conftest import BUCKET
from tests.fault.scenarios import until
from tests.integration.test_maintain import command as maintain
from tests.invariants import prove_whole
from tests.lake import Child, Lake

pytest_plugins = ["tests.lake"]
MONTH = "2024-05"
POINT = "spark.files_written"
WAIT_S = 180


class Cluster:
    """A master and two workers of one core each, beside the session's servers."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def up(self) -> None:
        """As `data-pipeline up --spark 2`, and as each `up` after it."""
        shape = SparkShape(workers=2, cores=1, memory_mb=1024)
        servers.up(
            load_settings(home=self.home), bucket=BUCKET, project_dir=self.home.parent, ui=False, search=False,
            spark=shape,
        )  # fmt: skip

    def pid(self, name: str) -> int:
        pid = load(self.home).servers[name].pid
        assert pid is not None
        return pid

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
    assert not [p for p in psutil.process_iter(["name", "environ"]) if _is_left(p, stack.home)]


def _is_left(process: psutil.Process, home: Path) -> bool:
    return process.info["name"] == "java" and (process.info["environ"] or {}).get(HOME_MARK) == str(home)


class Stopped:
    """A task of a table that stopped when its files were written; its executor and worker."""

    def __init__(self, lake: Lake, table: str) -> None:
        self.table, self._reached = table, lake.home / f"reached-{table}"

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


def unnamed_files(lake: Lake, asset: str) -> set[str]:
    """In the table's folder, and in no version of it."""
    address = lake.runtime.addresses[asset]
    catalog = lake.runtime.store.catalog
    named = {path for head in read_head(catalog.load_table(address.identifier)).values() for path in head.data_paths}
    there = {f.path for f in ObjectStore.of(catalog, address.location).list(f"{address.location}/data")}
    return there - named


def test_killed_executor_worker_and_master_are_survived_by_one_run(cluster: Cluster, lake: Lake) -> None:
    """Each dies at the worst moment: a task's files are written and its driver doesn't know. Same rows, none twice;
    what the dead tasks wrote is named by nobody."""
    silver, gdp, kpi = (Stopped(lake, name) for name in ("silver_sales_orders", "gdp_sales", "kpi_net_revenue"))
    child = lake.spawn(MONTH, points=[t.point for t in (silver, gdp, kpi)], **cluster.variables)

    silver.wait(child).kill()
    silver.go_on()
    gdp.wait(child).parent().kill()  # the worker; its executor ends with it
    gdp.go_on()
    kpi.wait(child)
    os.kill(cluster.pid("spark-master"), signal.SIGKILL)
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
