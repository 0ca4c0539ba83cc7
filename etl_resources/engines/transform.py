"""Run one partition of a transform: inputs in, sorted Parquet out, every row accounted for."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from etl_resources.adjustments import SCHEMA
from etl_resources.business_days import GIVEN_COLUMNS
from etl_resources.classify import classify
from etl_resources.contract import Contract
from etl_resources.conventions import PARQUET
from etl_resources.engines.batch_function import BATCH_ROWS, produce
from etl_resources.engines.bucketed_files import write_buckets
from etl_resources.engines.spark_metrics import SparkMeasures
from etl_resources.errors import PermanentError
from etl_resources.identifiers import literal, quote, quote_qualified
from etl_resources.manifest_tables import ROWS, Conserve, Filter
from etl_resources.python_source import FRAMES, BatchFunction
from etl_resources.quality.content_hash import engine_hash, row_text, sum_of_numbers
from etl_resources.quality.rules import rejection_reasons, typed_columns
from etl_resources.tables.partitioning import Bucketing

if TYPE_CHECKING:
    import duckdb

JUDGED = "judged"
_ROWS = "judged_rows"
"""Table of JUDGED, which has a payload only where one is needed: a list of one, or null."""


@dataclass
class TransformResult:
    """Rows of one partition, by what became of them."""

    paths: tuple[str, ...]
    produced: int = 0
    rejected: int = 0
    deduplicated: int = 0
    written: int = 0
    version: str = ""
    """Of what was written; empty until what is stored is read back, where `digest` is known instead."""
    digest: str = ""
    """Of the rows to be written, by the engine's own hash (content_hash.engine_hash)."""
    inputs: dict[str, int] = field(default_factory=dict)
    """Input → rows that the SQL found in it."""
    filters: dict[str, int] = field(default_factory=dict)
    """Stated rule → rows of the grain that it leaves out."""
    missed: dict[str, int] = field(default_factory=dict)
    """Relation of a lookup → keys that found nothing."""
    sums: dict[str, tuple[Decimal, Decimal]] = field(default_factory=dict)
    """Conserved measure → its sum over the rows read, and over what was made of them."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    measures: SparkMeasures | None = None
    """What Spark did for it, over all tries; None: the embedded engine computed it."""
    engine: str = ""
    """Engine and version where they are not those of this process."""
    job_run: Mapping[str, Any] = field(default_factory=dict)
    """What the service says that it was computed by: AWS Glue's id, workers, seconds."""


@dataclass(frozen=True)
class Transform:
    """What is computed, the same for every partition."""

    asset: str
    sql: str
    contract: Contract
    grain: str | None
    """Input whose rows are the rows read; None where rows are aggregated."""
    deduplicate_by: str | None
    """Column whose newest value wins among rows of the same key; None: a duplicate key is an error, not cleaned."""
    field_ids: str
    """FIELD_IDS option of COPY."""
    filters: tuple[Filter, ...] = ()
    """Rows of the grain that the SQL leaves out, as the manifest states it."""
    conserve: Conserve | None = None
    """What an aggregate must not lose."""
    lookups: Mapping[str, str] = field(default_factory=dict)
    """Relation of a lookup → SQL that is true of a key that found nothing."""
    function: BatchFunction | None = None
    """What is made of the rows of the SQL, batch by batch."""
    buckets: Bucketing | None = None
    """How its files are split; None: one file of a partition."""


def run_transform(
    engine: "duckdb.DuckDBPyConnection",
    transform: Transform,
    inputs: Mapping[str, str],
    path: str,
    keep_rejected: Callable[["duckdb.DuckDBPyConnection"], Mapping[str, int]],
    batch_rows: int = BATCH_ROWS,
) -> TransformResult:
    """Write the good rows of one partition to `path`, or to files per bucket beside it, and hand the rejected ones to
    keep_rejected.

    inputs: name in SQL → DuckDB table expression. The file is written even without rows: it keeps the epoch.
    batch_rows: most rows that a Python function is given at once.
    """
    started = time.monotonic()
    result = TransformResult(paths=(path,))
    try:
        create_views(engine, {name: e for name, e in inputs.items() if name not in transform.lookups})
        look_up(engine, {name: e for name, e in inputs.items() if name in transform.lookups})
        _count_inputs(engine, transform, inputs, result)
        if transform.function is None:  # judged as it is made, never kept
            engine.execute(f"create or replace temp view produced as {transform.sql}")
        else:
            produce(engine, transform.asset, transform.sql, transform.function, transform.contract, batch_rows)
        _judge(engine, transform)
        result.produced = _count(engine, f"select count(*) from {JUDGED}")
        if transform.conserve is not None:
            _sum(engine, transform.conserve, result)
        result.rejected = _count(engine, f"select count(*) from {JUDGED} where len(_reasons) > 0")
        if result.rejected:
            result.reasons = keep_rejected(engine)
        _write(engine, transform, path, result)
    finally:
        engine.execute(f"drop view if exists {JUDGED}")
        engine.execute(f"drop table if exists {_ROWS}")
        engine.execute(f"drop {'view' if transform.function is None else 'table'} if exists produced")
    result.seconds = time.monotonic() - started
    return result


def create_views(engine: "duckdb.DuckDBPyConnection", inputs: Mapping[str, str]) -> None:
    """Let SQL find table expressions by their names."""
    for name, expression in inputs.items():
        schema, _, table = name.partition(".")
        engine.execute(f"create schema if not exists {quote(schema)}")
        engine.execute(f"create or replace view {quote(schema)}.{quote(table)} as select * from {expression}")


