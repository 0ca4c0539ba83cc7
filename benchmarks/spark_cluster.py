"""A Spark master with one worker on loopback for benchmarks, and what Spark's own event log tells of a run."""

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WORKER_CORES, WORKER_MB = 2, 2048
START_S = 60


@contextmanager
def cluster(work: Path, master: str) -> Iterator[str]:
    """Address for ETL_SPARK_MASTER: "local" as it is; "standalone" is a cluster of one worker that lives meanwhile."""
    if master == "local":
        yield master
        return
    import pyspark

    jars = f"{Path(pyspark.__file__).parent}/jars/*"
    port = _free_port()
    address = f"spark://127.0.0.1:{port}"
    own = ["--host", "127.0.0.1", "--webui-port", "0"]
    begin = ["java", "-Xmx256m", "-cp", jars, "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED"]
    room = ["--cores", str(WORKER_CORES), "--memory", f"{WORKER_MB}m", "--work-dir", str(work / "worker")]
    started = []
    try:
        for name, options in (("master.Master", ["--port", str(port)]), ("worker.Worker", [*room, address])):
            with (work / f"{name}.log").open("wb") as output:
                command = [*begin, f"org.apache.spark.deploy.{name}", *own, *options]
                started.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(START_S)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def spark_told(folder: Path) -> dict[str, Any]:
    """Jobs, tasks, executor seconds and bytes of the logs in a folder; nothing where Spark didn't run."""
    jobs = tasks = 0
    total = dict.fromkeys(("Executor Run Time", "Memory Bytes Spilled", "Disk Bytes Spilled"), 0)
    shuffled = 0
    for log in folder.iterdir():
        with log.open() as lines:
            for line in lines:
                if '"SparkListenerJobStart"' in line:
                    jobs += 1
                if '"SparkListenerTaskEnd"' not in line:
                    continue
                found = json.loads(line).get("Task Metrics") or {}
                tasks += 1
                for name in total:
                    total[name] += found.get(name, 0)
                shuffled += (found.get("Shuffle Write Metrics") or {}).get("Shuffle Bytes Written", 0)
    if not jobs:
        return {}
    return {
        "Spark jobs": jobs,
        "Spark tasks": tasks,
        "executor s": round(total["Executor Run Time"] / 1000, 1),
        "spilled by Spark, memory MB": total["Memory Bytes Spilled"] // 1_000_000,
        "spilled by Spark, disk MB": total["Disk Bytes Spilled"] // 1_000_000,
        "shuffled MB": shuffled // 1_000_000,
    }
