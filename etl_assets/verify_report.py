"""What `data-pipeline verify` found: one report per asset, differences with what to do next."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Difference:
    """Two places that should hold the same and don't."""

    asset: str
    partition: str | None
    what: str
    expected: str
    found: str
    advice: str

    def __str__(self) -> str:
        place = f", partition {self.partition}" if self.partition else ""
        return f"{self.asset}{place}: {self.what}: expected {self.expected}, found {self.found}. {self.advice}"


@dataclass(frozen=True)
class VerifiedPartition:
    """What was reread of one partition."""

    rows: int
    version: str
    epoch: int


@dataclass(frozen=True)
class AssetReport:
    """One asset: what was reread, with what it was compared."""

    asset: str
    compared: tuple[str, ...]
    """The stores that must agree, e.g. Iceberg, ledger."""
    partitions: Mapping[str, VerifiedPartition]
    differences: Sequence[Difference] = ()
    notes: Sequence[str] = ()
    """Not wrong, but worth knowing."""

    @property
    def rows(self) -> int:
        return sum(p.rows for p in self.partitions.values())

    def verdict(self) -> str:
        """What the comparison says in a few words."""
        if self.differences:
            return f"{len(self.differences)} difference{'' if len(self.differences) == 1 else 's'}"
        if not self.partitions:
            return "nothing published"
        return f"equal in {', '.join(self.compared[:-1])} and {self.compared[-1]}"


@dataclass(frozen=True)
class VerifyReport:
    """All assets that were asked for."""

    assets: Sequence[AssetReport]
    leftovers: Sequence[str] = field(default=())
    """Branches, staging tables and indexes whose attempt is over; recovery drops them at the next run."""

    @property
    def equal(self) -> bool:
        return not any(a.differences for a in self.assets)

    @property
    def differences(self) -> list[Difference]:
        return [d for a in self.assets for d in a.differences]

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        assets = [{**asdict(a), "rows": a.rows, "verdict": a.verdict()} for a in self.assets]
        return {"equal": self.equal, "assets": assets, "leftovers": list(self.leftovers)}

    def lines(self) -> list[str]:
        """One line per asset, then notes, then differences."""
        width = max((len(a.asset) for a in self.assets), default=0)
        lines = [
            f"{a.asset:<{width}}  {len(a.partitions):>4} partition{' ' if len(a.partitions) == 1 else 's'}"
            f"  {a.rows:>12,} row{' ' if a.rows == 1 else 's'}   {a.verdict()}"
            for a in self.assets
        ]
        lines += [f"note: {a.asset}: {note}" for a in self.assets for note in a.notes]
        lines += [f"left over: {text}" for text in self.leftovers]
        return lines + [f"different: {d}" for d in self.differences]
