"""Run one partition of a SQL transform: inputs in, one sorted Parquet file out, every row accounted for."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from etl_resources.classify import classify
from etl_resources.contract import Contract
from etl_resources.errors import PermanentError
from etl_resources.identifiers import literal, quote
from etl_resources.quality.content_hash import content_hash, row_text, version_of
from etl_resources.quality.rules import rejection_reasons, typed_columns

if TYPE_CHECKING:
    import duckdb

JUDGED = "judged"


@dataclass
class TransformResult:
    """Rows of one partition, by what became of them."""

    path: str
    read: int = 0
    produced: int = 0
    rejected: int = 0
    deduplicated: int = 0
    written: int = 0
    version: str = ""
    reasons: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def filtered(self) -> int:
        """Rows that the SQL left out on purpose; negative when it made more rows than it read."""
        return self.read - self.produced


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


def run_transform(
    engine: "duckdb.DuckDBPyConnection",
    transform: Transform,
    inputs: Mapping[str, str],
    path: str,
    keep_rejected: Callable[["duckdb.DuckDBPyConnection"], Mapping[str, int]],
) -> TransformResult:
    """Write the good rows of one partition to `path` and hand the rejected ones to keep_rejected.

    inputs: name in SQL → DuckDB table expression. The file is written even without rows: it keeps the epoch.
    """
    started = time.monotonic()
    result = TransformResult(path=path)
    try:
        create_views(engine, inputs)
        if transform.grain is not None:
            result.read = _count(engine, f"select count(*) from {transform.grain}")
        engine.execute(f"create or replace temp table produced as {transform.sql}")
        result.produced = _count(engine, "select count(*) from produced")
        _judge(engine, transform)
        result.rejected = _count(engine, f"select count(*) from {JUDGED} where len(_reasons) > 0")
        if result.rejected:
            result.reasons = keep_rejected(engine)
        _write(engine, transform, path, result)
    finally:
        engine.execute(f"drop table if exists {JUDGED}")
        engine.execute("drop table if exists produced")
    result.seconds = time.monotonic() - started
    return result


def create_views(engine: "duckdb.DuckDBPyConnection", inputs: Mapping[str, str]) -> None:
    """Let SQL find table expressions by their names."""
    for name, expression in inputs.items():
        schema, _, table = name.partition(".")
        engine.execute(f"create schema if not exists {quote(schema)}")
        engine.execute(f"create or replace view {quote(schema)}.{quote(table)} as select * from {expression}")


def _judge(engine: "duckdb.DuckDBPyConnection", transform: Transform) -> None:
    """Type every row, note the reasons to reject it, rank rows of one key."""
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
        f"create or replace temp table {JUDGED} as "
        f"with typed as (select {typed}, _raw as _payload from produced as _raw), "
        f"reasoned as (select typed.*, {reasons} as _reasons from typed) "
        f"select * replace (case when len(_reasons) > 0 then _payload end as _payload), {rank} as _key_rank "
        "from reasoned"
    )


def _write(engine: "duckdb.DuckDBPyConnection", transform: Transform, path: str, result: TransformResult) -> None:
    columns = ", ".join(map(quote, transform.contract.names))
    good = f"from {JUDGED} where len(_reasons) = 0 and _key_rank = 1"
    order = ", ".join(map(quote, transform.contract.key))
    engine.execute(
        f"copy (select {columns} {good} order by {order}) to {literal(path)} "
        f"(format parquet, compression zstd, field_ids {transform.field_ids})"
    )
    row = engine.execute(f"select count(*), {content_hash(transform.contract, 'duckdb')} {good}").fetchone()
    assert row is not None  # noqa: S101  (an aggregate without group by always returns a row)
    result.written, result.version = int(row[0]), version_of(int(row[0]), row[1])
    result.deduplicated = result.produced - result.rejected - result.written


def _count(engine: "duckdb.DuckDBPyConnection", query: str) -> int:
    row = engine.execute(query).fetchone()
    assert row is not None  # noqa: S101  (count always returns a row)
    return int(row[0])


def engine_error(what: str, error: Exception) -> Exception:
    """DuckDB's error as one of ours, saying what was being done."""
    known = classify(error) or PermanentError(str(error))
    return type(known)(f"{what}: {known}")
