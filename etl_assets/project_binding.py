"""The engine's own opinion of every transform: bound against empty tables, its column types against the contract.

sqlglot knows names but is more lenient than DuckDB, and it knows no result types: a `/` on decimals is a double, which
the contract of an amount forbids. A Python function is called without rows. Loads the engine and runs a user's module,
so it belongs to `validate`, not to loading the definitions.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from etl_assets.project import Project, TableNode
from etl_assets.project_files import MANIFEST
from etl_resources.business_days import DAYS
from etl_resources.calendar import PERIOD, period_relation
from etl_resources.engines.batch_function import BatchStep
from etl_resources.engines.function_modules import FunctionError
from etl_resources.errors import ManifestError, PermanentError
from etl_resources.identifiers import literal, quote, quote_qualified
from etl_resources.lookups import SCHEMA
from etl_resources.manifest import Dataset
from etl_resources.manifest_file import ManifestFile, read_manifest, shown
from etl_resources.quality.rules import typed_columns
from etl_resources.tables.input_tables import no_rows
from etl_resources.tables.schema import duckdb_type

if TYPE_CHECKING:
    import duckdb


def binding_errors(project: Project) -> Iterator[ManifestError]:
    """One error per transform that the engine refuses, or whose types would lose digits. Touches no data."""
    import duckdb

    engine = duckdb.connect()
    for node in project.tables.values():
        columns = ", ".join(f"{quote(c.name)} {duckdb_type(c.type)}" for c in node.contract.columns)
        engine.execute(f"create schema if not exists {quote(node.layer)}")
        engine.execute(f"create table {quote(node.layer)}.{quote(node.dataset.dataset)} ({columns})")
    engine.execute("create schema calendar")
    calendar = project.platform.calendar
    period = period_relation(calendar.start, calendar.fiscal_year_start)
    engine.execute(f"create view {PERIOD} as select * from {period}")
    engine.execute(f"create view {DAYS} as select * from {project.business_days.relation}")
    for node in project.tables.values():
        yield from _rules(engine, project, node)
        if node.sql is not None:
            try:
                _bind(engine, node)
            except duckdb.Error as e:
                yield ManifestError(str(e).splitlines()[0], file=_file(project, node), line=1)
            except FunctionError as e:
                yield _manifest(project, node).error(str(e), node.layer, "python")
            except PermanentError as e:
                yield ManifestError(str(e), file=_file(project, node), line=1)


def _rules(engine: "duckdb.DuckDBPyConnection", project: Project, node: TableNode) -> Iterator[ManifestError]:
    """Expressions that the engine refuses, or that aren't boolean; patterns that it can't read."""
    import duckdb

    table = quote_qualified(node.name)
    for i, rule in enumerate(node.contract.rules):
        at, condition = (node.layer, "rules", i, "expression"), f"({rule.expression}\n)"
        try:
            kind = engine.execute(f"describe select {condition} as holds from {table}").fetchall()[0][1]
            engine.execute(f"describe from {table} where {condition}")  # no aggregates there
            problem = "" if kind == "BOOLEAN" else f"is a {kind}, must be true or false"
        except duckdb.Error as e:
            problem = str(e).splitlines()[0]
        if problem:
            yield _manifest(project, node).error(f"expression of rule {rule.name!r}: {problem}", *at)
    for column in node.contract.columns:
        for pattern in (r.matches for r in column.rules if r.matches is not None):
            try:
                engine.execute(f"select regexp_full_match('', {literal(pattern)})")
            except duckdb.Error as e:
                message = f"check of {column.name!r}: matches {pattern!r}: {str(e).splitlines()[0]}"
                yield _manifest(project, node).error(message, node.layer, "columns", column.name, "check")


def _bind(engine: "duckdb.DuckDBPyConnection", node: TableNode) -> None:
    engine.execute(f"drop schema if exists {SCHEMA} cascade")
    engine.execute(f"create schema {SCHEMA}")
    for lookup in node.lookups:
        engine.execute(f"create table {quote_qualified(lookup.name)} as from {no_rows(lookup.contract)}")
    for query in node.queries.values():
        engine.execute(f"describe select * from ({query}\n)")
    described = {name: kind for name, kind, *_ in engine.execute(f"describe {node.sql}").fetchall()}
    if node.function is not None:
        BatchStep.of(node.name, node.function, described, node.contract)
    else:
        typed_columns(node.name, node.contract, described)


def _file(project: Project, node: TableNode) -> str:
    sql = node.dataset.table(node.layer).sql
    return shown(_folder(project, node) / (sql or MANIFEST))


def _manifest(project: Project, node: TableNode) -> ManifestFile[Dataset]:
    """Read again, for the line of a field: a loaded project has none."""
    return read_manifest(_folder(project, node) / MANIFEST, Dataset)


def _folder(project: Project, node: TableNode) -> Path:
    return project.root / "datasets" / node.dataset.dataset
