"""The embedded engine inside of Spark's tasks: executors read sources by the statements that are run here otherwise.

Spark gives the tasks to executors and gives them again when one dies; what a task does is the engine's own work, so
its rows are the same by construction. What was written by a task that died is named by nobody.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from etl_resources.classify import classify
from etl_resources.engines.embedded import connect
from etl_resources.engines.spark_metrics import SparkMeasures, measuring
from etl_resources.engines.transform import engine_name
from etl_resources.errors import DataPipelineError, PermanentError, RestartError, SettingsError, TransientError
from etl_resources.settings import Settings
from etl_resources.spark_errors import spark_error

if TYPE_CHECKING:
    import duckdb
    from pyspark.sql import SparkSession

T = TypeVar("T")
R = TypeVar("R")

_KINDS: dict[str, type[DataPipelineError]] = {
    kind.__name__: kind for kind in (PermanentError, TransientError, RestartError, SettingsError)
}
"""Errors as which a task's is told here; others are told as permanent or transient ones."""


@dataclass(frozen=True)
class TaskEngine:
    """What an executor's Python needs to open an engine of its own."""

    settings: Settings = field(repr=False)
    """As Settings.of_tasks gives them."""
    memory_mb: int
    """Of each task, beside the heap of its executor; beyond it the engine spills to Spark's own folders."""

    @contextmanager
    def open(self, *extensions: str) -> "Iterator[duckdb.DuckDBPyConnection]":
        """An engine of one thread."""
        here = os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0]
        settings = self.settings.model_copy(update={"home": Path(here)}) if here else self.settings
        with connect(settings, threads=1, memory_mb=self.memory_mb, extensions=extensions) as engine:
            yield engine


@dataclass(frozen=True)
class _Answer:
    """Of one task."""

    value: Any
    failed: str | None = None
    """Kind of the error that `value` tells."""


def engine_in_tasks() -> str:
    """For evidence: whose tasks, and what reads in them, with their versions."""
    return f"{engine_name(spark=True)}, {engine_name(spark=False)}"


def run_tasks(
    spark: "SparkSession", function: Callable[[T, str], R], parts: Sequence[T], what: str, measures: SparkMeasures
) -> list[R]:
    """function(part, name) of each part, each in a task. name: of the files of one attempt at the task, no other's.

    what: how Spark's own pages call it. measures: what Spark does is added to it, also when it fails. What kills a task
    is Spark's to try again. Raises the first error that the function raised as one of ours, else TransientError or
    RestartError for what Spark gave up.
    """
    try:
        with measuring(spark, what, measures):
            given = spark.sparkContext.parallelize(parts, max(1, len(parts)))
            answers = given.mapPartitions(partial(_each, function)).collect()
    except Exception as e:
        known = spark_error(e, what)
        if known is None or known is e:
            raise
        raise known from e
    for answer in answers:
        if answer.failed is not None:
            raise _KINDS[answer.failed](answer.value)
    return [answer.value for answer in answers]


def _each(function: Callable[[T, str], R], parts: Iterable[T]) -> Iterator[_Answer]:
    """Body of a task."""
    from pyspark import TaskContext

    context = TaskContext.get()
    name = f"{context.partitionId()}-{context.taskAttemptId()}" if context is not None else "0"
    for part in parts:
        try:
            yield _Answer(function(part, name))
        except Exception as e:
            known = classify(e)
            if known is None:
                raise
            kind = next((k for k in type(known).__mro__ if k.__name__ in _KINDS), PermanentError)
            yield _Answer(str(known), kind.__name__)
