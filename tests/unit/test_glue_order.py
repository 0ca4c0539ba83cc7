"""What goes to a job in AWS Glue and comes back is what was given, and the job has all that it needs."""

import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from etl_assets.project import ASSETS_FOLDER, load_project
from etl_assets.transforms import transform_of
from etl_resources.engines.glue_entry import PROVEN, prove_proven
from etl_resources.engines.glue_job import PACKAGES, code_archive, definition, run_arguments
from etl_resources.engines.glue_order import GlueAnswer, GlueOrder, from_json, to_json
from etl_resources.engines.spark_inputs import SparkRelation, relation_columns
from etl_resources.engines.transform import TransformResult
from etl_resources.errors import DataPipelineError, PermanentError, RestartError, TransientError
from etl_resources.manifest_glue import Glue
from etl_resources.manifest_runner import GlueSize
from etl_resources.manifest_sizes import SparkSize
from etl_resources.python_source import BatchFunction

FUNCTION = BatchFunction("f", "a.b", {"a.b": "def f(frame): ..."}, {"a.b": "a/b.py"}, {"polars": "1.2.3"})
SIZE = SparkSize(cores=2, memory_mb=512, shuffle_partitions=3)
ON_THE_WORKERS = {
    "pyspark",
    "py4j",
    "pandas",
    "numpy",
    "botocore",
    "s3transfer",
    "jmespath",
    "dateutil",
    "six",
    "certifi",
    "cython_runtime",
    "urllib3",
}
"""Glue's own, and what comes with boto3."""


def test_every_order_of_the_example_arrives_as_it_was_given() -> None:
    """A rule that is lost on the way would let its rows through."""
    compared = 0
    for node in load_project(ASSETS_FOLDER).tables.values():
        if node.sql is None:
            continue
        relation = SparkRelation("select 1", relation_columns(node.contract), node.contract, "1-00-h2")
        transform = replace(transform_of(node, "{a: 1}"), function=FUNCTION if compared % 2 else None)
        given = GlueOrder(
            node.name,
            transform,
            {"a.b": relation},
            "s3://b/f",
            {"a": 1},
            True,
            None if compared % 2 else 4,
            SIZE,
            "s3://b/f/answer.json",
        )
        assert from_json(GlueOrder, to_json(given)) == given
        compared += 1
    assert compared == 12


def test_a_run_brings_what_a_function_imports() -> None:
    """In the versions that are part of its logic: another one is refused where it runs."""
    size = GlueSize(worker_type="G.2X", workers=10)
    started = [run_arguments("job", Glue(role="r", settings_secret="s"), size, "c", f) for f in (None, FUNCTION)]
    modules = [a["Arguments"]["--additional-python-modules"].split(",") for a in started]
    assert modules[1] == [*modules[0], "polars==1.2.3"]
    assert (started[1]["WorkerType"], started[1]["NumberOfWorkers"]) == ("G.2X", 10)


def test_an_answer_keeps_every_digit() -> None:
    """Conserved sums are money."""
    sums = {"amount": (Decimal("12345678901234567890123456789.01"), Decimal("0.10"))}
    result = TransformResult(
        ("s3://b/f/part-0.parquet",), 3, 1, 1, 1, version="1-0f-h2", inputs={"a": 3}, filters={"r": 0}, sums=sums
    )
    given = GlueAnswer("pyspark 4.1.4", result, ("s3://b/f/rejected-0.parquet",))
    assert from_json(GlueAnswer, to_json(given)) == given


@pytest.mark.parametrize("error", [TransientError("slow"), RestartError("lost"), PermanentError("wrong")])
def test_an_error_keeps_its_kind(error: DataPipelineError) -> None:
    """It decides whether anything is tried again."""
    found = from_json(GlueAnswer, to_json(GlueAnswer.of_error("pyspark 4.1.4", error))).error
    assert (type(found), str(found)) == (type(error), str(error))


def test_the_same_code_is_the_same_archive() -> None:
    """Its name is the hash of it: another one would be written for every run."""
    assert code_archive() == code_archive()


def test_the_job_imports_nothing_that_its_runs_do_not_bring() -> None:
    """In Glue that would be found out after the workers have started."""
    code = (
        "import sys, importlib.metadata as m; before = set(sys.modules); "
        "import etl_resources.engines.glue_entry, dagster_pipes, psycopg.conninfo, pyarrow.fs, boto3; "
        "print(*{n.partition('.')[0] for n in set(sys.modules) - before})"
    )
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    brought = {p.replace("-", "_") for p in PACKAGES} | {"dotenv", "yaml", "mypy_extensions", "etl_resources", "mypyc"}
    foreign = {n for n in names if n not in sys.stdlib_module_names and not n.startswith("_")}
    assert {n for n in foreign if n not in brought and n not in ON_THE_WORKERS and "__mypyc" not in n} == set()


def test_the_job_says_nothing_secret() -> None:
    """Whoever may look at jobs sees their arguments."""
    job = definition(Glue(role="r", settings_secret="s"), "pp-dw-spark", "bucket")
    assert job["DefaultArguments"]["--settings-secret"] == "s"
    assert job["Command"]["ScriptLocation"] == "s3://bucket/etl/spark/glue/script.py"
    assert job["MaxRetries"] == 0


def test_a_spark_that_was_not_compared_computes_nothing() -> None:
    """The same token must mean the same rows."""
    for version in PROVEN:
        prove_proven(_spark(f"{version}.9"))
    with pytest.raises(PermanentError, match=r"Spark 4\.10\.1"):
        prove_proven(_spark("4.10.1"))


def _spark(version: str) -> Any:
    return SimpleNamespace(version=version)
