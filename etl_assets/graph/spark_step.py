"""The transform of a table's partition where its size is Spark's; everything before and after is the same."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etl_assets.graph.closed_periods import closes_periods
from etl_assets.graph.relations import input_windows, inside, relations
from etl_assets.graph.runtime import Runtime
from etl_assets.project import TableNode
from etl_resources.business_days import DAYS, DAYS_COLUMNS
from etl_resources.calendar import PERIOD, PERIOD_COLUMNS, WHOLE, period_relation
from etl_resources.engines.glue_order import GlueOrder
from etl_resources.engines.spark_conf import GLUE
from etl_resources.engines.spark_inputs import SparkRelation, given_rows, lookup, no_rows, relation_columns, scan
from etl_resources.engines.spark_metrics import SparkMeasures
from etl_resources.engines.spark_session import spark_session
from etl_resources.engines.spark_sql import spark_condition
from etl_resources.engines.spark_store import store_arguments
from etl_resources.engines.spark_transform import SparkOutput, run_on_spark
from etl_resources.engines.transform import JUDGED, Transform, TransformResult, create_views, look_up
from etl_resources.identifiers import literal
from etl_resources.manifest_sizes import SparkSize
from etl_resources.object_store import ObjectStore
from etl_resources.planning import Plan, PlannedPartition
from etl_resources.spark_errors import spark_error
from etl_resources.windows import partitions_read

if TYPE_CHECKING:
    from collections.abc import Callable

    import dagster as dg
    import duckdb
    from pyiceberg.table import Table

    from etl_assets.graph.glue_runs import GlueRuns


class SparkTransforms:
    """The transforms of one step on Spark; several threads may run them, each its partition."""

    def __init__(
        self,
        runtime: Runtime,
        node: TableNode,
        transform: Transform,
        size: SparkSize,
        field_ids: Mapping[str, int],
        glue: "GlueRuns | None" = None,
    ) -> None:
        self._runtime, self._node, self._transform, self._size = runtime, node, transform, size
        self._field_ids, self._glue = field_ids, glue
        self._tables: dict[str, Table] = {}

    def run(
        self,
        engine: "duckdb.DuckDBPyConnection",
        the_plan: Plan,
        planned: PlannedPartition,
        folder: str,
        keep_rejected: "Callable[[duckdb.DuckDBPyConnection], Mapping[str, int]]",
        write_empty: "Callable[[], str]",
        measures: SparkMeasures,
    ) -> TransformResult:
        """As run_transform. engine: audits afterwards, and finds there what it would have found then.

        measures: what Spark does is added to it, also when it fails.
        """
        what = f"{self._node.name}, partition {planned.partition}"
        self._prepare_audit(engine, the_plan, planned)

        def keep(paths: Sequence[str]) -> Mapping[str, int]:
            files = ", ".join(map(literal, paths))
            engine.execute(f"create or replace view {JUDGED} as select * from read_parquet([{files}])")
            try:
                return keep_rejected(engine)
            finally:
                engine.execute(f"drop view {JUDGED}")
                ObjectStore.of(self._runtime.store.catalog, self._address.location).delete(paths)

        try:
            inputs, output = self._inputs(engine, the_plan, planned), self._output(folder)
            if self._glue is not None:
                return self._by_glue(self._glue, inputs, output, keep, write_empty, measures, what)
            with spark_session(self._runtime.settings, self._size, self._runtime.project.platform.spark) as spark:
                return run_on_spark(spark, self._transform, inputs, output, keep, write_empty, measures, what)
        except Exception as e:
            known = spark_error(e, what)
            if known is None or known is e:
                raise
            raise known from e

    def _by_glue(
        self,
        glue: "GlueRuns",
        inputs: Mapping[str, SparkRelation],
        output: SparkOutput,
        keep: "Callable[[Sequence[str]], Mapping[str, int]]",
        write_empty: "Callable[[], str]",
        measures: SparkMeasures,
        what: str,
    ) -> TransformResult:
        """As run_on_spark, of a Spark that is elsewhere."""
        order = GlueOrder(
            what=what,
            transform=self._transform,
            inputs=inputs,
            folder=output.folder,
            field_ids=output.field_ids,
            one_file=output.one_file,
            parts=output.parts,
            size=self._size,
            answer=f"{glue.folder(output.folder)}/answer.json",
        )
        answer, told = glue.carry_out(order, measures)
        result = answer.result
        assert result is not None  # noqa: S101  (an answer without one is an error, which was raised)
        result.paths = result.paths or (write_empty(),)
        if result.rejected:
            result.reasons = keep(answer.rejected_paths)
        result.measures, result.engine, result.job_run = measures, answer.engine, told
        return result

    @property
    def _address(self) -> Any:
        return self._runtime.addresses[self._node.name]

    def _prepare_audit(self, engine: "duckdb.DuckDBPyConnection", the_plan: Plan, planned: PlannedPartition) -> None:
        found = relations(self._runtime.project, self._node, the_plan, planned)
        looked_up = {name: e for name, e in found.items() if name in self._transform.lookups}
        create_views(engine, {name: e for name, e in found.items() if name not in looked_up})
        if self._node.contract.references or self._node.queries:
            look_up(engine, looked_up)

    def _inputs(
        self, engine: "duckdb.DuckDBPyConnection", the_plan: Plan, planned: PlannedPartition
    ) -> dict[str, SparkRelation]:
        found = {}
        if self._node.reads_days:
            days = engine.cursor().sql(f"from {self._runtime.project.business_days.relation}").fetchall()
            found[DAYS] = SparkRelation(given_rows(days, DAYS_COLUMNS), DAYS_COLUMNS)
        if planned.partition != WHOLE:
            start = self._runtime.project.platform.calendar.fiscal_year_start
            query = f"select * from {period_relation(planned.partition, start)}"  # the engines say this alike
            found[PERIOD] = SparkRelation(query, PERIOD_COLUMNS)
        windows = input_windows(self._runtime.project, self._node)
        for name in self._node.inputs:
            columns = self._columns(name)
            partitions = partitions_read(planned.inputs, name)
            query = self._scan(the_plan, name, partitions) if partitions else no_rows(columns)
            if name in windows and windows[name].reaches_out(planned.partition):
                seen = inside(self._runtime.project, name, windows[name], planned)
                query = f"select * from ({query}) where {spark_condition(seen, columns, self._node.name)}"
            found[name] = SparkRelation(query, columns)
        for table in self._node.lookups:
            source = next(i.partition for i in planned.inputs if i.asset == table.source)
            version = next(i.version for i in planned.inputs if i.asset == table.asset and i.looked_up)
            query = lookup(
                table, self._scan(the_plan, table.source, [source]), self._scan(the_plan, table.asset, [WHOLE])
            )
            found[table.name] = SparkRelation(query, relation_columns(table.contract), table.contract, version)
        return found

    def _columns(self, name: str) -> Mapping[str, str]:
        address = self._runtime.addresses[name]
        return relation_columns(address.contract, with_run_id=address.with_run_id)

    def _scan(self, the_plan: Plan, name: str, partitions: Sequence[str]) -> str:
        address, snapshot_id = self._runtime.addresses[name], the_plan.inputs[name].snapshot_id
        assert snapshot_id is not None  # noqa: S101  (a partition of it is published)
        if name not in self._tables:
            self._tables[name] = self._runtime.store.catalog.load_table(address.identifier)
        return scan(address, self._tables[name], snapshot_id, partitions)

    def _output(self, folder: str) -> SparkOutput:
        may_wait = self._node.layer == "kpi" or closes_periods(self._node)  # what waits for a person is one file
        store = store_arguments(self._runtime.settings)
        parts = self._node.dataset.runner.partition_hint
        return SparkOutput(folder, self._field_ids, store, one_file=may_wait, parts=parts)


def spark_of(
    runtime: Runtime,
    node: TableNode,
    transform: Transform,
    field_ids: Mapping[str, int],
    context: "dg.AssetExecutionContext | None",
) -> "tuple[GlueRuns | None, SparkTransforms | None]":
    """Who computes a table's partitions: the runs of Glue where they are of its job, and Spark; neither: DuckDB.

    context: of the step; Glue's runs tell Dagster by it. Raises SettingsError for a size without `glue`.
    """
    size, glue = runtime.spark_size(node), None
    if size is None:
        return None, None
    if runtime.settings.spark_master == GLUE:
        from etl_assets.graph.glue_runs import GlueRuns

        assert context is not None  # noqa: S101  (a step of Dagster's runs this)
        glue = GlueRuns(runtime, context, runtime.glue_size(node))
    return glue, SparkTransforms(runtime, node, transform, size, field_ids, glue)
