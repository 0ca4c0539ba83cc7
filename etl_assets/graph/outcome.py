"""What became of each partition in a step, and its telling to Dagster in the order that Dagster needs.

Order (verified on Dagster 1.13): check evaluations, check outputs, the Output, then one materialization per partition:
the later event wins, so that every partition gets its own data version although the run covers a range.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from etl_assets.graph.letters_shown import letters_table
from etl_assets.graph.partitions import told
from etl_resources.calendar import WHOLE
from etl_resources.dead_letters.index import WrittenLetters
from etl_resources.errors import RetryBudgetError, TransientError
from etl_resources.io_managers.failure import end_step
from etl_resources.ledger.closings import Closing
from etl_resources.ledger.records import Publish
from etl_resources.quality.audit import ROWS_ACCOUNTED, CheckResult
from etl_resources.run_token import InputVersion


@dataclass
class PartitionOutcome:
    """One partition of one asset after its step. `error` is set where it failed; it then has no version."""

    partition: str
    status: str
    """published | unchanged | pruned | superseded | failed"""
    version: str = ""
    token: str = ""
    inputs: Sequence[InputVersion] = ()
    checks: Sequence[CheckResult] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    error: Exception | None = None
    letters: WrittenLetters | None = None
    """Its dead letters, if rows were rejected."""
    closing: Closing | None = None
    """That of a closed period."""


def pruned_outcome(publish: Publish, proof: str) -> PartitionOutcome:
    """A partition that is current already, with the proof."""
    return PartitionOutcome(
        publish.partition,
        "pruned",
        publish.version,
        publish.token,
        publish.inputs,
        metadata={"dagster/partition_row_count": publish.rows, "epoch": publish.epoch, "proof": proof},
    )


@dataclass(frozen=True)
class AssetIdentity:
    """How an asset is told to Dagster."""

    key: dg.AssetKey
    code_version: str
    check_names: Sequence[str]
    input_keys: Mapping[str, dg.AssetKey]
    """Input's name in SQL → asset key."""
    windowed: Collection[str] = ()
    """Inputs of which a partition reads others than its own."""
    columns: Callable[[], dg.TableColumnLineage | None] = lambda: None
    """What its columns are made of; called when something is told, not when definitions are loaded."""


def check_events(identity: AssetIdentity, outcomes: Sequence[PartitionOutcome]) -> Iterator[Any]:
    """One evaluation per partition and check. A check that a failed partition didn't reach has failed."""
    for outcome in outcomes:
        results = {c.name: c for c in outcome.checks}
        for name in identity.check_names:
            result = results.get(name) or CheckResult(
                name,
                passed=outcome.error is None,
                metadata={"proof": "token is current"} if outcome.error is None else {"error": str(outcome.error)},
            )
            yield dg.AssetCheckEvaluation(
                asset_key=identity.key,
                check_name=name,
                partition=told(outcome.partition),
                passed=result.passed,
                severity=dg.AssetCheckSeverity.ERROR if result.severity == "error" else dg.AssetCheckSeverity.WARN,
                blocking=result.severity == "error",
                metadata={k: _metadata(v) for k, v in {"partition": outcome.partition, **result.metadata}.items()}
                | _differences(result)
                | (_letters(outcome) if name == ROWS_ACCOUNTED else {}),
            )


EventPointers = Mapping[str, Mapping[str, int]]
"""Input's name → its partition → its newest event."""


def event_pointers(instance: dg.DagsterInstance, identity: AssetIdentity, partitions: Collection[str]) -> EventPointers:
    """Newest events of the inputs; take them before planning, so that none is newer than what was read."""
    log, kind = instance.event_log_storage, dg.DagsterEventType.ASSET_MATERIALIZATION
    newest = {r.asset_entry.asset_key: r.asset_entry.last_materialization_storage_id
              for r in log.get_asset_records(list(identity.input_keys.values()))}  # fmt: skip
    found: dict[str, dict[str, int]] = {}
    for name, key in identity.input_keys.items():
        wanted = None if name in identity.windowed else set(partitions)
        found[name] = dict(log.get_latest_storage_id_by_partition(key, kind, wanted))
        whole = newest.get(key)
        if whole is not None:
            found[name][WHOLE] = whole
    return found


def materializations(
    identity: AssetIdentity, outcomes: Sequence[PartitionOutcome], pointers: EventPointers
) -> Iterator[dg.AssetMaterialization]:
    """One event per partition. The last, by which Dagster shows the asset, tells what its columns are made of."""
    for i, outcome in enumerate(outcomes, start=1):
        event = _materialization(identity, outcome, pointers)
        if i == len(outcomes) and (columns := identity.columns()):
            event = event.with_metadata({**event.metadata, "dagster/column_lineage": columns})
        yield event


def _materialization(
    identity: AssetIdentity, outcome: PartitionOutcome, pointers: EventPointers
) -> dg.AssetMaterialization:
    """The event of a partition that is current now, with its data version and those of its inputs.

    Dagster tells whether a partition is out of date from both: input versions and pointers to the inputs' events.
    """
    tags = {"dagster/data_version": outcome.version, "dagster/code_version": identity.code_version}
    newest: dict[str, int] = {}
    for i in sorted(outcome.inputs):  # the last partition of a window names the version; Dagster keeps one
        if i.asset in identity.input_keys:
            key = identity.input_keys[i.asset].to_user_string()
            newest[key] = max(newest.get(key, 0), pointers[i.asset].get(i.partition, 0))
            tags[f"dagster/input_data_version/{key}"] = i.version
            tags[f"dagster/input_event_pointer/{key}"] = str(newest[key] or "NULL")
    return dg.AssetMaterialization(
        asset_key=identity.key,
        partition=told(outcome.partition),
        metadata={
            "status": outcome.status,
            "pruned": outcome.status == "pruned",
            "run_token": outcome.token,
            **{k: _metadata(v) for k, v in outcome.metadata.items()},
            **({"closed": str(outcome.closing)} if outcome.closing else {}),
            **_letters(outcome),
        },
        tags=tags,
    )


def raise_failures(asset: str, outcomes: Sequence[PartitionOutcome]) -> None:
    """End the step as failed when a partition failed; retried only if every failure is transient."""
    failed = [o for o in outcomes if o.error is not None]
    if not failed:
        return
    first = failed[0].error
    if isinstance(first, Exception) and all(isinstance(o.error, TransientError) for o in failed):
        end_step(next((o.error for o in failed if isinstance(o.error, RetryBudgetError)), first), first)
    lines = [f"{o.partition}: {o.error}" for o in failed[:5]]
    more = f" (and {len(failed) - 5} more)" if len(failed) > 5 else ""
    raise dg.Failure(
        description=f"{asset}: {len(failed)} of {len(outcomes)} partitions failed, the others are published{more}. "
        + " | ".join(lines),
        allow_retries=False,
    )


def _differences(result: CheckResult) -> dict[str, Any]:
    """What a comparison found, as a table."""
    if not result.differences:
        return {}
    lines = [f"| group | measure | here | {result.differences[0].other} |", "|---|---|---:|---:|"]
    lines += [f"| {d.group.replace('|', '¦')} | {d.measure} | {d.here} | {d.there} |" for d in result.differences]
    return {"differences_by_group": dg.MetadataValue.md("\n".join(lines))}


def _letters(outcome: PartitionOutcome) -> dict[str, Any]:
    """Why rows were rejected, as a table."""
    return {"dead_letters": dg.MetadataValue.md(letters_table(outcome.letters))} if outcome.letters else {}


def _metadata(value: Any) -> Any:
    return str(value) if isinstance(value, int) and abs(value) > 2**53 else value
