"""The step of a serving target: the dataset's last layer, partition by partition, into Postgres or Elasticsearch."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from etl_assets.graph.computed import Computed, hold_back_linked, tell
from etl_assets.graph.outcome import (
    AssetIdentity,
    event_pointers,
)
from etl_assets.graph.partitions import requested
from etl_assets.graph.runtime import Runtime
from etl_assets.project import ServingNode
from etl_resources.classify import classify
from etl_resources.dead_letters.writing import Letters
from etl_resources.engines.embedded import connect
from etl_resources.engines.transform import engine_error
from etl_resources.errors import PermanentError
from etl_resources.failpoints import failpoint
from etl_resources.io_managers.failure import failing_clearly
from etl_resources.ledger.ledger import Ledger
from etl_resources.planning import Plan, PlannedPartition, plan, prove_unmoved
from etl_resources.progress import report
from etl_resources.quality.audit import STORED_CONTENT, UNIQUE_KEY, CheckResult, accounted
from etl_resources.quality.conservation import Account, rows_of
from etl_resources.retries import retry_transient, with_retries_of_here
from etl_resources.sinks.serving import ServingBatch, ServingSink, StagedRows
from etl_resources.tables.read_volume import InputSizes, ReadVolume
from etl_resources.tables.stage import StagedPartition
from etl_resources.tables.table_store import WrittenPartition

if TYPE_CHECKING:
    import duckdb


def run_serving_step(
    context: dg.AssetExecutionContext, runtime: Runtime, node: ServingNode, identity: AssetIdentity
) -> Iterator[Any]:
    """The body of a serving asset."""
    with (
        failing_clearly(context.run_id),
        Ledger.open(runtime.settings) as ledger,
        runtime.sink(node).session() as sink,
    ):
        partitions = requested(context, node.table.dataset.partitions)
        sink.ensure()
        sink.settle(ledger)
        pointers = event_pointers(context.instance, identity, partitions)
        the_plan = _plan(context.run_id, partitions, runtime.for_run(context.run.tags), node, sink, ledger)
        report(node.name, "planned", todo=len(the_plan.todo), pruned=len(the_plan.pruned))
        letters = runtime.letters(ledger, node.name, the_plan.attempt or "", context.run_id, node.table.name)
        computed = _stage(runtime, ledger, sink, letters, the_plan) if the_plan.attempt else []
        batch = _batch(sink, ledger, the_plan, computed, context.run_id)
        yield from tell(identity, node.name, the_plan, computed, batch, ledger, pointers)


def _plan(
    run_id: str, partitions: Sequence[str], runtime: Runtime, node: ServingNode, sink: ServingSink, ledger: Ledger
) -> Plan:
    source = node.table.name
    return plan(
        ledger,
        sized=runtime.sized(node),
        asset=node.name,
        tenant=node.table.dataset.tenant,
        logic_version=node.logic_version,
        run_id=run_id,
        requested=partitions,
        pin_inputs=lambda: {source: runtime.store.pin(ledger, runtime.addresses[source])},
        published_epochs=sink.published_epochs,
        logic_parts=node.logic_parts,
    )


def _stage(runtime: Runtime, ledger: Ledger, sink: ServingSink, letters: Letters, the_plan: Plan) -> list[Computed]:
    assert the_plan.attempt is not None  # noqa: S101  (the caller asked)
    sink.begin(the_plan.attempt, the_plan.todo[0].epoch)
    engine, sizes = connect(runtime.settings), InputSizes(the_plan.inputs)

    def one(planned: PlannedPartition) -> Computed:
        try:
            with engine.cursor() as cursor:
                return _write(cursor, ledger, sink, letters, the_plan, planned, sizes.read_by(planned.inputs))
        except Exception as e:
            known = classify(e)  # a client's own error concerns this partition, too
            if known is None:
                raise
            return Computed(planned, None, error=known)

    with ThreadPoolExecutor(sink.writers) as pool:
        computed = list(pool.map(with_retries_of_here(one), the_plan.todo))
    letters.commit()
    return hold_back_linked(computed, the_plan)


def _write(
    engine: "duckdb.DuckDBPyConnection",
    ledger: Ledger,
    sink: ServingSink,
    letters: Letters,
    the_plan: Plan,
    planned: PlannedPartition,
    reads: ReadVolume,
) -> Computed:
    import duckdb

    assert the_plan.attempt is not None  # noqa: S101  (the caller asked)
    what, started = f"{sink.asset}, partition {planned.partition}", time.monotonic()
    (table,) = the_plan.inputs.values()

    def former() -> str | None:
        served = planned.current.inputs if planned.current is not None else ()
        return table.former_scan(ledger, served[0]) if len(served) == 1 else None

    write = partial(sink.write, engine, letters, the_plan.attempt, planned, table.scan([planned.partition]), former)
    try:
        found = retry_transient(write, what)
    except duckdb.Error as e:
        raise engine_error(what, e) from e
    return replace(_audited(sink, planned, found, reads, started), letters=letters.counts(planned.partition))


def _audited(
    sink: ServingSink, planned: PlannedPartition, found: StagedRows, reads: ReadVolume, started: float
) -> Computed:
    rows, keys, version = found.rows, found.keys, found.version
    (source,) = planned.inputs
    read, expected = rows_of(source.version), found.expected or source.version
    counts = {"read": read, "written": rows, "rejected": found.rejected, "deduplicated": 0, "filtered": 0}
    account = Account(counts, source.asset)
    checks = [
        accounted(account),
        CheckResult(UNIQUE_KEY, keys == rows, metadata={"rows": rows, "keys": keys}),
        CheckResult(STORED_CONTENT, version == expected, metadata={"written": expected, "stored": version}),
    ]
    blocked = [c for c in checks if c.blocks]
    if blocked:
        reason = "; ".join(map(str, blocked))
        error = PermanentError(f"{sink.asset}, partition {planned.partition} failed its audit: {reason}.")
        return Computed(planned, None, checks, error)
    alias = planned.current.epoch if planned.current and planned.current.version == version else None
    staged = StagedPartition(planned.partition, planned.token, planned.epoch, version, rows, alias)
    evidence = {
        "counts": counts,
        "account": account.as_json(),
        "linked": planned.linked,
        "reads": reads.as_json(),
        "size_bytes": found.size_bytes,
        "stage_s": round(time.monotonic() - started, 3),
    }
    failpoint("serving.audited", sink.asset)
    return Computed(planned, WrittenPartition(staged, (), evidence), checks)


def _batch(
    sink: ServingSink, ledger: Ledger, the_plan: Plan, computed: Sequence[Computed], run_id: str
) -> ServingBatch | None:
    if the_plan.attempt is None:
        return None
    written = [c.written for c in computed if c.written is not None]
    ledger.record_staged(the_plan.attempt, [w.recorded() for w in written])
    good = [w.staged for w in written]
    batch = ServingBatch(
        sink, ledger, the_plan.attempt, run_id, good, lambda served: prove_unmoved(ledger, the_plan, served)
    )
    if not good:
        sink.abandon(batch, "no partition passed its audit")
        return None
    return batch
