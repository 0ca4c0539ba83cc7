"""The step of a table made from others: plan, compute partitions in parallel, audit, stage, publish, tell Dagster."""

import queue
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from etl_assets.graph.acceptance import held_note
from etl_assets.graph.adjusted import Adjuster
from etl_assets.graph.audits import audit_declared
from etl_assets.graph.bronze_table import captured_token
from etl_assets.graph.computed import Computed, hold_back_linked, tell
from etl_assets.graph.kpi_versions import logic_of, name_old_logic
from etl_assets.graph.outcome import (
    AssetIdentity,
    event_pointers,
)
from etl_assets.graph.partitions import requested
from etl_assets.graph.reconciled import Reconciler
from etl_assets.graph.rejected_limits import refused_letters
from etl_assets.graph.relations import input_windows, relations, rows_outside
from etl_assets.graph.runtime import Runtime
from etl_assets.graph.spark_step import spark_of
from etl_assets.graph.step_acceptance import StepAcceptance, same_content
from etl_assets.project import TableNode
from etl_assets.size_categories import wrong_category
from etl_assets.transforms import rows_from, transform_of
from etl_resources.classify import classify
from etl_resources.conventions import staged_folder
from etl_resources.dead_letters.index import WrittenLetters
from etl_resources.dead_letters.writing import Letters
from etl_resources.engines.embedded import connect
from etl_resources.engines.function_modules import FunctionError
from etl_resources.engines.spark_metrics import SparkMeasures
from etl_resources.engines.transform import JUDGED, TransformResult, engine_error, engine_name, run_transform
from etl_resources.errors import PermanentError
from etl_resources.extract.capture import write_empty
from etl_resources.failpoints import failpoint
from etl_resources.io_managers.failure import failing_clearly
from etl_resources.ledger.held import release
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.measures import record_measures
from etl_resources.looked_up import Lookups
from etl_resources.planning import Plan, PlannedPartition, plan, prove_unmoved
from etl_resources.progress import report
from etl_resources.quality.audit import account_of, audit_transform
from etl_resources.quality.conservation import rows_published
from etl_resources.quality.second_judge import read_result
from etl_resources.retries import retry_transient, with_retries_of_here
from etl_resources.tables.address import TableAddress
from etl_resources.tables.head import read_head
from etl_resources.tables.input_tables import PinnedTable, parquet_scan
from etl_resources.tables.partitioning import Bucketing
from etl_resources.tables.read_volume import InputSizes
from etl_resources.tables.schema import field_ids, field_numbers, read_schema
from etl_resources.tables.stage import StagedPartition
from etl_resources.tables.table_store import StagedBatch, WrittenPartition

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.table import Table


