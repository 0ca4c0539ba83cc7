"""Checks on a whole partition that a manifest declares beyond numbers of rows: read back, or asked by SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from statistics import median
from typing import TYPE_CHECKING, Any

from etl_resources.calendar import WHOLE, bounds
from etl_resources.contract import Contract
from etl_resources.identifiers import quote
from etl_resources.manifest_tables import Change, Check, Freshness
from etl_resources.quality.audit import CheckResult, check_name
from etl_resources.quality.row_checks import sample_keys

if TYPE_CHECKING:
    import duckdb

HISTORY_MAX, HISTORY_MIN = 6, 3
"""Partitions before one with which its number of rows is compared; with fewer there is nothing to compare with."""


@dataclass(frozen=True)
class AuditedPartition:
    """A written partition before it is published, and what its checks need to know around it."""

    partition: str
    scan: str
    """DuckDB table expression of what was written."""
    rows: int
    earlier: Sequence[int]
    """Rows of published partitions before it, newest first."""
    today: date
    queries: Mapping[str, str]
    """Name of a check: its SQL, without a semicolon."""


def audit_partition(
    engine: "duckdb.DuckDBPyConnection", contract: Contract, checks: Sequence[Check], written: AuditedPartition
) -> list[CheckResult]:
    """One result for each check that isn't of numbers of rows alone. SQL finds its tables as views of the engine."""
    found = []
    for check in checks:
        metadata: dict[str, Any] = {}
        if check.unique is not None:
            passed = _unique(engine, check.unique, written, metadata)
        elif check.rows_change is not None:
            passed = _rows_change(check.rows_change, written, metadata)
        elif check.freshness is not None:
            passed = _fresh(engine, contract, check.freshness, written, metadata)
        elif check.sql is not None:
            passed = _nothing_found(engine, contract, written.queries[check_name(check)], metadata)
        else:
            continue
        found.append(CheckResult(check_name(check), passed, check.severity, metadata))
    return found


def _unique(
    engine: "duckdb.DuckDBPyConnection", columns: Sequence[str], written: AuditedPartition, metadata: dict[str, Any]
) -> bool:
    names = ", ".join(map(quote, columns))
    known = " and ".join(f"{quote(c)} is not null" for c in columns)
    repeated = f"select {names} from {written.scan} where {known} group by {names} having count(*) > 1"
    metadata["values"] = _count(engine, repeated)
    if metadata["values"]:
        metadata["first"] = sample_keys(engine, tuple(columns), repeated)
    return bool(metadata["values"] == 0)


def _rows_change(change: Change, written: AuditedPartition, metadata: dict[str, Any]) -> bool:
    metadata |= {"rows": written.rows, "earlier": ", ".join(map(str, written.earlier)) or "none"}
    if len(written.earlier) < HISTORY_MIN:
        metadata["note"] = f"fewer than {HISTORY_MIN} partitions before this one are published: nothing to compare with"
        return True
    middle = Decimal(median(written.earlier))
    metadata["median"] = f"{middle:f}"
    if middle == 0:
        return written.rows == 0
    share = abs(written.rows - middle) / middle
    metadata["change"] = f"{share:.4f}"
    return bool(share <= Decimal(str(change.le)))


def _fresh(
    engine: "duckdb.DuckDBPyConnection",
    contract: Contract,
    rule: Freshness,
    written: AuditedPartition,
    metadata: dict[str, Any],
) -> bool:
    stamp = any(c.name == rule.column and c.type == "timestamptz" for c in contract.columns)
    day = f"({quote(rule.column)} at time zone 'UTC')::date" if stamp else quote(rule.column)
    row = engine.execute(f"select max({day}) from {written.scan}").fetchone()
    newest = row[0] if row else None
    end = written.today
    if written.partition != WHOLE:
        end = min(end, bounds(written.partition)[1] - timedelta(days=1))
    metadata |= {"newest": str(newest), "until": str(end), "within_days": rule.within_days}
    if newest is None:
        return False
    metadata["days"] = (end - newest).days
    return bool(metadata["days"] <= rule.within_days)


def _nothing_found(engine: "duckdb.DuckDBPyConnection", contract: Contract, sql: str, metadata: dict[str, Any]) -> bool:
    metadata["rows"] = _count(engine, sql)
    if metadata["rows"]:
        names = [name for name, *_ in engine.execute(f"describe {sql}").fetchall()]
        key = tuple(k for k in contract.key if k in names)
        if key:
            metadata["keys"] = sample_keys(engine, key, sql)
    return bool(metadata["rows"] == 0)


def _count(engine: "duckdb.DuckDBPyConnection", query: str) -> int:
    row = engine.execute(f"select count(*) from ({query}\n)").fetchone()
    return int(row[0]) if row else 0
