"""AWS Glue and Secrets Manager for tests: moto's API, and this machine's Spark in place of Glue's workers.

A run of the job is the job's own script in a process of its own, with the code that the run brings along, and
nothing of this process's settings: it has the arguments of the run, and a secret.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import boto3
from moto.core.responses import ActionResult
from moto.glue.models import FakeJob, FakeJobRun, glue_backends
from moto.glue.responses import GlueResponse
from moto.moto_api import state_manager
from moto.server import ThreadedMotoServer

from etl_resources.engines.spark_jars import spark_jars
from etl_resources.object_store import ObjectStore

ACCOUNT, REGION = "123456789012", "us-east-1"
RUN_S_MAX = 400
Body = Callable[["GlueService", FakeJobRun], str]
"""What a run does; returns the state in which it ends."""


class GlueService:
    """The service; `body` is what runs do from now on."""

    def __init__(self, endpoint: str, folder: Path) -> None:
        self.variables = {
            "AWS_ENDPOINT_URL_GLUE": endpoint, "AWS_ENDPOINT_URL_SECRETS_MANAGER": endpoint,
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": endpoint,
            "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": REGION,
        }  # fmt: skip
        self.folder, self.store, self.body = folder, None, compute
        self.orders: list[bytes] = []
        self.logs: list[str] = []
        self._seen: set[str] = set()

    @property
    def runs(self) -> list[FakeJobRun]:
        """Of every job, in their order."""
        return [run for job in glue_backends[ACCOUNT][REGION].jobs.values() for run in job.job_runs]

    def arguments(self) -> str:
        """Everything that anybody who may look at runs can see."""
        return "\n".join(str(run.as_dict()) for run in self.runs)

    def work(self, until: Event) -> None:
        """Carry out runs, one after the other."""
        while not until.wait(0.2):
            for run in self.runs:
                if run.job_run_id not in self._seen:
                    self._seen.add(run.job_run_id)
                    try:
                        end(run, self.body(self, run))
                    except Exception as e:  # noqa: BLE001  (a run that is broken must not be waited for)
                        end(run, "FAILED", repr(e))


def compute(service: GlueService, run: FakeJobRun) -> str:
    """The script of the job, by Spark."""
    assert service.store is not None
    assert run.arguments is not None
    job = glue_backends[ACCOUNT][REGION].jobs[run.job_name]
    place = service.folder / run.job_run_id
    place.mkdir()
    script, code = place / "script.py", place / "code.zip"
    script.write_bytes(service.store.read(job.command["ScriptLocation"]))
    code.write_bytes(service.store.read(run.arguments["--extra-py-files"]))
    given = [text for pair in run.arguments.items() for text in pair]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ETL_", "ERP_", "CRM_", "RATES_", "DAGSTER_"))}
    jars = ",".join(map(str, spark_jars(None)))
    submit = f"--master local[2] --driver-memory 768m --conf spark.ui.enabled=false --jars {jars} pyspark-shell"
    log = place / "log"
    with log.open("w") as output:
        done = subprocess.run(
            [sys.executable, str(script), *given, "--JOB_RUN_ID", run.job_run_id],
            cwd=place, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=RUN_S_MAX, check=False,
            env={
                **kept,
                **service.variables,
                "PYTHONPATH": str(code),
                "PYSPARK_SUBMIT_ARGS": submit,
                "PYSPARK_PYTHON": sys.executable,
            },
        )  # fmt: skip
    service.logs.append(log.read_text())
    tell_log(service, run, service.logs[-1])
    return "FAILED" if done.returncode else "SUCCEEDED"


def tell_log(service: GlueService, run: FakeJobRun, text: str) -> None:
    """As Glue keeps what a run prints."""
    client = boto3.client(
        "logs", region_name=REGION, endpoint_url=service.variables["AWS_ENDPOINT_URL_GLUE"],
        aws_access_key_id="none", aws_secret_access_key="none",
    )  # fmt: skip
    group = f"{run.as_dict()['LogGroupName']}/output"
    if not client.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
        client.create_log_group(logGroupName=group)
    client.create_log_stream(logGroupName=group, logStreamName=run.job_run_id)
    events = [{"timestamp": int(time.time() * 1000), "message": line} for line in text.splitlines() if line]
    client.put_log_events(logGroupName=group, logStreamName=run.job_run_id, logEvents=events)


def end(run: FakeJobRun, state: str, message: str | None = None) -> None:
    """Glue says that the run is in this state."""
    told = {**run.as_dict(), "JobRunState": state, **({"ErrorMessage": message} if message else {})}
    run.status = state
    run.as_dict = lambda: told


@contextmanager
def glue_service(folder: Path) -> Iterator[GlueService]:
    """Started; it keeps nothing. What moto doesn't have yet of Glue's API is added."""
    state_manager.set_transition("glue::job_run", {"progression": "manual", "times": 1_000_000})
    GlueResponse.batch_stop_job_run = _batch_stop_job_run
    GlueResponse.update_job = _update_job
    known = FakeJob.as_dict
    FakeJob.as_dict = lambda job: {**known(job), "JobRunQueuingEnabled": True}
    server, until = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False), Event()
    server.start()
    host, port = server.get_host_and_port()
    service = GlueService(f"http://{host}:{port}", folder)
    thread = Thread(target=service.work, args=(until,), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        until.set()
        thread.join()
        server.stop()
        glue_backends[ACCOUNT][REGION].reset()
        state_manager.unset_transition("glue::job_run")
        FakeJob.as_dict = known
        del GlueResponse.batch_stop_job_run, GlueResponse.update_job


def keep_secret(service: GlueService, name: str, values: Mapping[str, str]) -> None:
    """In Secrets Manager."""
    import json

    client = boto3.client(
        "secretsmanager", region_name=REGION, endpoint_url=service.variables["AWS_ENDPOINT_URL_GLUE"],
        aws_access_key_id="none", aws_secret_access_key="none",
    )  # fmt: skip
    client.create_secret(Name=name, SecretString=json.dumps(values))


def store_of(lake_settings: Any, bucket: str) -> ObjectStore:
    """The bucket of a lake."""
    from etl_resources.object_store import s3_client

    endpoint, key, secret = lake_settings.require_s3()
    client = s3_client(endpoint, (key, secret), region=REGION, timeout_s=30)
    return ObjectStore(client, f"s3://{bucket}/any")


def _batch_stop_job_run(self: GlueResponse) -> ActionResult:
    name, ids = self._get_param("JobName"), self._get_param("JobRunIds")
    for job_run_id in ids:
        end(self.glue_backend.get_job_run(name, job_run_id), "STOPPED")
    return ActionResult({"SuccessfulSubmissions": [{"JobName": name, "JobRunId": i} for i in ids], "Errors": []})


def _update_job(self: GlueResponse) -> ActionResult:
    name, changed = self._get_param("JobName"), self._get_param("JobUpdate")
    job, fields = self.glue_backend.get_job(name), {"GlueVersion": "glue_version", "Role": "role", "Timeout": "timeout"}
    for theirs, ours in fields.items():
        setattr(job, ours, changed[theirs])
    return ActionResult({"JobName": name})
