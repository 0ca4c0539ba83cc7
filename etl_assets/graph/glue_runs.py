"""Orders carried out by a job in AWS Glue, started and followed through Dagster Pipes.

An order and its answer are objects in the attempt's folder, and so are Pipes' own: what a killed run leaves there is
deleted with everything else that no snapshot references. An order is given to one run of the job. A run that goes on
although nobody waits for it writes files that nobody names.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from threading import Event
from typing import Any
from uuid import uuid4

import boto3
import dagster as dg
from botocore.exceptions import BotoCoreError, ClientError
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster_aws.pipes import (
    PipesGlueClient,
    PipesS3ContextInjector,
    PipesS3MessageReader,
)

from etl_assets.graph.runtime import Runtime
from etl_resources.conventions import glue_job_name
from etl_resources.engines.glue_job import publish_code, run_arguments
from etl_resources.engines.glue_order import ORDER, GlueAnswer, GlueOrder, from_json, to_json
from etl_resources.engines.spark_metrics import SparkMeasures
from etl_resources.errors import DataPipelineError, PermanentError, RestartError, SettingsError, TransientError
from etl_resources.manifest_runner import GlueSize
from etl_resources.object_store import ObjectStore, bucket_and_key, glue_client
from etl_resources.retries import retry_transient

MESSAGES_S = 1
"""Seconds between looks for messages of a run."""
LOG_LINES = 200
STARTING_MINUTES = 30
"""Longest time that a run may wait for its workers, or for room beside others."""
_BUSY = (
    *("ConcurrentRunsExceededException", "ResourceNumberLimitExceededException", "ThrottlingException"),
    *("InternalServiceException", "OperationTimeoutException", "ServiceUnavailable"),
)
_GOES_ON = ("STARTING", "RUNNING", "STOPPING", "WAITING")


class GlueRuns:
    """The runs of one step's orders; several threads may give them."""

    def __init__(self, runtime: Runtime, context: dg.AssetExecutionContext, size: GlueSize) -> None:
        glue = runtime.project.platform.glue
        if glue is None:
            raise SettingsError("ETL_SPARK_MASTER is glue, and platform.yaml has no `glue`: say there which job it is.")
        self._glue, self._context = glue, context
        self._store = ObjectStore.of(runtime.store.catalog, f"s3://{runtime.bucket}/glue")
        self._client = glue_client(runtime.settings.s3_region)
        self._size, self._job = size, glue_job_name(runtime.project.platform.etl_resource_prefix)
        self._stop = Event()

    @cached_property
    def _code(self) -> str:
        return publish_code(self._store)

    @contextmanager
    def stopped_with_step(self) -> Iterator[None]:
        """Stop what runs when the step ends early: somebody cancelled it, or it failed."""
        try:
            yield
        except BaseException:
            self._stop.set()
            raise

    def folder(self, attempt_folder: str) -> str:
        """Folder of one order, of its answer and of Pipes' objects."""
        return f"{attempt_folder}/glue-{uuid4().hex}"

    def carry_out(self, order: GlueOrder, measures: SparkMeasures) -> tuple[GlueAnswer, Mapping[str, Any]]:
        """The answer, and what Glue says of the run. Raises what the job raised, or why there is no answer.

        order.answer lies in a `folder` of its own. measures: what Spark did is added to it, also when it fails.
        """
        folder = order.answer.rpartition("/")[0]
        path, key = f"{folder}/order.json", bucket_and_key(folder)[1]
        self._store.write(path, to_json(order))
        start = run_arguments(self._job, self._glue, self._size, self._code, order.transform.function)
        watched = _Watched(self._client, order.what, self._stop, self._glue.timeout_minutes)
        try:
            PipesGlueClient(
                context_injector=PipesS3ContextInjector(
                    bucket=self._store.bucket, client=self._store.client, key_prefix=f"{key}/pipes-"
                ),
                message_reader=_Messages(self._store, key),
                client=watched,
            ).run(context=self._context, start_job_run_params=start, extras={ORDER: path})
        except DataPipelineError:
            raise
        except Exception as e:
            ended = self._ended(order, measures, watched)
            if ended is None:
                raise
            raise ended from e
        else:
            answer = self._answer(order, measures)
            if answer is None:
                raise RestartError(f"{watched.what}: the run succeeded and left no answer. Run again.")
            return answer, watched.told
        finally:
            watched.end()
            self._tell_output(watched)
            parent, _, name = folder.rpartition("/")
            self._store.delete(found.path for found in ObjectStore(self._store.client, parent).list(name))

    def _tell_output(self, watched: "_Watched") -> None:
        """The last lines that a run printed, from CloudWatch into Dagster's log; nothing where they can't be read.

        Pipes' own reader of CloudWatch asks for ever once there are no more lines.
        """
        group, stream = watched.log
        if not stream:
            return
        client = boto3.client("logs", region_name=watched.meta.region_name)
        try:
            found = client.get_log_events(logGroupName=group, logStreamName=stream, limit=LOG_LINES)["events"]
        except (ClientError, BotoCoreError) as e:
            self._context.log.debug(f"{watched.what}: what it printed can't be read ({type(e).__name__}).")
            return
        if found:
            lines = "\n".join(event["message"] for event in found)
            self._context.log.info(f"{watched.what} printed, of its last {LOG_LINES} lines:\n{lines}")

    def _ended(self, order: GlueOrder, measures: SparkMeasures, watched: "_Watched") -> Exception | None:
        """Why a run has no result: its own error, which it wrote, comes first. None: it isn't about the run."""
        answer = self._answer(order, measures)
        if answer is not None and answer.error is not None:
            return answer.error
        return watched.failure()

    def _answer(self, order: GlueOrder, measures: SparkMeasures) -> GlueAnswer | None:
        try:
            answer = from_json(GlueAnswer, self._store.read(order.answer))
        except ClientError as e:
            if e.response["Error"]["Code"] != "NoSuchKey":
                raise
            return None
        measures.add(answer.measures)
        return answer


