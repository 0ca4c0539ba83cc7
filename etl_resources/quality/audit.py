"""Audit: what must hold of a written partition before it may be published. Read back from S3, not remembered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from etl_resources.contract import Contract
from etl_resources.engines.transform import Transform, TransformResult
from etl_resources.identifiers import quote
from etl_resources.manifest_columns import Bounds
from etl_resources.manifest_tables import Check
from etl_resources.quality.conservation import Account
from etl_resources.quality.content_hash import content_hash, engine_hash, sum_of_numbers, version_of

if TYPE_CHECKING:
    import duckdb

ROWS_ACCOUNTED, UNIQUE_KEY, STORED_CONTENT, CONTRACT_HELD, RECONCILED, WITHIN_CHANGE, CLOSED_PERIOD = (
    "rows_accounted",
    "unique_key",
    "stored_content",
    "contract_held",
    "reconciled",
    "within_change",
    "closed_period",
)
OF_ACCEPTANCE = (RECONCILED, WITHIN_CHANGE, CLOSED_PERIOD)
"""Checks that a person's acceptance may overrule."""
_OF_NUMBERS = ("rejected_share", "rejected_rows", "rows")
"""Kinds of declared checks that numbers of rows decide."""
Severity = Literal["error", "warn"]


@dataclass(frozen=True)
class Difference:
    """One group and measure that differs from what it is compared with."""

    group: str
    measure: str
    here: str | None
    there: str | None
    other: str
    """What it is compared with, e.g. in the capture."""

    def __str__(self) -> str:
        return f"{self.group}: {self.measure} {self.here} here, {self.there} {self.other}"


@dataclass(frozen=True)
class CheckResult:
    """One check of one partition."""

    name: str
    passed: bool
    severity: Severity = "error"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    differences: Sequence[Difference] = ()
    """What a comparison found, for people; the first ones."""

    @property
    def blocks(self) -> bool:
        return not self.passed and self.severity == "error"

    def __str__(self) -> str:
        details = ", ".join(f"{k} {v}" for k, v in self.metadata.items())
        return f"{self.name}: {details}"


@dataclass(frozen=True)
class StoredPartition:
    """What the files of a partition hold, as read back."""

    rows: int
    keys: int
    version: str
    digest: str = ""
    """As content_hash.engine_hash, of all rows."""


def read_back(engine: "duckdb.DuckDBPyConnection", contract: Contract, scan: str) -> StoredPartition:
    """Rows, distinct keys and version of a table expression."""
    keys = ", ".join(map(quote, contract.key))
    row = engine.execute(
        f"select count(*), count(distinct ({keys})), {content_hash(contract, 'duckdb')}, "
        f"{sum_of_numbers(engine_hash(contract))} from {scan}"
    ).fetchone()
    assert row is not None  # noqa: S101  (an aggregate without group by always returns a row)
    return StoredPartition(int(row[0]), int(row[1]), version_of(int(row[0]), row[2]), row[3])


def audit_transform(
    result: TransformResult, stored: StoredPartition, account: Account, checks: Sequence[Check]
) -> list[CheckResult]:
    """Conservation, key, stored content and the manifest's checks of numbers of rows, of one partition."""
    return [
        accounted(account),
        CheckResult(UNIQUE_KEY, stored.keys == stored.rows, metadata={"rows": stored.rows, "keys": stored.keys}),
        CheckResult(
            STORED_CONTENT,
            stored.version == result.version and result.digest in ("", stored.digest),
            metadata=_told(result, stored),
        ),
        *(_declared(check, result, account.counts["read"]) for check in checks if check.kind in _OF_NUMBERS),
    ]


def _told(result: TransformResult, stored: StoredPartition) -> dict[str, str]:
    """Versions, or what differs where only the engine's hash does."""
    if result.digest in ("", stored.digest):
        return {"written": result.version, "stored": stored.version}
    written, found = f"{result.written} rows, {result.digest}", f"{stored.rows} rows, {stored.digest}"
    return {"written": f"{written} by the engine's hash", "stored": f"{found} by the engine's hash"}


def account_of(
    result: TransformResult,
    transform: Transform,
    published: Mapping[str, int] | None = None,
    outside: Mapping[str, int] | None = None,
) -> Account:
    """What became of the rows of a transform. published: rows of the inputs' versions; omitted: those found.

    outside: of these, the rows of other days than the period's, where an input's partitions are wider.
    """
    outside = outside or {}
    inputs = {
        asset: (published[asset] - outside.get(asset, 0) if published and asset in published else found, found)
        for asset, found in result.inputs.items()
    }
    counts = {
        "read": inputs[transform.grain][0] if transform.grain is not None else result.produced,
        "written": result.written,
        "rejected": result.rejected,
        "deduplicated": result.deduplicated,
        "filtered": sum(result.filters.values()),
    }
    aggregated = transform.conserve.of if transform.conserve is not None else None
    return Account(
        counts, transform.grain, inputs, outside, result.filters, result.missed, result.reasons, result.sums, aggregated
    )


def accounted(account: Account) -> CheckResult:
    """The check of conservation."""
    return CheckResult(ROWS_ACCOUNTED, not any(account.problems()), metadata=account.metadata())


def check_name(check: Check) -> str:
    """Name under which a declared check appears."""
    if check.name is not None:
        return check.name
    if check.unique is not None:
        return "_".join(("unique", *check.unique))
    return check.sql.removesuffix(".sql").replace("-", "_") if check.sql is not None else check.kind


def _declared(check: Check, result: TransformResult, read: int) -> CheckResult:
    if check.rows is not None:
        passed = _holds(check.rows, Decimal(result.written))
        return CheckResult(check_name(check), passed, check.severity, {"rows": result.written})
    share = Decimal(result.rejected) / read if read else Decimal(0)
    metadata: dict[str, Any] = {"rejected": result.rejected, "read": read, "share": f"{share:.4f}"}
    if result.reasons:
        metadata["reasons"] = "; ".join(f"{r} ({n})" for r, n in result.reasons.items())
    limits = (check.rejected_share, share), (check.rejected_rows, Decimal(result.rejected))
    passed = all(_holds(bounds, value) for bounds, value in limits if bounds is not None)
    return CheckResult(check_name(check), passed, check.severity, metadata)


def _holds(rule: Bounds, value: Decimal) -> bool:
    bounds = {"ge": value.__ge__, "gt": value.__gt__, "le": value.__le__, "lt": value.__lt__}
    return all(
        compare(Decimal(str(bound))) for name, compare in bounds.items() if (bound := getattr(rule, name)) is not None
    )
