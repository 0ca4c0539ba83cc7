"""What a manifest leaves to convention, filled in: types of contracts, the SQL of a silver without one."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp

from etl_assets.project_files import ProjectFiles, SqlFile
from etl_resources.adjustments import Adjusted, lineage_sql
from etl_resources.calendar import MONTH, PERIOD, Grain
from etl_resources.contract import Contract, ContractColumn, ContractReference, Cover
from etl_resources.errors import ManifestError
from etl_resources.lookups import SCHEMA, LookupTable, lookup_table, reference_table
from etl_resources.manifest import Calendar, Dataset
from etl_resources.manifest_file import ManifestFile
from etl_resources.manifest_sources import Source
from etl_resources.manifest_tables import Check, Reference
from etl_resources.python_source import BatchFunction
from etl_resources.sql_check import SqlProblem, TableReference, parse_select, referenced_tables

GIVEN_SCHEMAS = (PERIOD.partition(".")[0], SCHEMA)
"""Schemas of relations that the platform gives to a transform; no layer has such a name."""


@dataclass(frozen=True)
class TableDraft:
    """A table before the checks: with its parsed SQL, and with what is wrong where it can't be parsed."""

    layer: str
    file: ManifestFile[Dataset]
    contract: Contract
    sql_file: SqlFile | None
    """None for bronze, and for silver without sql."""
    sql: str | None
    query: exp.Query | None
    problems: tuple[SqlProblem, ...]
    references: tuple[TableReference, ...]
    """Tables that the SQL names, those of the project and unknown ones."""
    given: tuple[TableReference, ...]
    """Relations of the platform that it names: calendar.period, lookup.…"""
    function: BatchFunction | None = None
    """What makes the columns of those of the SQL."""

    @property
    def dataset(self) -> str:
        return self.file.model.dataset

    @property
    def name(self) -> str:
        """Name in SQL, e.g. silver.sales_orders."""
        return f"{self.layer}.{self.dataset}"

    @property
    def checks(self) -> tuple[Check, ...]:
        """Declared checks on whole partitions; () for bronze."""
        return () if self.layer == "bronze" else self.file.model.table(self.layer).checks

    @property
    def declared_references(self) -> dict[str, Reference]:
        """Tables in which its rows must find their key; {} for bronze."""
        return {} if self.layer == "bronze" else self.file.model.table(self.layer).references

    @property
    def upstream(self) -> tuple[str, ...]:
        """Tables that it reads, looks up or refers to."""
        lookups = self.file.model.lookups(self.layer)
        return tuple(dict.fromkeys((*(r.name for r in self.references), *lookups, *self.declared_references)))

    def source_of(self, reference: Reference) -> str | None:
        """Input whose rows hold the key of a reference; None where nobody says."""
        if self.layer == "silver":
            return reference.from_ or f"bronze.{self.dataset}"
        return reference.from_ or self.file.model.table(self.layer).grain

    def sql_error(self, message: str, line: int) -> ManifestError:
        """An error in the transform, or at the layer where the SQL is generated."""
        return self.sql_file.error(message, line) if self.sql_file else self.file.error(message, self.layer)


def resolve_tables(files: ProjectFiles) -> dict[str, TableDraft]:
    """Every table of the project by name; those whose SQL file is missing have neither SQL nor references."""
    drafts = (_draft(files, name, layer) for name, f in files.datasets.items() for layer in f.model.layers)
    return {d.name: d for d in drafts}


def resolve_lookups(draft: TableDraft, drafts: Mapping[str, TableDraft]) -> dict[str, LookupTable]:
    """Lookups of a table by name in SQL; those between unknown tables are left out."""
    found = [
        lookup_table(asset, lookup, drafts[lookup.from_].contract, drafts[asset].contract)
        for asset, lookup in draft.file.model.lookups(draft.layer).items()
        if asset in drafts and lookup.from_ in drafts
    ]
    return {table.name: table for table in found}


