"""Computed partitions as outcomes: what failed, what must wait with it, and what a publish made of the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from etl_assets.graph.outcome import PartitionOutcome
from etl_resources.errors import PermanentError
from etl_resources.ledger.ledger import Ledger
from etl_resources.planning import Plan, PlannedPartition, held_back
from etl_resources.quality.audit import CheckResult
from etl_resources.tables.table_store import WrittenPartition


@dataclass(frozen=True)
class Computed:
    """A partition that was computed: written and audited, or failed."""

    planned: PlannedPartition
    written: WrittenPartition | None
    checks: Sequence[CheckResult] = ()
    error: Exception | None = None


def hold_back_linked(computed: list[Computed], the_plan: Plan) -> list[Computed]:
    """A row that moved is published in both partitions or in none."""
    failed = {c.planned.partition for c in computed if c.error is not None} | set(the_plan.refused)
    linked: dict[str, set[str]] = {}
    for c in computed:
        for other in c.planned.linked:
            linked.setdefault(c.planned.partition, set()).add(other)
            linked.setdefault(other, set()).add(c.planned.partition)
    held = held_back(linked, failed)
    return [
        Computed(
            c.planned,
            None,
            c.checks,
            PermanentError(
                f"{the_plan.asset}, partition {c.planned.partition} exchanged rows with a partition that failed."
            ),
        )
        if c.planned.partition in held and c.error is None
        else c
        for c in computed
    ]


def outcomes_of(the_plan: Plan, computed: Sequence[Computed]) -> list[PartitionOutcome]:
    """Every partition that the step saw, in order."""
    found = [
        PartitionOutcome(
            p,
            "pruned",
            publish.version,
            publish.token,
            publish.inputs,
            metadata={
                "dagster/partition_row_count": publish.rows,
                "epoch": publish.epoch,
                "proof": "run token equals the current one",
            },
        )
        for p, publish in the_plan.pruned.items()
    ]
    found += [PartitionOutcome(p, "failed", error=PermanentError(why)) for p, why in the_plan.refused.items()]
    for c in computed:
        if c.written is None:
            found.append(PartitionOutcome(c.planned.partition, "failed", checks=c.checks, error=c.error))
            continue
        s = c.written.staged
        found.append(
            PartitionOutcome(
                s.partition,
                "published" if s.alias_of is None else "unchanged",
                s.version,
                s.token,
                c.planned.inputs,
                c.checks,
                metadata={
                    "dagster/partition_row_count": s.rows,
                    "epoch": s.epoch,
                    "stage_seconds": c.written.evidence["stage_s"],
                    **c.written.evidence["counts"],
                },
            )
        )
    return sorted(found, key=lambda o: o.partition)


def settled(outcome: PartitionOutcome, batch: Any, ledger: Ledger, asset: str) -> PartitionOutcome:
    """The outcome after the publish: a fenced partition shows the newer content that won."""
    if batch is None or batch.outcome is None or outcome.partition not in batch.outcome.fenced:
        return outcome
    newest = ledger.current(asset, [outcome.partition]).get(outcome.partition)
    version = newest.version if newest else outcome.version
    return PartitionOutcome(
        outcome.partition,
        "superseded",
        version,
        newest.token if newest else outcome.token,
        newest.inputs if newest else (),
        outcome.checks,
        {"note": "a newer epoch was published first"},
    )
