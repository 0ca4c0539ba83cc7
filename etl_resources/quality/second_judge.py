"""What was written, read back once, in batches: its content, and its contract judged again.

The second judge is pandera, and the SQL of rules on several columns.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any

from etl_resources.contract import Contract, ContractReference
from etl_resources.engines.embedded import stream
from etl_resources.engines.transform import TransformResult
from etl_resources.identifiers import quote, quote_qualified
from etl_resources.lookups import FOUND, relation_name
from etl_resources.quality.audit import CONTRACT_HELD, CheckResult, StoredPartition
from etl_resources.quality.content_hash import digits_of_sum, engine_hash, row_digest, version_of_sum
from etl_resources.quality.pandera_schema import pandera_schema, promises
from etl_resources.quality.row_digests import sum_of_column, sum_of_digests

if TYPE_CHECKING:
    import duckdb
    import polars as pl

BATCH_ROWS, BATCH_VALUES = 100_000, 5_000_000
"""Most rows and most values of a batch; one is in memory at a time."""


def read_again(
    engine: "duckdb.DuckDBPyConnection", contract: Contract, scan: str
) -> tuple[StoredPartition, CheckResult]:
    """What a table expression holds (as audit.read_back), and whether every row keeps its contract.

    A broken promise is a mistake of the platform.
    """
    import polars as pl

    broken: Counter[str] = Counter()
    rows = numbers = hashes = ascending = 0
    batch_rows = max(1, min(BATCH_ROWS, BATCH_VALUES // len(contract.columns)))
    for batch in stream(engine, _numbered(contract, scan), batch_rows):
        rows += batch.num_rows
        numbers += sum_of_digests(batch.column("_digest"))
        hashes += sum_of_column(batch.column("_hash"))
        ascending += sum_of_column(batch.column("_ascends"))
        frame = pl.from_arrow(batch.select(contract.names))
        assert isinstance(frame, pl.DataFrame)  # noqa: S101  (a batch has columns)
        broken.update(_broken(contract, frame))
    keys = rows if 0 < ascending == rows - 1 else _distinct_keys(engine, contract, scan)
    stored = StoredPartition(rows, keys, version_of_sum(rows, numbers), digits_of_sum(hashes))
    broken.update(_broken_by_sql(engine, contract, scan))
    metadata: dict[str, Any] = {"rows": rows}
    if broken:
        metadata["broken"] = "; ".join(f"{name} ({n})" for name, n in broken.items())
    return stored, CheckResult(CONTRACT_HELD, not broken, metadata=metadata)


def read_result(
    engine: "duckdb.DuckDBPyConnection", contract: Contract, scan: str, result: TransformResult
) -> tuple[StoredPartition, CheckResult]:
    """read_again of what a transform wrote. Its version, where the transform didn't compute it, is that of what is
    stored; the audit compares the hashes of the engine."""
    stored, held = read_again(engine, contract, scan)
    result.version = result.version or stored.version
    return stored, held


def _numbered(contract: Contract, scan: str) -> str:
    """Query: the rows, each with both of its hashes, and whether its key is above that of the row before."""
    key = ", ".join(map(quote, contract.key))
    before = ", ".join(f"lag({quote(k)}) over ()" for k in contract.key)
    return (
        f"select {', '.join(map(quote, contract.names))}, {row_digest(contract)} as _digest, "
        f"{engine_hash(contract)} as _hash, coalesce(({key}) > ({before}), false)::utinyint as _ascends from {scan}"
    )


def _distinct_keys(engine: "duckdb.DuckDBPyConnection", contract: Contract, scan: str) -> int:
    keys = ", ".join(map(quote, contract.key))
    row = engine.execute(f"select count(distinct ({keys})) from {scan}").fetchone()
    assert row is not None  # noqa: S101  (count always returns a row)
    return int(row[0])


def _broken_by_sql(engine: "duckdb.DuckDBPyConnection", contract: Contract, scan: str) -> dict[str, int]:
    """Broken rule on several columns, or reference → rows."""
    asked = {rule.name: f"not ({rule.expression}\n)" for rule in contract.rules if rule.severity == "reject"}
    asked |= {f"references:{r.asset}": _unknown(r) for r in contract.references if r.severity == "reject"}
    if not asked:
        return {}
    counts = ", ".join(f"count(*) filter ({condition})" for condition in asked.values())
    found = engine.execute(f"select {counts} from {scan}").fetchone() or ()
    return {name: n for name, n in zip(asked, found, strict=True) if n}


def _unknown(reference: ContractReference) -> str:
    """DuckDB condition: the key is whole, and was not found."""
    key = ", ".join(map(quote, reference.columns))
    known = " and ".join(f"{quote(c)} is not null" for c in reference.columns)
    relation = quote_qualified(relation_name(reference.asset))
    return f"{known} and ({key}) not in (select ({key}) from {relation} where {FOUND})"


def _broken(contract: Contract, frame: "pl.DataFrame") -> dict[str, int]:
    """Broken promise → rows; a column of another type breaks it in all rows."""
    from pandera.config import ValidationDepth, config_context
    from pandera.errors import SchemaError, SchemaErrorReason

    try:
        with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            pandera_schema(contract).validate(frame)
    except SchemaError as e:
        if e.reason_code is not SchemaErrorReason.DATAFRAME_CHECK:
            return {str(e).splitlines()[0]: len(frame)}
        found: Counter[str] = Counter()
        for name, keeps in promises(contract):
            found[name] += frame.select((~keeps).sum()).item()
        return {name: rows for name, rows in found.items() if rows}
    return {}
