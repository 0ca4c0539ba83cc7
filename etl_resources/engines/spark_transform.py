"""Run one partition of a transform on Spark: as engines.transform does, on the executors.

Rows never come to the driver: a task writes what it was given and answers with paths and counts. One pass decides,
counts and writes, so that what is counted is what is written also where a part of it was computed twice.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from etl_resources.calendar import PERIOD
from etl_resources.engines.batch_function import offline_step
from etl_resources.engines.spark_inputs import SparkRelation
from etl_resources.engines.spark_judging import judged
from etl_resources.engines.spark_metrics import SparkMeasures, measuring
from etl_resources.engines.spark_sql import (
    spark_columns,
    spark_condition,
    spark_literal,
    spark_type,
    spark_view,
    to_spark,
)
from etl_resources.engines.spark_writer import BUCKET, WriterPlan, Written, task_name, write_rows
from etl_resources.engines.transform import Transform, TransformResult
from etl_resources.errors import PermanentError
from etl_resources.identifiers import quote
from etl_resources.manifest_tables import ROWS
from etl_resources.quality.content_hash import content_hash, version_of, version_of_sum
from etl_resources.tables.catalog import CATALOG_NAME

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class SparkOutput:
    """Where a partition goes."""

    folder: str
    field_ids: Mapping[str, int]
    """Of the contract's columns, in their order."""
    store: Mapping[str, Any]
    """As WriterPlan.store."""
    one_file: bool
    """Whether all good rows go into one file, as a small table's should."""
    parts: int | None = None
    """Tasks that write, each a file, or one per bucket; None: as many as Spark finds right."""

    def placing(self, keys: Sequence[str]) -> Sequence[Any]:
        """Arguments of `repartition`, by these columns."""
        return keys if self.parts is None else (self.parts, *keys)


def run_on_spark(
    spark: "SparkSession",
    transform: Transform,
    inputs: Mapping[str, SparkRelation],
    output: SparkOutput,
    keep_rejected: Callable[[Sequence[str]], Mapping[str, int]],
    write_empty: Callable[[], str],
    measures: SparkMeasures,
    what: str,
) -> TransformResult:
    """Write the good rows of one partition, and hand the paths of the rejected ones to keep_rejected.

    keep_rejected: Parquet files with the columns, _reasons and _payload → reason → rows. write_empty: makes the rowless
    file that keeps the epoch of a partition without rows. measures: what Spark did is added to it, also when it fails.
    what: the partition, for Spark's own pages. Raises PermanentError naming what doesn't carry over.
    """
    started = time.monotonic()
    with measuring(spark, what, measures), _views(spark, transform, inputs):
        result = _counted(spark, transform, inputs)
        produced = _produced(spark, transform, inputs)
        produced.createOrReplaceTempView("produced")
        rows = spark.sql(judged(transform.asset, transform.contract, dict(produced.dtypes), transform.deduplicate_by))
        sums = transform.conserve.sums if transform.conserve is not None else {}
        written = _write(rows, transform, output, tuple(sums))
    result.measures = measures
    result.produced, result.rejected = written.produced, written.rejected
    result.written, result.deduplicated = written.written, written.deduplicated
    result.version = version_of_sum(written.written, written.digits)
    for measure in sums:
        before = result.sums[measure][0]
        result.sums[measure] = (before, Decimal(written.sums.get(measure, "0")))
    result.paths = tuple(sorted(written.paths)) or (write_empty(),)
    if written.rejected:
        result.reasons = keep_rejected(written.rejected_paths)
    result.seconds = time.monotonic() - started
    return result


@contextmanager
def _views(spark: "SparkSession", transform: Transform, inputs: Mapping[str, SparkRelation]) -> Iterator[None]:
    """A view of each relation; what is looked up is found only once."""
    found = []
    try:
        for name, relation in inputs.items():
            frame = spark.sql(relation.query)
            if name in transform.lookups:
                found.append(frame.persist())
            frame.createOrReplaceTempView(spark_view(name))
        yield
    finally:
        for frame in found:
            frame.unpersist()
        for name in (*map(spark_view, inputs), "produced"):
            spark.catalog.dropTempView(name)


