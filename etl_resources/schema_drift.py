"""Schema drift: the columns that a source has now, against those that are captured of it.

What is captured is the manifest's columns, and those that the mode `evolve` added since. What each mode makes of each
kind of change is docs/schema-evolution.md. No connection, no table, no file is touched here.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from etl_resources.contract import Contract, ContractColumn
from etl_resources.conventions import META_RUN_ID
from etl_resources.errors import PermanentError
from etl_resources.manifest_columns import DECIMAL
from etl_resources.manifest_types import SchemaEvolution

Kind = Literal["added", "widened", "changed", "missing", "renamed"]
Action = Literal["adopted", "left out", "read as null", "rows rejected", "refused"]
"""adopted: the table follows. left out: recorded, and not captured."""

TEXT = "text"
"""What columns of CSV and JSON are: their values are judged one by one, when they are read."""
RESERVED = ("partition", "epoch", META_RUN_ID)
"""Names that the platform gives to its own columns and folders."""
SENSITIVE = "it may hold what a sensitive column holds: declare it"
_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")


@dataclass(frozen=True)
class SourceColumn:
    """A column as the source has it."""

    shown: str
    """Its type in the source's own words."""
    type: str | None = None
    """The manifest type that is it; None: there is none, its values are read as text."""


@dataclass(frozen=True)
class SourceSchema:
    """What a source has now."""

    columns: Mapping[str, SourceColumn]
    typed: bool
    """Whether columns have types: those of a database and of Parquet do."""
    optional: bool = False
    """Whether a row may leave a column out, as JSON does."""
    lacking: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Column → objects of the delivery that lack it, while others have it."""


@dataclass(frozen=True)
class SchemaChange:
    """One difference, and what was made of it. before, after: types; of a rename, the names."""

    column: str
    kind: Kind
    action: Action
    before: str | None = None
    after: str | None = None
    note: str | None = None

    def __str__(self) -> str:
        types = {
            "added": f"{self.column} ({self.after}) is new in the source",
            "missing": f"{self.column} ({self.before}) is missing in {self.note or 'the source'}",
            "renamed": f"{self.before} is gone from the source and {self.after}, of equal type, is new",
        }
        if self.kind == "renamed" and self.action == "adopted":
            return f"{self.before} is {self.after} now"
        return types.get(self.kind, f"{self.column} is {self.after} in the source and {self.before} in the manifest")


@dataclass(frozen=True)
class Captured:
    """What is captured of a source so far."""

    contract: Contract
    """The manifest's columns, those that were widened with their wider type, and those that were added."""
    required: Mapping[str, str]
    """Column without which there are no rows → why."""
    fields: Mapping[str, str]
    """Columns that the table has, also those of former contracts → manifest type."""
    seen: Mapping[str, str] | None = None
    """Columns that the source had when it was last captured → type in its words; None: it never was."""
    left_out: Collection[str] = ()
    """Columns that appeared in the source and were left out."""


def promotes(old: str, new: str) -> bool:
    """Whether Iceberg widens a column of one manifest type to another without rewriting files."""
    before, after = DECIMAL.match(old), DECIMAL.match(new)
    if before and after:
        return before[2] == after[2] and int(before[1]) < int(after[1])
    return (old, new) == ("int", "bigint")


def fits(source: str, column: str) -> bool:
    """Whether every value of the source's type is one of the column's, digit by digit."""
    before, after = DECIMAL.match(source), DECIMAL.match(column)
    if before and after:
        whole = int(before[1]) - int(before[2])
        return int(before[2]) <= int(after[2]) and whole <= int(after[1]) - int(after[2])
    return source == column or promotes(source, column)


def find_changes(captured: Captured, now: SourceSchema, mode: SchemaEvolution | None) -> list[SchemaChange]:
    """Every difference between what is captured and what the source has, with what the mode makes of it."""
    renamed = list(_renamed(captured, now))
    unclear = {name for c in renamed if c.action == "refused" for name in (c.before, c.after)}
    others = [*_missing(captured, now, mode), *_retyped(captured, now, mode), *_added(captured, now, mode)]
    return [*renamed, *(c for c in others if c.column not in unclear)]


def refusal(source: str, mode: SchemaEvolution | None, changes: Sequence[SchemaChange]) -> PermanentError | None:
    """The one error of all refused changes; None where there are none."""
    refused = [c for c in changes if c.action == "refused"]
    if not refused:
        return None
    advice = dict.fromkeys(_ADVICE[c.kind].format(c=c) for c in refused)
    said = f" (schema_evolution: {mode})" if mode else ""
    return PermanentError(
        f"{source}: {'; '.join(map(str, refused))}. {' '.join(advice)} What is published stays as it is{said}."
    )


_ADVICE: Mapping[Kind, str] = {
    "added": "Declare {c.column} in the manifest's source, or let one run take note of it by schema_evolution: "
    "quarantine.",
    "widened": "Correct the manifest, say schema_evolution: evolve, or cast in a view.",
    "changed": "Correct the manifest, or cast in a view.",
    "missing": "Deliver {c.column} again, or take it out of the manifest; if it bears another name now, declare that "
    "one with renamed_from: {c.column}.",
    "renamed": "If it is the same column, declare {c.after} with renamed_from: {c.before}; if not, take {c.before} out "
    "of the manifest, run, and declare {c.after} then.",
}


