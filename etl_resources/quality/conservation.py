"""Conservation (M12): every row read is written, rejected, deduplicated or left out by a stated rule, at every hop.

Nothing here is a difference of the other numbers: each is counted by itself, so that a row that is lost is missed.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from etl_resources.run_token import ABSENT, InputVersion

COUNTS = ("read", "written", "rejected", "deduplicated", "filtered")
"""read is the sum of the others."""


@dataclass(frozen=True)
class Account:
    """What became of the rows of one partition at one hop."""

    counts: Mapping[str, int]
    """COUNTS → rows; of an aggregate its groups."""
    grain: str | None = None
    """Input whose rows are `read`; None where rows are aggregated."""
    inputs: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Input → (rows of the versions that were read, as published, without those outside of the period; rows found)."""
    outside: Mapping[str, int] = field(default_factory=dict)
    """Input → published rows of partitions that are wider than the period, of other days than the period's."""
    filters: Mapping[str, int] = field(default_factory=dict)
    """Stated rule → rows that it leaves out, the first rule of a row."""
    missed: Mapping[str, int] = field(default_factory=dict)
    """Table that is looked up → keys that found nothing."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Reason → rejected rows."""
    sums: Mapping[str, tuple[Decimal, Decimal]] = field(default_factory=dict)
    """Measure that an aggregate conserves → (sum over the rows read, sum over the groups)."""
    aggregated: str | None = None
    """Input of whose rows those are the sums."""

    @property
    def lost(self) -> int:
        """Rows that were read and are nowhere; negative: rows that nobody read."""
        return self.counts["read"] - sum(self.counts[c] for c in COUNTS[1:])

    def problems(self) -> Iterator[str]:
        """Where rows were lost, or came from nowhere, and how many."""
        if self.lost:
            yield (
                f"{self.lost} of {self.counts['read']} rows are lost"
                if self.lost > 0
                else (f"{-self.lost} rows more than were read")
            )
        for asset, (published, found) in self.inputs.items():
            if published != found:
                yield f"{found} rows found in {asset}, of which {published} are published"
        for measure, (read, grouped) in self.sums.items():
            if read != grouped:
                yield f"{measure} is {read} over the rows read and {grouped} over the groups"

    def metadata(self) -> dict[str, Any]:
        """For the check: flat, only what there is to tell."""
        told: dict[str, Any] = dict(self.counts)
        told |= {f"rows of {asset}": found for asset, (_, found) in self.inputs.items()}
        told |= {f"rows of {asset} outside of the period": rows for asset, rows in self.outside.items()}
        told |= {f"filtered by {rule}": rows for rule, rows in self.filters.items()}
        told |= {f"not found in {table}": keys for table, keys in self.missed.items()}
        told |= {f"sum of {measure}": str(grouped) for measure, (_, grouped) in self.sums.items()}
        if self.reasons:
            told["reasons"] = "; ".join(f"{reason} ({rows})" for reason, rows in self.reasons.items())
        if problems := list(self.problems()):
            told["problem"] = "; ".join(problems)
        return told

    def as_json(self) -> dict[str, Any]:
        """As the ledger keeps it beside the counts."""
        return {
            "grain": self.grain,
            "inputs": {asset: list(pair) for asset, pair in self.inputs.items()},
            **({"outside": dict(self.outside)} if self.outside else {}),
            "filters": dict(self.filters),
            "missed": dict(self.missed),
            "reasons": dict(self.reasons),
            "aggregated": self.aggregated,
            "sums": {measure: [str(n) for n in pair] for measure, pair in self.sums.items()},
        }

    @classmethod
    def of(cls, counts: Mapping[str, int], kept: Mapping[str, Any] | None) -> "Account":
        """From the ledger's counts and what it kept beside them; None: published before that was kept."""
        kept = kept or {}
        return cls(
            {c: int(counts.get(c, 0)) for c in COUNTS},
            kept.get("grain"),
            {asset: (int(a), int(b)) for asset, (a, b) in kept.get("inputs", {}).items()},
            kept.get("outside", {}),
            kept.get("filters", {}),
            kept.get("missed", {}),
            kept.get("reasons", {}),
            {measure: (Decimal(a), Decimal(b)) for measure, (a, b) in kept.get("sums", {}).items()},
            kept.get("aggregated"),
        )


def rows_published(inputs: Iterable[InputVersion]) -> dict[str, int]:
    """Input → rows of exactly the versions that a partition reads of it. What is looked up is read by key."""
    found: dict[str, int] = {}
    for i in inputs:
        if not i.looked_up:
            found[i.asset] = found.get(i.asset, 0) + (0 if i.version == ABSENT else rows_of(i.version))
    return found


def rows_of(version: str) -> int:
    """Rows of a content, which its version begins with."""
    return int(version.partition("-")[0])