def look_up(engine: "duckdb.DuckDBPyConnection", relations: Mapping[str, str]) -> None:
    """As create_views, of lookups. Tables, not views: they are read by the SQL and counted, and found only once."""
    for name, expression in relations.items():
        engine.execute(f"create schema if not exists {quote(name.partition('.')[0])}")
        engine.execute(f"create or replace table {quote_qualified(name)} as select * from {expression}")


def _count_inputs(
    engine: "duckdb.DuckDBPyConnection", transform: Transform, inputs: Mapping[str, str], result: TransformResult
) -> None:
    """Rows of each input, keys that found nothing, and rows of the grain that the stated filters leave out."""
    for name in inputs:
        if name in transform.lookups:
            query = f"select count(*) from {quote_qualified(name)} where {transform.lookups[name]}"
            result.missed[name] = _count(engine, query)
        elif name not in GIVEN_COLUMNS and not name.startswith(f"{SCHEMA}."):
            result.inputs[name] = _count(engine, f"select count(*) from {quote_qualified(name)}")
    kept = "true"
    for rule in transform.filters if transform.grain is not None else ():
        left_out = f"coalesce(({rule.expression}\n), false)"
        grain = quote_qualified(transform.grain or "")
        result.filters[rule.name] = _count(engine, f"select count(*) from {grain} where {kept} and {left_out}")
        kept = f"{kept} and not {left_out}"


def _sum(engine: "duckdb.DuckDBPyConnection", conserve: Conserve, result: TransformResult) -> None:
    """Conserved measures over the rows read and over all that the SQL made of them, good or not."""
    for measure, column in conserve.sums.items():
        read = "count(*)" if column == ROWS else f"sum({quote(column)})"
        row = engine.execute(
            f"select (select {read} from {quote_qualified(conserve.of)}), (select sum({quote(measure)}) from {JUDGED})"
        ).fetchone()
        before, after = row or (None, None)
        result.sums[measure] = (Decimal(before or 0), Decimal(after or 0))


def _judge(engine: "duckdb.DuckDBPyConnection", transform: Transform) -> None:
    """Run the SQL: type every row, note the reasons to reject it, rank rows of one key."""
    contract = transform.contract
    produced = {name: kind for name, kind, *_ in engine.execute("describe produced").fetchall()}
    typed = ", ".join(typed_columns(transform.asset, contract, produced))
    reasons = rejection_reasons(contract, produced)
    rank = "1"
    if transform.deduplicate_by is not None:
        keys = ", ".join(map(quote, contract.key))
        newest = f"{quote(transform.deduplicate_by)} desc nulls last, md5({row_text(contract, 'duckdb')})"
        rank = f"row_number() over (partition by {keys}, len(_reasons) > 0 order by {newest})"
    engine.execute(
        f"create or replace temp table {_ROWS} as "
        f"with typed as (select {typed}, _raw as _payload from produced as _raw), "
        f"reasoned as (select typed.*, {reasons} as _reasons from typed) "
        f"select * exclude (_payload), case when len(_reasons) > 0 then [_payload] end as _payloads, "
        f"{rank} as _key_rank, {engine_hash(contract)} as _hash from reasoned"
    )
    engine.execute(
        f"create or replace temp view {JUDGED} as select * exclude (_payloads), _payloads[1] as _payload from {_ROWS}"
    )


def _write(engine: "duckdb.DuckDBPyConnection", transform: Transform, path: str, result: TransformResult) -> None:
    columns = ", ".join(map(quote, transform.contract.names))
    good = f"from {_ROWS} where len(_reasons) = 0 and _key_rank = 1"
    if transform.buckets is not None:
        result.paths = _write_buckets(engine, transform, transform.buckets, f"select {columns} {good}", path)
    if transform.buckets is None or not result.paths:
        order = ", ".join(map(quote, transform.contract.key))
        engine.execute(
            f"copy (select {columns} {good} order by {order}) to {literal(path)} "
            f"({PARQUET}, field_ids {transform.field_ids})"
        )
        result.paths = (path,)
    row = engine.execute(f"select count(*), {sum_of_numbers('_hash')} {good}").fetchone()
    assert row is not None  # noqa: S101  (an aggregate without group by always returns a row)
    result.written, result.digest = int(row[0]), row[1]
    if transform.deduplicate_by is not None:  # not by rank, of which a mistake would hide what it loses
        keys = ", ".join(map(quote, transform.contract.key))
        repeated = f"select count(*) - count(distinct ({keys})) from {JUDGED} where len(_reasons) = 0"
        result.deduplicated = _count(engine, repeated)


def _write_buckets(
    engine: "duckdb.DuckDBPyConnection", transform: Transform, buckets: Bucketing, rows: str, path: str
) -> tuple[str, ...]:
    folder, _, name = path.removesuffix(".parquet").rpartition("/")
    contract = transform.contract
    kind = next(c.type for c in contract.columns if c.name == buckets.column)
    ids, order = transform.field_ids, contract.key
    return write_buckets(engine, rows, contract.names, buckets, kind, folder, name, field_ids=ids, order=order)


def _count(engine: "duckdb.DuckDBPyConnection", query: str) -> int:
    row = engine.execute(query).fetchone()
    assert row is not None  # noqa: S101  (count always returns a row)
    return int(row[0])


def engine_name(*, spark: bool, function: BatchFunction | None = None) -> str:
    """Engine and version, for evidence: what the rows of a partition were computed by."""
    names = ["pyspark" if spark else "duckdb", *([FRAMES] if function else [])]
    return ", ".join(f"{name} {version(name)}" for name in names)


def engine_error(what: str, error: Exception) -> Exception:
    """DuckDB's error as one of ours, saying what was being done."""
    known = classify(error) or PermanentError(str(error))
    return type(known)(f"{what}: {known}")
