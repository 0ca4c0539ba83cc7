"""Which letters are meant: tables, partitions, rule, column, text, time, and their status."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from etl_assets.graph.runtime import Runtime
from etl_resources.calendar import WHOLE, bounds
from etl_resources.dead_letters.discards import RELATION
from etl_resources.dead_letters.letter import REASONS_SHAPE
from etl_resources.errors import PermanentError
from etl_resources.identifiers import literal
from etl_resources.suggest import hint

Status = Literal["open", "discarded", "replayed", "refused"]
"""open: rejected by what is published. discarded: so, and set aside by a person. replayed: rejected by an earlier
publish and not by the current one. refused: rejected by an attempt that wasn't published."""
STATUSES: tuple[Status, ...] = ("open", "discarded", "replayed", "refused")


@dataclass(frozen=True)
class Choice:
    """A filter; what is None doesn't restrict."""

    tables: Sequence[str] | None = None
    """Tables and targets by name, or datasets."""
    first: str | None = None
    """First period, of any kind, and …"""
    last: str | None = None
    """… the last, both included: of every partition that shares a day with them."""
    rule: str | None = None
    column: str | None = None
    text: str | None = None
    """Part of a reason, in any case."""
    since: datetime | None = None
    """Seen at this time or later."""
    letter: str | None = None
    """Beginning of a letter's identity."""

    def partition_holds(self, partition: str) -> bool:
        """Whether a partition is in the range; `all` only where it is asked for, or nothing is."""
        if WHOLE in (partition, self.first) or self.first is None:
            return self.first in (None, partition)
        start, end = bounds(partition)
        return start < bounds(self.last or self.first)[1] and bounds(self.first)[0] < end

    def condition(self) -> str:
        """DuckDB expression on a letter; one of several reasons suffices."""
        of_reason = [f"r.rule = {literal(self.rule)}"] if self.rule else []
        of_reason += [f"r.column_name = {literal(self.column)}"] if self.column else []
        of_reason += [f"contains(lower(r.reason), lower({literal(self.text)}))"] if self.text else []
        found = ["true"]
        if of_reason:
            told = f"from_json(reasons, {literal(REASONS_SHAPE)})"
            found.append(f"len(list_filter({told}, lambda r: {' and '.join(of_reason)})) > 0")
        if self.since:
            found.append(f"last_seen >= {literal(self.since.isoformat())}::timestamptz")
        if self.letter:
            found.append(f"starts_with(letter, {literal(self.letter)})")
        return " and ".join(found)

    def of_reason(self) -> str:
        """DuckDB expression on one reason `r` of a letter."""
        found = [f"r.rule = {literal(self.rule)}"] if self.rule else []
        found += [f"r.column_name = {literal(self.column)}"] if self.column else []
        found += [f"contains(lower(r.reason), lower({literal(self.text)}))"] if self.text else []
        return " and ".join(found) or "true"


def assets_of(runtime: Runtime, names: Sequence[str] | None) -> list[str]:
    """Tables and targets, in the order of the flow. Raises PermanentError for an unknown name."""
    every = list(runtime.letters_addresses)
    if not names:
        return every
    owner = {node.name: node.dataset.dataset for node in runtime.project.nodes}
    for name in names:
        if name not in every and name not in owner.values():
            raise PermanentError(f"Unknown table {name!r}; {hint(name, [*every, *dict.fromkeys(owner.values())])}.")
    return [asset for asset in every if asset in names or owner[asset] in names]


def is_discarded() -> str:
    """DuckDB expression on a letter `l`; the engine has the discarded ones (discards.load)."""
    return f"exists (select 1 from {RELATION} d where d.asset = l.asset and d.letter = l.letter)"
