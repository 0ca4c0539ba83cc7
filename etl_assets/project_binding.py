"""The engine's own opinion of every transform: bound against empty tables, its column types against the contract.

sqlglot knows names but is more lenient than DuckDB, and it knows no result types: a `/` on decimals is a double, which
the contract of an amount forbids. Loads DuckDB, so it belongs to `validate`, not to loading the definitions.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from etl_assets.project import Project, TableNode
from etl_resources.calendar import PERIOD, period_relation
from etl_resources.errors import ManifestError, PermanentError
from etl_resources.identifiers import quote, quote_qualified
from etl_resources.lookups import SCHEMA
from etl_resources.manifest_file import shown
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
    engine.execute(f"create view {PERIOD} as select * from {period_relation(project.platform.calendar.start)}")
    for node in project.tables.values():
        if node.sql is not None:
            try:
                _bind(engine, node)
            except duckdb.Error as e:
                yield ManifestError(str(e).splitlines()[0], file=_file(project, node), line=1)
            except PermanentError as e:
                yield ManifestError(str(e), file=_file(project, node), line=1)


def _bind(engine: "duckdb.DuckDBPyConnection", node: TableNode) -> None:
    engine.execute(f"drop schema if exists {SCHEMA} cascade")
    engine.execute(f"create schema {SCHEMA}")
    for lookup in node.lookups:
        engine.execute(f"create table {quote_qualified(lookup.name)} as from {no_rows(lookup.contract)}")
    described = engine.execute(f"describe {node.sql}").fetchall()
    typed_columns(node.name, node.contract, {name: kind for name, kind, *_ in described})


def _file(project: Project, node: TableNode) -> str:
    folder: Path = project.root / "datasets" / node.dataset.dataset
    sql = node.dataset.table(node.layer).sql
    return shown(folder / (sql or "manifest.yaml"))
