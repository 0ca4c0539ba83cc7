"""Executors of a cluster: waited for when a run begins, and missed while it is at work.

Spark itself waits for ever ("Initial job has not accepted any resources"); a run has to end with an error instead.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from etl_resources.errors import RestartError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_POLL_S = 0.2
_WATCH_S = 1.0
_REACH_S = 10


def reach(master: str) -> None:
    """One of the masters of spark://a:7077,b:7077 is there. Raises RestartError."""
    if not master.startswith("spark://"):
        return
    reason = ""
    for place in master.removeprefix("spark://").split(","):
        host, _, port = place.rpartition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=_REACH_S):
                return
        except (OSError, ValueError) as e:
            reason = f"{type(e).__name__}: {e}"
    raise RestartError(
        f"Spark's master {master} can't be reached ({reason}). `data-pipeline status` shows the embedded one; "
        "ETL_SPARK_MASTER names it."
    )


class Executors:
    """Of one Spark. After a wait in vain nobody waits again until there are some."""

    def __init__(self, spark: "SparkSession", wait_s: float, wanted: str) -> None:
        self._spark, self._wait_s, self._wanted = spark, wait_s, wanted
        self._in_vain = False

    def wait(self) -> None:
        """Until there is one. Raises RestartError."""
        deadline = time.monotonic() + (0 if self._in_vain else self._wait_s)
        while not self._count():
            if time.monotonic() >= deadline:
                self._in_vain = True
                raise self._error()
            time.sleep(_POLL_S)
        self._in_vain = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Jobs are cancelled when there has been no executor for the time of a wait. Raises RestartError then."""
        self.wait()
        done, missed = threading.Event(), threading.Event()
        watcher = threading.Thread(target=self._watch, args=(done, missed), name="spark-executors", daemon=True)
        watcher.start()
        try:
            yield
        except Exception as e:
            if missed.is_set():
                raise self._error() from e
            raise
        finally:
            done.set()

    def _watch(self, done: threading.Event, missed: threading.Event) -> None:
        from py4j.protocol import Py4JError, Py4JNetworkError

        seen = time.monotonic()
        try:
            while not done.wait(_WATCH_S):
                if self._count():
                    seen = time.monotonic()
                elif time.monotonic() - seen > self._wait_s and not done.is_set():
                    missed.set()
                    self._in_vain = True
                    self._spark.sparkContext.cancelAllJobs()
                    return
        except (Py4JError, Py4JNetworkError, OSError):
            return  # Spark has ended, and who is at work meets that himself

    def _count(self) -> int:
        jvm_context = self._spark.sparkContext._jsc.sc()
        return int(jvm_context.getExecutorMemoryStatus().size()) - 1  # one of them is the driver

    def _error(self) -> RestartError:
        return RestartError(
            f"Spark's master {self._spark.sparkContext.master} has given no executor for {self._wait_s:g} s: it has no "
            f"worker with {self._wanted} free. Start workers, choose a smaller size, or set ETL_SPARK_WAIT_S."
        )