class _Messages(PipesS3MessageReader):
    """Messages in the folder of the order, where PipesS3MessageReader has the bucket's root."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        super().__init__(interval=MESSAGES_S, bucket=store.bucket, client=store.client)
        self._key = key

    @contextmanager
    def get_params(self) -> Iterator[dict[str, Any]]:
        with super().get_params() as params:
            yield {**params, "key_prefix": f"{self._key}/messages"}


class _Watched:
    """Glue's client as PipesGlueClient uses it, with errors that say what to do, and an end to every wait."""

    def __init__(self, client: Any, what: str, stop: Event, timeout_minutes: int) -> None:
        self._client, self._stop = client, stop
        self.what = f"{what} by AWS Glue"
        self._deadline = time.monotonic() + 60 * (timeout_minutes + STARTING_MINUTES)
        self._run: dict[str, Any] = {}
        self._job = ""

    @property
    def meta(self) -> Any:
        return self._client.meta

    @property
    def told(self) -> Mapping[str, Any]:
        """For evidence: of a run that ended."""
        names = {
            "Id": "job_run", "JobName": "job", "GlueVersion": "glue_version", "WorkerType": "worker_type",
            "NumberOfWorkers": "workers", "ExecutionTime": "execution_s", "DPUSeconds": "dpu_seconds",
        }  # fmt: skip
        return {ours: self._run[theirs] for theirs, ours in names.items() if self._run.get(theirs) is not None}

    @property
    def log(self) -> tuple[str, str]:
        """Group and stream in CloudWatch of what the run printed; without a run the stream is empty."""
        return f"{self._run.get('LogGroupName') or '/aws-glue/jobs'}/output", self._run.get("Id", "")

    def start_job_run(self, **arguments: Any) -> dict[str, Any]:
        """Once: an order is for one run."""
        self._job = arguments["JobName"]
        if self._stop.is_set():
            raise DagsterExecutionInterruptedError
        with self._typed():
            found: dict[str, Any] = self._client.start_job_run(**arguments)
        self._run = {"Id": found["JobRunId"], "JobRunState": "STARTING"}
        self.what = f"{self.what}, run {found['JobRunId']}"
        return found

    def get_job_run(self, **arguments: Any) -> dict[str, Any]:
        """Raises DagsterExecutionInterruptedError when the step ends early; Pipes stops the run then."""
        if self._stop.is_set():
            raise DagsterExecutionInterruptedError

        def look() -> dict[str, Any]:
            with self._typed():
                found: dict[str, Any] = self._client.get_job_run(**arguments)
                return found

        found = retry_transient(look, self.what)
        self._run = found["JobRun"]
        if self._run["JobRunState"] == "EXPIRED":  # Pipes knows no such state, and would wait for ever
            raise RestartError(f"{self.what} found no workers in time. Run again, or choose a smaller size.")
        if time.monotonic() > self._deadline and self._run["JobRunState"] in _GOES_ON:
            raise RestartError(f"{self.what} is {self._run['JobRunState']} longer than it may be. It is stopped.")
        return found

    def batch_stop_job_run(self, **arguments: Any) -> dict[str, Any]:
        with self._typed():
            found: dict[str, Any] = self._client.batch_stop_job_run(**arguments)
        self._run["JobRunState"] = "STOPPED"
        return found

    def end(self) -> None:
        """Stop a run that nobody waits for any more; it costs, and is of no use."""
        if self._run.get("JobRunState") not in _GOES_ON:
            return
        try:
            self.batch_stop_job_run(JobName=self._job, JobRunIds=[self._run["Id"]])
        except DataPipelineError as e:
            dg.get_dagster_logger().warning(f"{self.what} may still run, and couldn't be stopped: {e}")

    def failure(self) -> Exception | None:
        """Why a run that ended has no result, where it didn't say so itself."""
        state, told = self._run.get("JobRunState"), self._run.get("ErrorMessage") or "Glue gives no reason"
        if state == "TIMEOUT":
            return PermanentError(
                f"{self.what} took longer than {self._run.get('Timeout')} minutes. Choose a larger size, or raise "
                "glue.timeout_minutes in platform.yaml and run `data-pipeline glue-job`."
            )
        if state == "STOPPED":
            return PermanentError(f"{self.what} was stopped in Glue. Nothing of it is published; run again.")
        if state in ("FAILED", "ERROR"):
            return RestartError(f"{self.what} failed: {told}. Its log group in CloudWatch has the rest.")
        return None

    @contextmanager
    def _typed(self) -> Iterator[None]:
        try:
            yield
        except ClientError as e:
            code, text = e.response["Error"]["Code"], e.response["Error"].get("Message", "")
            if code == "EntityNotFoundException":
                raise PermanentError(f"Glue has no job {self._job}. Make it: `data-pipeline glue-job`.") from e
            if code in _BUSY:
                raise TransientError(f"{self.what}: Glue is busy ({code}: {text}).") from e
            raise PermanentError(f"{self.what}: Glue refuses ({code}: {text}). Check the rights and `glue`.") from e
        except BotoCoreError as e:
            raise TransientError(f"{self.what}: Glue can't be reached ({e}).") from e