class TableStep:
    """One execution of the step of one table."""

    def __init__(
        self,
        runtime: Runtime,
        node: TableNode,
        ledger: Ledger,
        run_id: str,
        context: dg.AssetExecutionContext | None = None,
    ) -> None:
        self._runtime, self._node, self._ledger, self._run_id = runtime, node, ledger, run_id
        self._address: TableAddress = runtime.addresses[node.name]
        table = runtime.store.ensure(self._address)
        contract = node.dataset.table(node.layer)
        self._declared = contract
        self._schema = read_schema(table.schema())
        self._reconciler = Reconciler(ledger, node, runtime.project.control_sql)
        self._transform = transform_of(node, field_ids(table.schema(), self._address.columns), Bucketing.of(table))
        self._adjuster = Adjuster(runtime, ledger, node, node.adjusted, run_id) if node.adjusted else None
        self._acceptance = StepAcceptance(runtime, node, ledger, run_id, self._schema, self._reconciler, self._adjuster)
        self.letters: Letters | None = None
        self._sizes = InputSizes({})
        self._category: str | None = None
        numbers = field_numbers(table.schema(), self._address.columns)
        self._glue, self._spark = spark_of(runtime, node, self._transform, numbers, context)
        self._measures: dict[str, SparkMeasures] = {}

    def plan(self, requested: Sequence[str]) -> Plan:
        """Settle what crashed before, then plan."""
        store = self._runtime.store
        store.settle(self._ledger, self._address)
        return plan(
            self._ledger,
            asset=self._node.name,
            tenant=self._node.dataset.tenant,
            logic_version=self._node.logic_version,
            run_id=self._run_id,
            requested=requested,
            pin_inputs=lambda: {n: self._pin(n) for n in self._node.upstream},
            published_epochs=lambda: store.published_epochs(self._address),
            windows=input_windows(self._runtime.project, self._node),
            lookups=Lookups(self._node.lookups, self._engine),
            compared=self._adjuster.read if self._adjuster else self._reconciler.read,
            logic_parts=self._node.logic_parts,
            sized=self._runtime.sized(self._node),
        )

    def _pin(self, name: str) -> PinnedTable:
        """An input as it is published now. Of one with sensitive columns only what was captured by today's logic: what
        is older has other values in them, in clear, masked, or hashed by another key."""
        pinned = self._runtime.store.pin(self._ledger, self._runtime.addresses[name])
        if not self._runtime.addresses[name].contract.is_sensitive:
            return pinned
        token = partial(captured_token, self._runtime.project.tables[name])
        found = pinned.publishes.items()
        today = {p: publish for p, publish in found if not publish.rows or publish.token == token(p, publish.version)}
        return replace(pinned, publishes=today)

    def _engine(self) -> "duckdb.DuckDBPyConnection":
        size = self._runtime.size(self._node)
        return connect(self._runtime.settings, threads=size.threads, memory_mb=size.memory_mb)

    def compute(self, the_plan: Plan) -> list[Computed]:
        """All partitions, in parallel and apart from each other: one that fails doesn't hold the others."""
        size = self._runtime.size(self._node)
        self.letters, self._sizes = self._letters(the_plan), InputSizes(the_plan.inputs)
        self._category = self._wrong_category(the_plan)
        engines: queue.SimpleQueue[duckdb.DuckDBPyConnection] = queue.SimpleQueue()
        for _ in range(min(size.threads, len(the_plan.todo))):
            engines.put(connect(self._runtime.settings, threads=1, memory_mb=max(256, size.memory_mb // size.threads)))

        def one(planned: PlannedPartition) -> Computed:
            engine = engines.get()
            try:
                compute = partial(self._compute_one, engine, the_plan, planned)
                return retry_transient(compute, f"{self._node.name}, partition {planned.partition}")
            except Exception as e:
                known = classify(e)  # a library's own error concerns this partition, too
                if known is None:
                    raise
                return Computed(planned, None, error=known)
            finally:
                engines.put(engine)

        stopped = self._glue.stopped_with_step() if self._glue is not None else nullcontext()
        with ThreadPoolExecutor(size.threads) as pool, stopped:
            return hold_back_linked(list(pool.map(with_retries_of_here(one), the_plan.todo)), the_plan)

    def _wrong_category(self, the_plan: Plan) -> str | None:
        """Told with each partition that is made, where the manifest calls the input bigger or smaller than it is."""
        reads_bytes = sum(self._sizes.read_by(p.inputs).size_bytes for p in the_plan.todo)
        warning = wrong_category(self._runtime.project, self._ledger.connection, self._node, reads_bytes)
        if warning is not None:
            report(self._node.name, "size_category", warning=warning)
        return warning

    def stage(self, the_plan: Plan, computed: Sequence[Computed]) -> StagedBatch | None:
        """The good partitions on the attempt's branch."""
        if self.letters is not None:
            self.letters.commit()
        written = [c.written for c in computed if c.written is not None]
        assert the_plan.attempt is not None  # noqa: S101  (there is something to do)
        if self._node.layer == "kpi":
            replaced = [c.planned for c in computed if c.written is not None]
            name_old_logic(self._runtime.store.catalog, self._ledger, self._address, self._node, replaced)
        if not written:
            self._ledger.settle(the_plan.attempt, "failed", "no partition passed its audit")
            return None
        return self._runtime.store.stage(
            self._ledger,
            self._address,
            the_plan.attempt,
            self._run_id,
            written,
            prove=lambda head: self._prove(the_plan, head),
        )

    def _prove(self, the_plan: Plan, head: "Table") -> None:
        prove_unmoved(self._ledger, the_plan, read_head(head).keys())
        if self._adjuster is not None:
            self._adjuster.prove(head)

    def _relations(self, the_plan: Plan, planned: PlannedPartition) -> dict[str, str]:
        given = self._adjuster.relations(the_plan, planned) if self._adjuster else {}
        return {**relations(self._runtime.project, self._node, the_plan, planned), **given}

    def _compute_one(self, engine: "duckdb.DuckDBPyConnection", the_plan: Plan, planned: PlannedPartition) -> Computed:
        import duckdb

        what = f"{self._node.name}, partition {planned.partition}"
        folder = staged_folder(self._address.location, planned.partition, planned.epoch, planned.token)
        started = time.monotonic()
        try:
            result = self._transformed(engine, the_plan, planned, folder)
            failpoint("stage.file_written", what)
            scan = parquet_scan([*result.paths], self._schema)
            stored, held = read_result(engine, self._node.contract, scan, result)
            outside = rows_outside(engine, self._runtime.project, self._node, the_plan, planned)
            account = account_of(result, self._transform, rows_published(planned.inputs), outside)
            checks = audit_transform(result, stored, account, self._declared.checks)
            checks += [held, *audit_declared(engine, self._ledger, self._node, planned.partition, result, scan)]
            checks += self._reconciler.checks(engine, the_plan, planned, scan)
            judged = self._acceptance.judge(engine, the_plan, planned, result, checks)
            checks += judged.checks
            alias = judged.kept or (planned.current if same_content(planned, result) else None)
            paths = result.paths
            if alias is not None:
                paths = (self._marker(engine, planned),)
        except duckdb.Error as e:
            raise engine_error(what, e) from e
        except FunctionError as e:
            raise FunctionError(f"partition {planned.partition} of {e}") from e
        except UnicodeDecodeError as e:  # the engine's error quotes what it couldn't read
            raise PermanentError(f"{what}: a stored file was damaged or replaced while it was read. Run again.") from e
        blocked = [c for c in checks if c.blocks]
        if blocked:
            note = held_note(blocked, self._node.name, planned.partition)
            if any("rejected" in c.metadata and "share" in c.metadata for c in blocked):
                note += f" {refused_letters(self._node.name)}"
            error = PermanentError(f"{what} failed its audit: {'; '.join(map(str, blocked))}.{note}")
            return Computed(planned, None, checks, error, self._kept(planned))
        failpoint("audit.passed", what)
        version, rows = (alias.version, alias.rows) if alias else (result.version, result.written)
        epoch = alias.epoch if alias else None
        staged = StagedPartition(planned.partition, planned.token, planned.epoch, version, rows, epoch)
        evidence = {
            "counts": account.counts,
            "account": {**account.as_json(), **judged.restated(result)},
            "linked": planned.linked,
            "reads": self._sizes.read_by(planned.inputs).as_json(),
            **judged.evidence,
            **({"logic": logic_of(self._node)} if self._node.layer == "kpi" else {}),
            "engine": result.engine or engine_name(spark=self._spark is not None, function=self._node.function),
            **({"job_run": result.job_run} if result.job_run else {}),
            "size": self._runtime.sized(self._node).size,
            **({"size_category": self._category} if self._category else {}),
            "stage_s": round(time.monotonic() - started, 3),
        }
        written = WrittenPartition(staged, paths, evidence)
        return Computed(planned, written, checks, letters=self._kept(planned), measures=result.measures)

    def _transformed(
        self, engine: "duckdb.DuckDBPyConnection", the_plan: Plan, planned: PlannedPartition, folder: str
    ) -> TransformResult:
        def keep(reader: "duckdb.DuckDBPyConnection") -> Mapping[str, int]:
            return self._keep_rejected(reader, planned)

        if self._spark is not None:
            empty = partial(self._marker, engine, planned)
            measures = self._measures.setdefault(planned.partition, SparkMeasures())
            try:
                return self._spark.run(engine, the_plan, planned, folder, keep, empty, measures)
            finally:  # also of what failed, and before anything else can
                record_measures(self._ledger, the_plan.attempt or "", planned.partition, measures)
        inputs = self._relations(the_plan, planned)
        return run_transform(engine, self._transform, inputs, f"{folder}/part-0.parquet", keep)

    def _marker(self, engine: "duckdb.DuckDBPyConnection", planned: PlannedPartition) -> str:
        return write_empty(
            engine,
            self._address,
            planned.partition,
            epoch=planned.epoch,
            token=planned.token,
            field_ids=self._transform.field_ids,
        )

    def _letters(self, the_plan: Plan) -> Letters:
        attempt, source = the_plan.attempt or "", rows_from(self._node)
        return self._runtime.letters(self._ledger, self._node.name, attempt, self._run_id, source)

    def _kept(self, planned: PlannedPartition) -> WrittenLetters | None:
        return self.letters.counts(planned.partition) if self.letters else None

    def _keep_rejected(self, engine: "duckdb.DuckDBPyConnection", planned: PlannedPartition) -> Mapping[str, int]:
        assert self.letters is not None  # noqa: S101  (made before anything is computed)
        return self.letters.write(
            engine,
            JUDGED,
            self._node.contract.key,
            partition=planned.partition,
            epoch=planned.epoch,
            token=planned.token,
        )


def run_table_step(
    context: dg.AssetExecutionContext, runtime: Runtime, node: TableNode, identity: AssetIdentity
) -> Iterator[Any]:
    """The body of a table's asset."""
    with failing_clearly(context.run_id), Ledger.open(runtime.settings) as ledger:
        step = TableStep(runtime.for_run(context.run.tags), node, ledger, context.run_id, context)
        partitions = requested(context, node.dataset.partitions)
        pointers = event_pointers(context.instance, identity, partitions)
        the_plan = step.plan(partitions)
        release(ledger.connection, node.name, the_plan.pruned)
        report(node.name, "planned", todo=len(the_plan.todo), pruned=len(the_plan.pruned))
        computed = step.compute(the_plan) if the_plan.todo else []
        batch = step.stage(the_plan, computed) if computed else None
        yield from tell(identity, node.name, the_plan, computed, batch, ledger, pointers)
