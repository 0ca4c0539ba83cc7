"""The whole project, read and resolved: what the graph and the CLI work from. No Dagster, no data."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from etl_assets.capture_grains import Capture, captures_of
from etl_assets.project_adjustments import period_close
from etl_assets.project_checks import manifest_errors
from etl_assets.project_files import ProjectFiles, read_files
from etl_assets.project_resolve import TableDraft, resolve_lookups, resolve_references, resolve_tables
from etl_assets.project_sensitive_checks import sensitive_errors
from etl_assets.project_spark_checks import spark_errors
from etl_assets.project_sql_checks import sql_errors
from etl_assets.reconciliations import reconciliations
from etl_assets.sensitive_columns import Marks, sensitive_columns
from etl_resources.adjustments import Adjusted
from etl_resources.business_days import DAYS, BusinessDays
from etl_resources.calendar import WHOLE, Every
from etl_resources.contract import Contract
from etl_resources.errors import ManifestErrors, SettingsError
from etl_resources.logic_version import serving_logic, table_logic
from etl_resources.lookups import LookupTable
from etl_resources.manifest import Dataset, Platform
from etl_resources.manifest_sources import PostgresSource
from etl_resources.manifest_tables import Window
from etl_resources.manifest_targets import AnyTarget
from etl_resources.python_source import BatchFunction
from etl_resources.quality.audit import RECONCILED, check_name
from etl_resources.sensitive import HashKey, hashes
from etl_resources.settings import load_settings

ASSETS_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class TableNode:
    """One table of the flow: a layer of a dataset with its contract, transform and inputs."""

    layer: str
    """bronze, silver, gdp or kpi."""
    dataset: Dataset
    contract: Contract
    sql: str | None
    """None for bronze."""
    inputs: tuple[str, ...]
    """Names of the tables that the SQL reads, in order of first use; () for bronze."""
    logic_version: str
    windows: Mapping[str, Window]
    """Inputs that are read in another window than the same period."""
    lookups: tuple[LookupTable, ...] = ()
    """Tables of which it reads only the rows that it looks up, or the keys to which it refers."""
    queries: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Name of a check: its SQL, without a semicolon."""
    hash_key: str | None = None
    """Identity of the key that hashes columns of this table; None where none is hashed, or the key isn't there yet."""
    logic_parts: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Name of a part of the logic → its digest."""
    reads_days: bool = False
    """Whether its SQL reads calendar.days."""
    adjusted: Adjusted | None = None
    """The table whose closed periods its rows adjust; None: it is no table of adjustments."""
    function: BatchFunction | None = None
    """What makes its columns of those of the SQL; None: the SQL gives them."""

    @property
    def upstream(self) -> tuple[str, ...]:
        """Tables that it is made from: those that it reads, then those that it looks up."""
        return (*self.inputs, *(lookup.asset for lookup in self.lookups))

    @property
    def name(self) -> str:
        """Name in SQL, e.g. silver.sales_orders."""
        return f"{self.layer}.{self.dataset.dataset}"

    @property
    def is_delivered(self) -> bool:
        """Whether it is the bronze of a source without tables: files, pages."""
        return self.layer == "bronze" and not isinstance(self.dataset.source, PostgresSource)

    @property
    def captured_in(self) -> tuple[str, ...]:
        """What orders its captures (Ledger.ordering_captures): its system, and its own name where it is captured alone.

        () for what isn't captured.
        """
        source = self.dataset.source
        if self.layer != "bronze" or source is None:
            return ()
        return (source.system, self.dataset.dataset) if self.is_delivered else (source.system,)

    def read_by(self, partition: str) -> str:
        """Its partition that a dependant's partition reads: the same period, or all of a table without partitions."""
        return partition if self.dataset.partitions else WHOLE

    @property
    def every(self) -> Every | None:
        """Length of its partitions; None where it has one."""
        return self.dataset.partitions.every if self.dataset.partitions else None


@dataclass(frozen=True)
class ServingNode:
    """A target outside the tables to which a dataset's last layer is copied."""

    target: AnyTarget
    table: TableNode
    logic_version: str
    logic_parts: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """E.g. postgres.analytics.kpi_net_revenue, elasticsearch.orders."""
        return f"{self.target.store}.{self.target.place}"

    @property
    def dataset(self) -> Dataset:
        """Whose layer it copies."""
        return self.table.dataset

    @property
    def every(self) -> Every | None:
        """The grain of its partitions, which are the table's; None: it has one."""
        return self.table.every

    @property
    def upstream(self) -> tuple[str, ...]:
        """The table."""
        return (self.table.name,)

    @property
    def key(self) -> tuple[str, ...]:
        """The target's own key, or the table's."""
        return self.target.key or self.table.contract.key


@dataclass(frozen=True)
class Project:
    """All datasets, in the order of the flow."""

    root: Path
    platform: Platform
    datasets: Mapping[str, Dataset]
    tables: Mapping[str, TableNode]
    """By name, sources first."""
    serving: tuple[ServingNode, ...]
    control_sql: Mapping[str, str] = field(repr=False)
    """Control totals by name (etl_assets/reconciliations): the SQL of each."""
    sensitive: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Table → column that is made of sensitive ones → how: hash, mask, made of hash …"""

    @property
    def nodes(self) -> Sequence[TableNode | ServingNode]:
        """Every table, sources first, then every target."""
        return [*self.tables.values(), *self.serving]

    @cached_property
    def business_days(self) -> BusinessDays:
        """Of its calendar."""
        return BusinessDays(self.platform.calendar)

    def logic_parts(self, asset: str) -> Mapping[str, str]:
        """Name of a part of an asset's logic → its digest."""
        served = {node.name: node.logic_parts for node in self.serving}
        return served[asset] if asset in served else self.tables[asset].logic_parts

    def controls(self, system: str, every: Every | None) -> Mapping[str, str]:
        """SQL of the control totals that are taken with the captures of a system by some period, by name."""
        return {
            r.control: self.control_sql[r.control]
            for name, dataset in self.datasets.items()
            for r in reconciliations(dataset)
            if r.rule.system == system and (system, every) in self._captures(f"{r.layer}.{name}")
        }

    def _captures(self, table: str) -> Collection[Capture]:
        return captures_of(table, self._same_period, self._captured)

    def _same_period(self, table: str) -> list[str]:
        node = self.tables[table]
        return [i for i in node.inputs if i not in node.windows or node.windows[i].has_own_period]

    def _captured(self, table: str) -> Capture | None:
        node = self.tables[table]
        source = node.dataset.source
        if node.layer != "bronze" or node.every is None or not isinstance(source, PostgresSource):
            return None
        return source.system, node.every


