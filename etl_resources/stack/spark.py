"""The embedded Spark: a standalone master and its workers, from pyspark's own jars, all on loopback.

Executors are children of their worker, so they are found and stopped with it. Who doesn't know the random secret can
neither register nor submit. The master keeps what it knows in files: a master that was killed and started again still
has its workers and the runs that are at work.
"""

import http.client
import importlib.util
import json
import secrets
import shutil
import signal
from pathlib import Path
from typing import Any

from etl_resources.engines.spark_jars import java_command
from etl_resources.errors import PermanentError, TransientError
from etl_resources.stack.ports import LOOPBACK
from etl_resources.stack.processes import Command, listens, recorded
from etl_resources.stack.state import ServerRecord, SparkShape, StackState, write_private

MASTER, _WORKER = "spark-master", "spark-worker-"
SECRET = "rpc"  # noqa: S105  (a name)
WORKER_LOST_S = 30
"""A worker that is silent for this long is lost, with its executors."""
RECOVERY_S = 15
"""How long a restarted master waits for the workers and runs that it knew."""
LOGS_KEPT_S = 86_400
DAEMON_HEAP_MB = 256
_QUICK = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""They have little to do: no thread may be lost to the collector or the second compiler."""


class _SparkServer:
    """What master and workers have in common."""

    name = ""
    port_names: tuple[str, ...] = ("rpc", "ui")
    start_timeout_s = 240
    stop_signal = signal.SIGTERM
    stop_grace_s = 10

    def __init__(self, home: Path) -> None:
        self._home = home

    def new_secrets(self) -> dict[str, str]:
        """None but the master's."""
        return {}

    def settle(self, record: ServerRecord) -> None:
        """Nothing to make."""
        record.provisioned = True

    @property
    def _folder(self) -> Path:
        return self._home / "spark"

    @property
    def _properties(self) -> Path:
        return self._folder / f"{self.name}.conf"

    def _write(self, secret: str, more: dict[str, str]) -> None:
        """The configuration, in a file that only its owner reads: arguments are seen by everybody."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        settings = {
            "spark.authenticate": "true",
            "spark.authenticate.secret": secret,
            "spark.network.crypto.enabled": "true",
            "spark.ui.killEnabled": "false",  # its pages have no login
            "spark.master.rest.enabled": "false",  # it would take runs from anybody
            "spark.worker.timeout": str(WORKER_LOST_S),
            **more,
        }
        write_private(self._properties, "".join(f"{name} {value}\n" for name, value in settings.items()))

    def _command(self, record: ServerRecord, entry: str, *arguments: str) -> Command:
        spark = _pyspark()
        ports = ["--host", LOOPBACK, "--port", str(record.ports["rpc"]), "--webui-port", str(record.ports["ui"])]
        java = [java_command(), f"-Xmx{DAEMON_HEAP_MB}m", *_QUICK, "-cp", str(spark / "jars" / "*")]
        options = [*ports, "--properties-file", str(self._properties)]
        environment = {
            "SPARK_HOME": str(spark),
            "SPARK_SCALA_VERSION": "2.13",  # else looked for in a build's folders, which the package hasn't
            "SPARK_LOCAL_IP": LOOPBACK,
            "SPARK_PUBLIC_DNS": LOOPBACK,
        }
        argv = [*java, f"org.apache.spark.deploy.{entry}", *options, *arguments]
        return Command(argv, self._folder, environment)

    def _listening(self, record: ServerRecord) -> None:
        process = recorded(record, self._home)
        if process is None or not listens(process, record.ports["rpc"]):
            raise TransientError(f"{self.name}: not listening yet")


class SparkMaster(_SparkServer):
    """Life cycle of the master."""

    name = MASTER

    def new_secrets(self) -> dict[str, str]:
        """What all of the cluster, and who uses it, has to know."""
        return {SECRET: secrets.token_urlsafe(30)}

    def prepare(self, record: ServerRecord) -> None:
        """Write the configuration."""
        recovery = {
            "spark.deploy.recoveryMode": "FILESYSTEM",
            "spark.deploy.recoveryDirectory": str(self._recovery),
            "spark.deploy.recoveryTimeout": str(RECOVERY_S),
        }
        self._write(record.secrets[SECRET], recovery)
        self._recovery.mkdir(mode=0o700, exist_ok=True)

    def command(self, record: ServerRecord) -> Command:
        """Raises PermanentError without Java or pyspark."""
        return self._command(record, "master.Master")

    def check(self, record: ServerRecord) -> None:
        """It answers and is done with its recovery. Raises TransientError."""
        self._listening(record)
        status = _asked(self.name, record).get("status")
        if status != "ALIVE":
            raise TransientError(f"{self.name}: {str(status).lower()}")

    def forget_runs(self) -> None:
        """Of a cluster that was stopped nothing is to be waited for at its next start."""
        shutil.rmtree(self._recovery, ignore_errors=True)

    @property
    def _recovery(self) -> Path:
        return self._folder / "recovery"


class SparkWorker(_SparkServer):
    """Life cycle of one worker, of the master that the state has."""

    def __init__(self, home: Path, number: int, shape: SparkShape, state: StackState) -> None:
        super().__init__(home)
        self.name, self._shape, self._state = f"{_WORKER}{number}", shape, state

    @property
    def _master(self) -> ServerRecord:
        return self._state.servers.get(MASTER, ServerRecord())

    def prepare(self, record: ServerRecord) -> None:  # noqa: ARG002  (Server)
        """Write the configuration; logs of executors stay a day."""
        cleanup = {"spark.worker.cleanup.enabled": "true", "spark.worker.cleanup.appDataTtl": str(LOGS_KEPT_S)}
        self._write(self._master.secrets[SECRET], cleanup)

    def command(self, record: ServerRecord) -> Command:
        """Raises PermanentError without Java or pyspark, TransientError where no master was started yet."""
        if "rpc" not in self._master.ports:
            raise TransientError(f"{self.name}: its master isn't started")
        size = ["--cores", str(self._shape.cores), "--memory", f"{self._shape.memory_mb}m"]
        work = ["--work-dir", str(self._folder / self.name)]
        return self._command(record, "worker.Worker", *size, *work, master_address(self._master))

    def check(self, record: ServerRecord) -> None:
        """It runs, and its master knows it. Raises TransientError."""
        self._listening(record)
        known = _asked(MASTER, self._master).get("workers", [])
        if not any(w.get("port") == record.ports["rpc"] and w.get("state") == "ALIVE" for w in known):
            raise TransientError(f"{self.name}: its master doesn't know it")


def spark_servers(home: Path, state: StackState) -> list[SparkMaster | SparkWorker]:
    """The master, then its workers, as they were asked for."""
    if state.spark is None:
        return []
    numbers = range(1, state.spark.workers + 1)
    return [SparkMaster(home), *(SparkWorker(home, number, state.spark, state) for number in numbers)]


def started_spark_servers(home: Path, state: StackState) -> list[SparkMaster | SparkWorker]:
    """All that there is a record of, asked for or not: the master, then workers."""
    shape = state.spark or SparkShape(workers=1, cores=1, memory_mb=1)
    numbers = sorted(int(name.removeprefix(_WORKER)) for name in state.servers if name.startswith(_WORKER))
    master = [SparkMaster(home)] if MASTER in state.servers else []
    return [*master, *(SparkWorker(home, number, shape, state) for number in numbers)]


def master_address(record: ServerRecord) -> str:
    """What ETL_SPARK_MASTER is for the embedded one."""
    return f"spark://{LOOPBACK}:{record.ports['rpc']}"


def require_spark() -> None:
    """Raises PermanentError, in one line, where no master could be started."""
    java_command()
    _pyspark()


def _pyspark() -> Path:
    spec = importlib.util.find_spec("pyspark")  # not imported: it is large
    if spec is None or spec.origin is None:
        raise PermanentError("Spark needs the package pyspark: pip install -c constraints.txt -e '.[spark]'.")
    return Path(spec.origin).parent


def _asked(name: str, record: ServerRecord) -> dict[str, Any]:
    """What it says of itself. Raises TransientError."""
    connection = http.client.HTTPConnection(LOOPBACK, record.ports["ui"], timeout=5)
    try:
        connection.request("GET", "/json/")
        told: dict[str, Any] = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as e:
        raise TransientError(f"{name}: no answer on port {record.ports['ui']} ({type(e).__name__})") from e
    finally:
        connection.close()
    return told