def resolve_references(draft: TableDraft, drafts: Mapping[str, TableDraft]) -> tuple[LookupTable, ...]:
    """What a table refers to, as lookups of keys alone; those between unknown tables are left out."""
    return tuple(
        reference_table(asset, source, reference, drafts[source].contract, drafts[asset].contract)
        for asset, reference in draft.declared_references.items()
        if asset in drafts and (source := draft.source_of(reference)) in drafts and source is not None
    )


def resolve_contract(dataset: Dataset, layer: str, calendar: Calendar) -> Contract:
    """The contract of a layer. A type that nobody gives is "": the checks report it."""
    by = dataset.partitions.by if dataset.partitions else None
    grain = calendar.grain(dataset.partitions.every) if dataset.partitions else MONTH
    if layer == "bronze":
        if dataset.source is None:
            raise KeyError(f"{dataset.dataset} has no bronze layer")
        return _bronze(dataset.source, by, grain)
    table = dataset.table(layer)
    source = dataset.source.columns if dataset.source else {}
    columns = tuple(
        ContractColumn(
            name=name,
            type=column.type or (source[name].stored_type if name in source else None) or "",
            nullable=column.nullable,
            description=column.description,
            unit=column.unit,
            rules=column.check,
            reason=column.reason,
            renamed_from=column.renamed_from,
        )
        for name, column in table.columns.items()
    )
    references = tuple(
        ContractReference(asset, tuple(r.on), r.reason or f"{', '.join(r.on)} not in {asset}", r.severity)
        for asset, r in table.references.items()
    )
    return Contract(columns, table.key, by, table.rules, references, grain=grain, buckets=table.buckets)


def _bronze(source: Source, by: str | None, grain: Grain) -> Contract:
    """As delivered, in the source's order; only what identifies and places a row is required."""
    required = {*source.key, by}
    columns = tuple(
        ContractColumn(
            name, c.stored_type or "", name not in required, c.description, c.unit, renamed_from=c.renamed_from,
            cover=Cover(c.sensitive, c.type or "") if c.sensitive in ("mask", "hash") else None,
        )
        for name, c in source.columns.items()
        if c.sensitive != "drop"
    )  # fmt: skip
    dropped = tuple(name for name, c in source.columns.items() if c.sensitive == "drop")
    return Contract(columns, source.key, by, dropped=dropped, grain=grain)


def _draft(files: ProjectFiles, name: str, layer: str) -> TableDraft:
    file, sql_file = files.datasets[name], files.transforms.get((name, layer))
    contract = resolve_contract(file.model, layer, files.platform.model.calendar)
    sql = sql_file.text if sql_file else _generated_sql(files, file.model, layer)
    query, problems = parse_select(sql) if sql is not None else (None, [])
    references = referenced_tables(query) if query else ()
    given = tuple(r for r in references if r.name.partition(".")[0] in GIVEN_SCHEMAS)
    others = tuple(r for r in references if r not in given)
    function = files.functions.get((name, layer))
    return TableDraft(layer, file, contract, sql_file, sql, query, tuple(problems), others, given, function)


def _generated_sql(files: ProjectFiles, dataset: Dataset, layer: str) -> str | None:
    """A silver without sql takes columns from bronze as they are; adjustments have those of what they adjust."""
    if (adjusted := files.adjusted.get(dataset.dataset)) is not None:
        of = files.datasets[adjusted.partition(".")[2]].model
        return lineage_sql(Adjusted(adjusted, resolve_contract(of, layer, files.platform.model.calendar), ()))
    if layer != "silver" or dataset.silver is None or dataset.silver.sql:
        return None
    names = list(dataset.silver.columns)
    if dataset.silver.python:  # what is masked has one value, which would mark whatever a function makes
        bronze = resolve_contract(dataset, "bronze", files.platform.model.calendar)
        names = [c.name for c in bronze.columns if c.cover is None or c.cover.mode != "mask"]
    columns = ",\n".join(f'    "{name}"' for name in names)
    return f"select\n{columns}\nfrom bronze.{dataset.dataset}\n"