def _counted(spark: "SparkSession", transform: Transform, inputs: Mapping[str, SparkRelation]) -> TransformResult:
    """Rows of each input, keys that found nothing, rows of the grain that the stated filters leave out: one query."""
    result = TransformResult(paths=())
    parts = []
    for name, relation in inputs.items():
        if name in transform.lookups:
            missed = spark_condition(transform.lookups[name], relation.columns, f"{transform.asset}: {name}")
            digest = content_hash(relation.contract, "spark") if relation.contract is not None else "''"
            parts.append(
                _part("missed", name, f"count(*) filter (where {missed})", f"count(*) || '/' || {digest}", name)
            )
        elif name != PERIOD:
            parts.append(_part("input", name, "count(*)", "''", name))
    kept = "true"
    for rule in transform.filters if transform.grain is not None else ():
        grain = transform.grain or ""
        what = f"{transform.asset}: filter {rule.name}"
        left_out = f"coalesce({spark_condition(rule.expression, inputs[grain].columns, what)}, false)"
        parts.append(_part("filter", rule.name, f"count(*) filter (where {kept} and {left_out})", "''", grain))
        kept = f"{kept} and not {left_out}"
    for measure, column in transform.conserve.sums.items() if transform.conserve is not None else ():
        read = "count(*)" if column == ROWS else f"sum({quote(column)})"
        of = transform.conserve.of if transform.conserve else ""
        parts.append(_part("sum", measure, "0", f"cast({read} as string)", of))
    for kind, name, rows, told in spark.sql(" union all ".join(parts)).collect() if parts else ():
        if kind == "input":
            result.inputs[name] = int(rows)
        elif kind == "filter":
            result.filters[name] = int(rows)
        elif kind == "sum":
            result.sums[name] = (Decimal(told or 0), Decimal(0))
        else:
            result.missed[name] = int(rows)
            _prove(transform.asset, name, told, inputs[name].version)
    return result


def _part(kind: str, name: str, rows: str, told: str, view: str) -> str:
    of = f"{spark_literal(kind)} as kind, {spark_literal(name)} as name"
    return f"select {of}, {rows} as found_rows, {told} as told from {quote(spark_view(view))}"


def _prove(asset: str, name: str, told: str, planned: str | None) -> None:
    """What is looked up is what was planned with, by the other engine."""
    keys, _, digits = told.partition("/")
    if planned is not None and (found := version_of(int(keys), digits)) != planned:
        raise PermanentError(
            f"{asset}: {name} is {planned} by the plan and {found} by Spark. Nothing is published: this is a defect of "
            "the platform, or a table has several rows where a lookup needs one."
        )


def _produced(spark: "SparkSession", transform: Transform, inputs: Mapping[str, SparkRelation]) -> "DataFrame":
    relations = {name: relation.columns for name, relation in inputs.items()}
    carried = to_spark(transform.sql, relations)
    if carried.problems:
        first = carried.problems[0]
        raise PermanentError(
            f"{transform.asset}, line {first.line} of its SQL: {first.message}. "
            "Change it, or give the dataset a size without Spark."
        )
    if transform.function is None:
        return spark.sql(carried.text)
    step = offline_step(transform.asset, transform.sql, transform.function, transform.contract, relations)
    given = spark.sql(f"select {spark_columns(step.given)} from ({carried.text})")
    made = ", ".join(f"`{name}` {spark_type(kind)}" for name, kind in step.made.items())
    return given.mapInArrow(lambda batches: step.apply(batches, task_name()), made)


def _write(rows: "DataFrame", transform: Transform, output: SparkOutput, sums: tuple[str, ...]) -> Written:
    """Rows of one key, or of one bucket, to one task; files sorted by key."""
    buckets = transform.buckets
    field = buckets.field if buckets else None
    plan = WriterPlan(output.folder, uuid4().hex[:8], output.field_ids, sums, output.store, field)
    keys = [f"`{k}`" for k in transform.contract.key]
    if buckets is not None:
        bucket = f"{CATALOG_NAME}.system.bucket({buckets.count}, {quote(buckets.column)})"  # a function of Iceberg
        rows = rows.selectExpr("*", f"{bucket} as {BUCKET}")
        placed, keys = rows.repartition(*output.placing([BUCKET])), [BUCKET, *keys]
    elif output.one_file:
        placed = rows.coalesce(1)
    else:
        placed = rows if output.parts is None else rows.repartition(*output.placing(keys))
    answers = placed.sortWithinPartitions(*keys).mapInArrow(lambda batches: write_rows(plan, batches), "answer string")
    return Written.together(row.answer for row in answers.collect())
