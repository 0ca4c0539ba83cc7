"""What was written, read back in batches and judged again: by pandera, and by the SQL of rules on several columns."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from etl_resources.contract import Contract, ContractReference
from etl_resources.engines.embedded import stream
from etl_resources.identifiers import quote, quote_qualified
from etl_resources.lookups import FOUND, relation_name
from etl_resources.quality.audit import CONTRACT_HELD, CheckResult
from etl_resources.quality.pandera_schema import pandera_schema, promises

if TYPE_CHECKING:
    import duckdb
    import polars as pl

BATCH_ROWS, BATCH_VALUES = 100_000, 5_000_000
"""Most rows and most values of a batch; one is in memory at a time."""


def judge_again(engine: "duckdb.DuckDBPyConnection", contract: Contract, scan: str) -> CheckResult:
    """Whether every row of a table expression keeps its contract: a broken promise is a mistake of the platform."""
    import polars as pl

    broken: Counter[str] = Counter()
    rows = 0
    batch_rows = max(1, min(BATCH_ROWS, BATCH_VALUES // len(contract.columns)))
    for batch in stream(engine, f"select {', '.join(map(quote, contract.names))} from {scan}", batch_rows):
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)  # noqa: S101  (a batch has columns)
        rows += len(frame)
        broken.update(_broken(contract, frame))
    asked = {rule.name: f"not ({rule.expression}\n)" for rule in contract.rules if rule.severity == "reject"}
    asked |= {f"references:{r.asset}": _unknown(r) for r in contract.references if r.severity == "reject"}
    if asked:
        counts = ", ".join(f"count(*) filter ({condition})" for condition in asked.values())
        found = engine.execute(f"select {counts} from {scan}").fetchone() or ()
        broken.update({name: n for name, n in zip(asked, found, strict=True) if n})
    metadata: dict[str, Any] = {"rows": rows}
    if broken:
        metadata["broken"] = "; ".join(f"{name} ({n})" for name, n in broken.items())
    return CheckResult(CONTRACT_HELD, not broken, metadata=metadata)


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
