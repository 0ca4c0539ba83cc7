"""Computed partitions as outcomes: what failed, what must wait with it, and what a publish made of the rest."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from etl_assets.graph.closed_periods import told_restatement
from etl_assets.graph.outcome import (
    AssetIdentity,
    EventPointers,
    PartitionOutcome,
    check_events,
    materializations,
    pruned_outcome,
    raise_failures,
)
from etl_resources.dead_letters.index import WrittenLetters
from etl_resources.engines.spark_metrics import SparkMeasures, stages_table
from etl_resources.errors import PermanentError
from etl_resources.exchanged import held_back
from etl_resources.ledger.ledger import Ledger
from etl_resources.planning import Plan, PlannedPartition
from etl_resources.progress import report
from etl_resources.quality.audit import CheckResult
from etl_resources.run_token import InputVersion
from etl_resources.tables.read_volume import ReadVolume
from etl_resources.tables.table_store import WrittenPartition


@dataclass(frozen=True)
class Computed:
    """A partition that was computed: written and audited, or failed."""

    planned: PlannedPartition
    written: WrittenPartition | None
    checks: Sequence[CheckResult] = ()
    error: Exception | None = None
    letters: WrittenLetters | None = None
    """What was rejected of it."""
    measures: SparkMeasures | None = None
    """What Spark did for it; None: the embedded engine computed it."""


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
        replace(
            c,
            written=None,
            error=PermanentError(
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
        replace(
            pruned_outcome(publish, str(the_plan.pinned.get(p, "run token equals the current one"))),
            inputs=_told(the_plan, publish.inputs),
            closing=the_plan.closed.get(p),
        )
        for p, publish in the_plan.pruned.items()
    ]
    found += [PartitionOutcome(p, "failed", error=PermanentError(why)) for p, why in the_plan.refused.items()]
    for c in computed:
        if c.written is None:
            failed = PartitionOutcome(c.planned.partition, "failed", checks=c.checks, error=c.error)
            found.append(replace(failed, letters=c.letters, closing=the_plan.closed.get(failed.partition)))
            continue
        s = c.written.staged
        found.append(
            PartitionOutcome(
                s.partition,
                "published" if s.alias_of is None else "unchanged",
                s.version,
                s.token,
                _told(the_plan, c.planned.inputs),
                c.checks,
                metadata={
                    "dagster/partition_row_count": s.rows,
                    "epoch": s.epoch,
                    **{k: v for k, v in c.written.evidence.items() if k in ("engine", "size", "size_category")},
                    "stage_seconds": c.written.evidence["stage_s"],
                    **c.written.evidence["counts"],
                    "rejected_share": rejected_share(c.written.evidence["counts"]),
                    **ReadVolume(**c.written.evidence["reads"]).as_metadata(),
                    **told_measures(c.measures),
                    **c.written.evidence.get("accepted", {}),
                    **told_restatement(c.written.evidence.get("restatement")),
                },
                letters=c.letters,
                closing=the_plan.closed.get(s.partition),
            )
        )
    return sorted(found, key=lambda o: o.partition)


def told_measures(measures: SparkMeasures | None) -> dict[str, Any]:
    """Numbers, which the web UI plots over the partitions, and the longest stages as a table."""
    if measures is None or not measures.tries:
        return {}
    return {**measures.as_metadata(), "spark_stages_longest": dg.MetadataValue.md(stages_table(measures))}


def rejected_share(counts: Mapping[str, int]) -> float:
    """Of the rows read; a number, which the web UI plots over the partitions."""
    return counts["rejected"] / counts["read"] if counts["read"] else 0.0


def _told(the_plan: Plan, inputs: Sequence[InputVersion]) -> list[InputVersion]:
    """Inputs as Dagster compares them: a looked-up table by the version in which it was looked up just now."""
    return [
        the_plan.inputs[i.asset].version(i.partition) or i if i.looked_up and i.asset in the_plan.inputs else i
        for i in inputs
    ]


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


def tell(
    identity: AssetIdentity,
    asset: str,
    the_plan: Plan,
    computed: Sequence[Computed],
    batch: Any,
    ledger: Ledger,
    pointers: EventPointers,
) -> Iterator[Any]:
    """Everything that Dagster hears of a step, and the publish in its place: by the IO manager if all is good."""
    outcomes = outcomes_of(the_plan, computed)
    yield from check_events(identity, outcomes)
    for name in identity.check_names:
        yield dg.Output(None, output_name=f"{'__'.join(identity.key.path)}_{name}")
    if not any(o.error for o in outcomes):
        yield dg.Output(batch)
    elif batch is not None:
        batch.publish()
    good = [settled(outcome, batch, ledger, asset) for outcome in outcomes if outcome.error is None]
    yield from materializations(identity, good, pointers)
    report(asset, "published", partitions=len(computed), pruned=len(the_plan.pruned))
    raise_failures(asset, outcomes)
