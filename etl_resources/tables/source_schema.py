"""What a bronze table knows of its source's columns: those seen last, those that it followed, and every change.

Kept as a property of the Iceberg table, so that it is there as long as the table is, whatever becomes of the ledger.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from etl_resources.schema_drift import SchemaChange, SourceSchema
from etl_resources.tables.commit import ConflictError, retry_conflicts

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

PROPERTY = "etl.source-schema"
CHANGES_MAX = 200
"""Older ones are forgotten: every metadata file of the table carries them."""


@dataclass(frozen=True)
class RecordedChange:
    """A change as it was told when a capture met it for the first time."""

    column: str
    kind: str
    action: str
    before: str | None
    after: str | None
    note: str | None
    mode: str | None
    run_id: str
    at: str
    """UTC, ISO 8601."""

    def repeats(self, change: SchemaChange) -> bool:
        """Whether a change is this one, met again."""
        return (self.kind, self.action, self.before, self.after) == (
            change.kind, change.action, change.before, change.after,
        )  # fmt: skip


@dataclass(frozen=True)
class SchemaRecord:
    """Of one table."""

    seen: Mapping[str, str] | None = None
    """Column of the source → its type there, at the last capture; None: there was none yet. Of JSON also those that
    some row once had: it leaves out what it doesn't need."""
    evolved: Mapping[str, str] = field(default_factory=dict)
    """Column that was added or widened → manifest type."""
    changes: tuple[RecordedChange, ...] = ()

    @classmethod
    def of(cls, table: "Table") -> "SchemaRecord":
        """As the table has it; empty for a table without one."""
        text = table.properties.get(PROPERTY)
        if text is None:
            return cls()
        found = json.loads(text)
        return cls(found["seen"], found["evolved"], tuple(RecordedChange(**c) for c in found["changes"]))

    @property
    def left_out(self) -> set[str]:
        """Columns that appeared and are not captured."""
        last = {c.column: c for c in self.changes}
        return {name for name, c in last.items() if c.kind == "added" and c.action == "left out"}

    def after(
        self, now: SourceSchema, changes: Sequence[SchemaChange], mode: str | None, run_id: str
    ) -> "SchemaRecord":
        """With what a capture found. Refused: the columns seen last stay those of the last capture."""
        last = {c.column: c for c in self.changes}
        at = datetime.now(UTC).isoformat(timespec="seconds")
        new = tuple(
            RecordedChange(**asdict(c), mode=mode, run_id=run_id, at=at)
            for c in changes
            if c.column not in last or not last[c.column].repeats(c)
        )
        record = replace(self, changes=(*self.changes, *new)[-CHANGES_MAX:])
        if any(c.action == "refused" for c in changes):
            return record
        adopted = [c for c in changes if c.action == "adopted" and c.after is not None]
        names = {c.before: c.column for c in adopted if c.kind == "renamed"}
        evolved = {names.get(name, name): kind for name, kind in self.evolved.items()}
        evolved |= {c.column: str(c.after) for c in adopted if c.kind != "renamed"}
        gone = {c.column for c in changes if c.kind == "missing"} | names.keys()
        rare = {n: kind for n, kind in (self.seen or {}).items() if now.optional and n not in gone}
        return replace(record, seen=rare | {n: c.shown for n, c in now.columns.items()}, evolved=evolved)

    def text(self) -> str:
        """As `of` reads it."""
        document: dict[str, Any] = {
            "seen": self.seen,
            "evolved": self.evolved,
            "changes": [asdict(c) for c in self.changes],
        }
        return json.dumps(document, separators=(",", ":"))


def record_schema(catalog: "Catalog", identifier: str, record: SchemaRecord) -> None:
    """Write it; the last of two captures that found the same at once wins."""
    from pyiceberg.exceptions import CommitFailedException

    def once(_: int) -> None:
        try:
            with catalog.load_table(identifier).transaction() as transaction:
                transaction.set_properties({PROPERTY: record.text()})
        except CommitFailedException as e:
            raise ConflictError(f"{identifier}: the table changed while its source's columns were noted ({e}).") from e

    retry_conflicts(once)
