"""Counts the written rows that break a rule which doesn't reject: read back from storage, with a few of their keys."""

from typing import TYPE_CHECKING, Any

from etl_resources.contract import Contract
from etl_resources.identifiers import quote
from etl_resources.quality.audit import CheckResult
from etl_resources.quality.declared_checks import RowCheck, row_checks

if TYPE_CHECKING:
    import duckdb

SAMPLES = 5
"""Keys that a check shows of the rows that it found."""


def audit_rows(engine: "duckdb.DuckDBPyConnection", contract: Contract, scan: str) -> list[CheckResult]:
    """One result per rule of severity warn or error, over a table expression of the written rows."""
    checks = list(row_checks(contract))
    if not checks:
        return []
    counted = ", ".join(f"count(*) filter ({_broken(check)})" for check in checks)
    counts = engine.execute(f"select {counted} from {scan}").fetchone() or ()
    return [_result(engine, contract, scan, check, int(n)) for check, n in zip(checks, counts, strict=True)]


def sample_keys(engine: "duckdb.DuckDBPyConnection", key: tuple[str, ...], rows: str) -> str:
    """Keys of the first few rows of a query, by key: one JSON object a row, never a whole payload."""
    struct, order = ", ".join(f"{quote(k)} := {quote(k)}" for k in key), ", ".join(map(quote, key))
    found = engine.execute(
        f"select to_json(struct_pack({struct}))::varchar from ({rows}\n) order by {order} limit {SAMPLES}"
    ).fetchall()
    return "; ".join(text for (text,) in found)


def _result(
    engine: "duckdb.DuckDBPyConnection", contract: Contract, scan: str, check: RowCheck, count: int
) -> CheckResult:
    metadata: dict[str, Any] = {"rows": count}
    if count:
        metadata["keys"] = sample_keys(engine, contract.key, f"select * from {scan} where {_broken(check)}")
    return CheckResult(check.told.name, count == 0, check.told.severity, metadata)


def _broken(check: RowCheck) -> str:
    return " or ".join(f"coalesce({c.broken}, false)" for c in check.conditions)
