"""What must hold of a KPI's partition before it is published (M15), and what becomes of one of which it doesn't.

A partition that fails only its acceptance is held: its file stays, the differences are told, a person may accept it.
An acceptance is of exactly that token and that content, which the ordinary step then publishes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from etl_assets.account import rejected_behind
from etl_resources.failpoints import failpoint
from etl_resources.identifiers import quote
from etl_resources.ledger.held import Acceptance, Held, acceptance_of, hold
from etl_resources.ledger.ledger import Ledger
from etl_resources.manifest_tables import ChangeLimit
from etl_resources.planning import PlannedPartition
from etl_resources.quality.audit import OF_ACCEPTANCE, WITHIN_CHANGE, CheckResult
from etl_resources.quality.reconciliation import Row, within_change

if TYPE_CHECKING:
    import duckdb


def changed(engine: "duckdb.DuckDBPyConnection", limit: ChangeLimit, scan: str, published: str | None) -> CheckResult:
    """How far a partition moved from what is published of it. Both: table expressions; None: nothing is."""
    if published is None:
        return CheckResult(WITHIN_CHANGE, passed=True, metadata={"note": "nothing is published to differ from"})
    names = [*limit.by, *limit.within]
    sums = ", ".join([*map(quote, limit.by), *(f"coalesce(sum({quote(m)}), 0)" for m in limit.within)])

    def rows(side: str) -> list[Row]:
        found = engine.execute(f"select {sums} from {side} group by all").fetchall()
        return [dict(zip(names, row, strict=True)) for row in found]

    return within_change(rows(scan), rows(published), limit.by, limit.within)


def accepted_or_held(
    ledger: Ledger, planned: PlannedPartition, written: Held, checks: Sequence[CheckResult]
) -> tuple[list[CheckResult], Acceptance | None]:
    """Checks of acceptance that failed, as a person's acceptance of this content leaves them: warnings.

    Without one the partition waits from here on, visible and unpublished; its checks still block.
    """
    failed = [
        {"name": c.name, "metadata": dict(c.metadata), "differences": [asdict(d) for d in c.differences]}
        for c in checks
        if c.blocks
    ]
    held = replace(written, judged=_digest(failed))
    with ledger.alone:
        accepted = acceptance_of(ledger.connection, held)
        if accepted is not None:
            told = accepted.as_json()
            return [
                c if c.passed else replace(c, severity="warn", metadata={**c.metadata, **told}) for c in checks
            ], accepted
        findings = {"checks": failed, "rejected": rejected_behind(ledger, planned.inputs)}
        hold(ledger.connection, replace(held, findings=findings))
    failpoint("acceptance.held", written.asset)
    return list(checks), None


def _digest(failed: Sequence[Mapping[str, Any]]) -> str:
    """Of what was found, whichever capture it was found in."""
    told = [
        [check["name"], {k: v for k, v in check["metadata"].items() if k != "capture"}, check["differences"]]
        for check in failed
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def held_note(blocked: Sequence[CheckResult], asset: str, partition: str) -> str:
    """What to do about a partition that failed by these checks; nothing if they aren't of acceptance alone."""
    if not all(c.name in OF_ACCEPTANCE for c in blocked):
        return ""
    explain, publish = (f"`data-pipeline {verb} {asset} {partition}`" for verb in ("acceptance show", "accept"))
    return f" It is held: {explain} explains, {publish} publishes it."