def _renamed(captured: Captured, now: SourceSchema) -> Iterator[SchemaChange]:
    """Renames that the manifest declares; a captured column that vanished while one of equal type appeared, and nobody
    says what that means."""
    declared = {c.name: c for c in captured.contract.columns}
    for name, column in declared.items():
        if column.renamed_from in captured.fields and name not in captured.fields and name in now.columns:
            yield SchemaChange(name, "renamed", "adopted", column.renamed_from, name)
    successors = {c.renamed_from for c in declared.values()}
    seen = captured.seen or {}
    gone = {n: kind for n, kind in seen.items() if n not in now.columns and n in captured.fields}
    for new, found in now.columns.items():
        if not gone or captured.seen is None or new in seen or (new in declared and declared[new].renamed_from):
            continue
        for old, kind in gone.items():
            if kind == found.shown and old not in successors and (old in declared or new in declared):
                yield SchemaChange(new, "renamed", "refused", old, new)
                break


def _missing(captured: Captured, now: SourceSchema, mode: SchemaEvolution | None) -> Iterator[SchemaChange]:
    by_default: Action = "read as null" if now.optional else "refused"
    whole: Action = by_default if mode is None else "read as null" if mode == "evolve" else "refused"
    in_part: Action = {"evolve": "read as null", "quarantine": "rows rejected"}.get(mode or "", "refused")  # type: ignore[assignment]
    for column in captured.contract.columns:
        objects = now.lacking.get(column.name, ())
        if column.name in now.columns and not objects:
            continue
        action, note = (in_part, _listed(objects)) if objects else (whole, None)
        if column.evolved and mode != "freeze":
            action = "read as null"
        if column.name in captured.required and action == "read as null" and not (now.optional and mode is None):
            action, note = "refused", note or f"the source, and {captured.required[column.name]}"
        if column.renamed_from in now.columns and not objects:  # its values are there, and would be null here
            action, note = "refused", f"the source, which still calls it {column.renamed_from}"
        yield SchemaChange(column.name, "missing", action, column.type, None, note)


def _retyped(captured: Captured, now: SourceSchema, mode: SchemaEvolution | None) -> Iterator[SchemaChange]:
    for column in captured.contract.columns if now.typed else ():
        found, declared = now.columns.get(column.name), column.cover.source_type if column.cover else column.type
        if found is None or (found.type is not None and fits(found.type, declared)):
            continue
        widened = found.type is not None and promotes(declared, found.type)
        places = column.name == captured.contract.partition_column
        if mode == "quarantine" and not places:
            action: Action = "rows rejected"
        else:
            action = "adopted" if mode == "evolve" and widened and not column.cover else "refused"
        after = found.type if action == "adopted" else found.shown
        yield SchemaChange(column.name, "widened" if widened else "changed", action, declared, after)


def _added(captured: Captured, now: SourceSchema, mode: SchemaEvolution | None) -> Iterator[SchemaChange]:
    if captured.seen is None:
        return
    contract = captured.contract
    names = {*contract.names, *contract.dropped, *(c.renamed_from for c in contract.columns)}
    adopts = mode == "evolve" and not contract.is_sensitive
    for name, found in now.columns.items():
        if name in names or (name in captured.seen and not (adopts and name in captured.left_out)):
            continue
        if not adopts:
            action: Action = "refused" if mode == "freeze" else "left out"
            yield SchemaChange(name, "added", action, None, found.shown, SENSITIVE if mode == "evolve" else None)
            continue
        kind = found.type or "string"
        kept = captured.fields.get(name, kind)  # of a former contract
        if not _NAME.match(name) or name in RESERVED:
            yield SchemaChange(name, "added", "left out", None, found.shown, "no name for a column here")
        elif not fits(kind, kept):
            note = f"the table has a former column {name}, {kept}: rename the new one"
            yield SchemaChange(name, "added", "left out", None, found.shown, note)
        else:
            yield SchemaChange(name, "added", "adopted", None, kept)


def _listed(objects: Sequence[str]) -> str:
    more = f" and {len(objects) - 3} more" if len(objects) > 3 else ""
    return ", ".join(objects[:3]) + more


def evolved_contract(contract: Contract, evolved: Mapping[str, str]) -> Contract:
    """A contract with the columns that were widened (wider) and added (last) since. evolved: column → type.

    What was added beside sensitive columns is captured no longer: nobody declared what it holds.
    """
    declared = tuple(
        replace(c, type=evolved[c.name]) if c.name in evolved and promotes(c.type, evolved[c.name]) else c
        for c in contract.columns
    )
    renamed = {c.renamed_from for c in declared}
    added = tuple(
        ContractColumn(name, kind, description="Added by the source, not declared", evolved=True)
        for name, kind in evolved.items()
        if name not in contract.names and name not in renamed and not contract.is_sensitive
    )
    return replace(contract, columns=declared + added)