def project_folder() -> Path:
    """Where platform.yaml and datasets/ are: ETL_PROJECT, or the installed example."""
    return load_settings().project or ASSETS_FOLDER


def load_project(root: Path | None = None) -> Project:
    """platform.yaml and datasets/*/manifest.yaml of `root`, else of the project's folder, as one project.

    Raises ManifestErrors with all problems of all files: a project that loads is valid.
    """
    files, errors = read_files(root or project_folder())
    drafts = resolve_tables(files) if files else {}
    marks = sensitive_columns(drafts)
    if files:
        errors += [*manifest_errors(files, drafts), *sql_errors(files, drafts)]
        errors += sensitive_errors(files, drafts, marks)
        errors += [] if errors else spark_errors(files, drafts)
    if files is None or errors:
        raise ManifestErrors(sorted({str(e): e for e in errors}.values(), key=lambda e: (e.file, e.line or 0)))
    return _build(files, drafts, marks)


def _build(files: ProjectFiles, drafts: Mapping[str, TableDraft], marks: Marks) -> Project:
    key = _hash_key(files.platform.model, drafts)
    days = BusinessDays(files.platform.model.calendar)
    tables = {name: _table(files, draft, drafts, key, days) for name, draft in drafts.items()}
    datasets = {name: f.model for name, f in files.datasets.items()}
    serving = tuple(
        _serving(target, tables[f"{dataset.layers[-1]}.{name}"])
        for name, dataset in datasets.items()
        for target in dataset.serving
    )
    return Project(
        root=files.root,
        platform=files.platform.model,
        datasets=datasets,
        tables={name: tables[name] for name in flow_order({n: t.upstream for n, t in tables.items()})},
        serving=serving,
        control_sql={name: sql.text for name, sql in files.controls.items()},
        sensitive={table: {name: str(m) for name, m in found.items()} for table, found in marks.items()},
    )


def _hash_key(platform: Platform, drafts: Mapping[str, TableDraft]) -> str | None:
    """Identity of the key of hashed columns; None where there are none, or the key can't be had: a run tells why."""
    if platform.hash_key is None or not any(hashes(d.contract) for d in drafts.values()):
        return None
    try:
        return HashKey.of(platform.hash_key.secret).identity
    except SettingsError:
        return None


def _table(
    files: ProjectFiles,
    draft: TableDraft,
    drafts: Mapping[str, TableDraft],
    hash_key: str | None,
    days: BusinessDays,
) -> TableNode:
    control = files.controls.get(draft.dataset) if draft.layer == "kpi" else None
    declared = [r for r in reconciliations(draft.file.model) if r.layer == draft.layer and r.check != RECONCILED]
    queries = _queries(files, draft)
    key = hash_key if hashes(draft.contract) else None
    reads_days = any(r.name == DAYS for r in draft.given)
    logic = table_logic(
        draft.layer,
        draft.file.model,
        draft.contract,
        files.platform.model.calendar,
        sql=draft.sql,
        control_sql=control.text if control else None,
        queries={**queries, **{r.check: files.controls[r.control].text for r in declared}},
        hash_key=key,
        days=days.digest if reads_days else None,
        function=draft.function.logic if draft.function else None,
    )
    inputs = tuple(r.name for r in draft.references)
    dataset = draft.file.model
    windows = dataset.windows(draft.layer)
    lookups = (*resolve_lookups(draft, drafts).values(), *resolve_references(draft, drafts))
    return TableNode(
        draft.layer,
        dataset,
        draft.contract,
        draft.sql,
        inputs,
        logic.version,
        windows,
        lookups,
        queries,
        key,
        logic.parts,
        reads_days,
        _adjusted(files, draft, drafts),
        draft.function,
    )


def _adjusted(files: ProjectFiles, draft: TableDraft, drafts: Mapping[str, TableDraft]) -> Adjusted | None:
    name = files.adjusted.get(draft.dataset)
    found = period_close(drafts[name].file.model) if name else None
    return Adjusted(name, drafts[name].contract, found[1].measures or ()) if name and found else None


def _queries(files: ProjectFiles, draft: TableDraft) -> dict[str, str]:
    """SQL of a table's checks, by name."""
    texts = {i: files.queries.get((draft.dataset, draft.layer, i)) for i, _ in enumerate(draft.checks)}
    return {check_name(draft.checks[i]): f.text.strip().removesuffix(";") for i, f in texts.items() if f is not None}


def _serving(target: AnyTarget, table: TableNode) -> ServingNode:
    logic = serving_logic(target, table.contract)
    return ServingNode(target, table, logic.version, logic.parts)


def flow_order(inputs: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Tables with their inputs first, otherwise in the order given."""
    done: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in done:
            for upstream in inputs[name]:
                visit(upstream)
            done[name] = None

    for name in inputs:
        visit(name)
    return list(done)
