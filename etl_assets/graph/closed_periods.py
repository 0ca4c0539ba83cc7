"""What late data does to a partition that somebody closed: it waits for a person, and consumers are told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from etl_assets.project import Project, TableNode
from etl_resources.contract import Contract
from etl_resources.errors import PermanentError
from etl_resources.identifiers import quote
from etl_resources.ledger.closings import Closing
from etl_resources.ledger.held import Acceptance
from etl_resources.ledger.records import Publish
from etl_resources.manifest_columns import DECIMAL
from etl_resources.manifest_tables import Derived
from etl_resources.planning import PlannedPartition
from etl_resources.quality.audit import CLOSED_PERIOD, CheckResult, Difference
from etl_resources.tables.diff import ADDED, REMOVED, RowDiff, diff_scans

if TYPE_CHECKING:
    import duckdb

ROWS_SHOWN = 20


def closes_periods(node: TableNode) -> bool:
    """Whether periods of a table may be closed."""
    table = node.dataset.table(node.layer)
    return isinstance(table, Derived) and table.period_close is not None


def late_data(node: TableNode) -> str:
    """What the manifest says of late data in a closed period. One that says nothing any more keeps what it closed."""
    table = node.dataset.table(node.layer)
    declared = table.period_close if isinstance(table, Derived) else None
    return declared.late_data if declared else "approval"


def measures(node: TableNode) -> tuple[str, ...]:
    """Columns that are told as sums: those that the manifest names, or the decimals that aren't in the key."""
    table, contract = node.dataset.table(node.layer), node.contract
    declared = table.period_close.measures if isinstance(table, Derived) and table.period_close else None
    if declared is not None:
        return declared
    return tuple(c.name for c in contract.columns if DECIMAL.match(c.type) and c.name not in contract.key)


def targets_behind(project: Project, name: str) -> list[str]:
    """Targets that are served from a table, or from what is made of it."""
    affected = {name}
    for table in project.tables.values():
        if affected & set(table.upstream):
            affected.add(table.name)
    return [node.name for node in project.serving if node.table.name in affected]


@dataclass(frozen=True)
class LateChange:
    """A closed partition that was computed again, with another content than what is published of it."""

    engine: "duckdb.DuckDBPyConnection"
    node: TableNode
    closing: Closing
    before: str
    """Table expression of what is published."""
    after: str
    """And of what was computed."""

    @property
    def _contract(self) -> Contract:
        return self.node.contract

    @cached_property
    def _found(self) -> tuple[Mapping[str, int], Sequence[RowDiff]]:
        counts, rows = diff_scans(self.engine, self._contract, self.before, self.after, ROWS_SHOWN)
        return {"rows_added": counts.added, "rows_removed": counts.removed, "rows_changed": counts.changed}, rows

    @cached_property
    def totals(self) -> Mapping[str, Mapping[str, str]]:
        """Measure → its sum before and after, as decimal text."""
        names = measures(self.node)
        if not names:
            return {}
        sums = ", ".join(f"coalesce(sum({quote(m)}), 0)::varchar" for m in names)
        found = [self.engine.execute(f"select {sums} from {side}").fetchone() for side in (self.before, self.after)]
        return {m: {"before": str(a), "after": str(b)} for m, a, b in zip(names, *map(tuple, found), strict=True)}  # type: ignore[arg-type]  # aggregates always give a row

    def check(self) -> CheckResult:
        """It blocks, until a person accepts exactly this content."""
        counts, rows = self._found
        told = {"period": str(self.closing), **counts, "differences": sum(counts.values())}
        for name, sums in self.totals.items():
            told[f"sum of {name}"] = f"{sums['before']} → {sums['after']}"
        return CheckResult(CLOSED_PERIOD, passed=False, metadata=told, differences=[*_differences(rows)])

    def restatement(
        self,
        project: Project,
        partition: str,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        accepted: Acceptance | None = None,
    ) -> dict[str, Any]:
        """What consumers are told once it is published. before, after: version, and where known epoch and rows."""
        return {
            "asset": self.node.name,
            "partition": partition,
            "late_data": late_data(self.node),
            "closed": {k: v for k, v in self.closing.as_json().items() if k not in ("asset", "partition", "attempt")},
            **(accepted.as_json() if accepted else {}),
            "before": before,
            "after": after,
            **self._found[0],
            "totals": self.totals,
            "targets": targets_behind(project, self.node.name),
        }

    def told(self) -> CheckResult:
        """As a check that holds: the closed figures stay, and the difference is booked."""
        return replace(self.check(), passed=True, differences=())


def closed_and_published(asset: str, planned: PlannedPartition, closing: Closing) -> Publish:
    """What is published of a closed partition. Raises PermanentError where the ledger lost it: nothing is made over
    it."""
    if planned.current is None:
        raise PermanentError(
            f"{asset}, partition {planned.partition} was {closing}, and the ledger lost what is published of it. "
            "Run `data-pipeline recover`."
        )
    return planned.current


def told_restatement(restatement: Mapping[str, Any] | None) -> dict[str, Any]:
    """As metadata of a materialization."""
    if restatement is None:
        return {}
    told = {k: restatement[k] for k in ("rows_added", "rows_removed", "rows_changed")}
    sums = {f"sum of {m}": f"{t['before']} → {t['after']}" for m, t in restatement["totals"].items()}
    return {"restated": restatement["late_data"], **told, **sums}


def _differences(rows: Sequence[RowDiff]) -> list[Difference]:
    found = []
    for row in rows:
        group = " / ".join(map(str, row.key.values()))
        if row.kind in (ADDED, REMOVED):
            here, there = (row.kind, None) if row.kind == ADDED else (None, "published")
            found.append(Difference(group, "row", here, there, "published"))
            continue
        found += [
            Difference(group, name, _text(new), _text(old), "published") for name, (old, new) in row.changes.items()
        ]
    return found


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
