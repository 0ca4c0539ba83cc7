"""Which columns each column of the project is made of, from the systems of record to what is served.

From manifests and SQL alone. A table's SQL is looked at when one of its columns is asked for, once.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

from etl_assets.project import Project, TableNode
from etl_resources.business_days import GIVEN_COLUMNS
from etl_resources.errors import PermanentError
from etl_resources.lookups import LookupTable
from etl_resources.manifest_sources import PostgresSource
from etl_resources.suggest import hint

if TYPE_CHECKING:
    from etl_resources.sql_lineage import MadeColumn


@dataclass(frozen=True, order=True)
class Column:
    """A column of a table of the project, of a system of record or of a serving store."""

    table: str
    name: str

    def __str__(self) -> str:
        return f"{self.table}.{self.name}"


@dataclass(frozen=True)
class Made:
    """How a column is made."""

    sources: tuple[Column, ...] = ()
    expression: str | None = None
    """SQL over the sources; None where the value is taken as it is."""
    found_by: Mapping[str, str] = field(default_factory=dict)
    """Table in which its value is looked up: the condition."""


class ColumnLineage:
    """The columns of a project. Raises PermanentError for a table or column that it hasn't."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._made: dict[str, Mapping[str, Made]] = {}

    @cached_property
    def _makers(self) -> Mapping[str, Callable[[], Mapping[str, Made]]]:
        """Every table that is made, in the order of the flow."""
        makers: dict[str, Callable[[], Mapping[str, Made]]] = {}
        for node in self._project.tables.values():
            makers[node.name] = partial(_captured if node.sql is None else self._by_sql, node)
        for served in self._project.serving:
            makers[served.name] = partial(_taken, served.table)
        return makers

    @cached_property
    def _sources(self) -> Mapping[str, list[str]]:
        """Tables of the systems of record: the columns that are read of them."""
        found: dict[str, dict[str, None]] = {}
        for node in self._project.tables.values():
            if node.sql is None:
                for made in _captured(node, *node.contract.dropped).values():
                    for column in made.sources:
                        found.setdefault(column.table, {})[column.name] = None
        return {table: list(columns) for table, columns in found.items()}

    def column(self, text: str) -> Column:
        """E.g. kpi.kpi_net_revenue.net_revenue_eur."""
        table, _, name = text.rpartition(".")
        tables = [*self._sources, *self._makers]
        if table not in tables:
            raise PermanentError(f"Unknown table {table!r} in {text!r}, <table>.<column>; {hint(table, tables)}.")
        names = self._sources.get(table) or list(self.table(table))
        if name not in names:
            raise PermanentError(f"{table} has no column {name!r}; {hint(name, names)}.")
        return Column(table, name)

    def table(self, name: str) -> Mapping[str, Made]:
        """How each column of a table is made; nothing for what a system of record has, or the calendar."""
        if name not in self._made:
            self._made[name] = self._makers[name]() if name in self._makers else {}
        return self._made[name]

    def made(self, column: Column) -> Made:
        """How a column is made; of nothing where it comes from outside."""
        return self.table(column.table).get(column.name, Made())

    def sensitive(self, column: Column) -> str | None:
        """How a column is made of sensitive ones: hash, mask, drop, made of hash …; None where it isn't."""
        if column.table in self._sources:
            return self._of_source.get(column)
        served = {s.name: s.table.name for s in self._project.serving}
        return self._project.sensitive.get(served.get(column.table, column.table), {}).get(column.name)

    @cached_property
    def _of_source(self) -> Mapping[Column, str]:
        """What becomes of the columns of systems of record that are sensitive."""
        found: dict[Column, str] = {}
        for node in self._project.tables.values():
            source = node.dataset.source
            for name, column in source.columns.items() if node.sql is None and source else ():
                if column.sensitive:
                    (place,) = _captured(node, name)[name].sources
                    found[place] = column.sensitive
        return found

    def users(self, column: Column) -> tuple[Column, ...]:
        """Columns that are made of this one, in the order of the flow."""
        return self._users.get(column, ())

    @cached_property
    def _users(self) -> Mapping[Column, tuple[Column, ...]]:
        users: dict[Column, list[Column]] = {}
        for table in self._makers:
            for name, made in self.table(table).items():
                for source in made.sources:
                    users.setdefault(source, []).append(Column(table, name))
        return {column: tuple(found) for column, found in users.items()}

    def _by_sql(self, node: TableNode) -> Mapping[str, Made]:
        from etl_resources.sql_lineage import made_columns

        schema = {name: self._project.tables[name].contract.names for name in node.inputs}
        schema |= {lookup.name: lookup.contract.names for lookup in node.lookups}
        try:
            found = made_columns(node.sql or "", {**schema, **GIVEN_COLUMNS})
        except PermanentError as e:
            raise PermanentError(f"{node.name}: {e}") from e
        lookups = {lookup.name: lookup for lookup in node.lookups}
        if node.function is not None:
            return self._by_function(node, found, lookups)
        return {
            name: _made(name, found[name].expression, found[name].sources, lookups)
            for name in node.contract.names
            if name in found
        }

    @staticmethod
    def _by_function(
        node: TableNode, given: Mapping[str, "MadeColumn"], lookups: Mapping[str, LookupTable]
    ) -> Mapping[str, Made]:
        """Any column may be made of any that the function is given: more isn't known, and less isn't claimed."""
        sources = tuple(dict.fromkeys(source for made in given.values() for source in made.sources))
        return {
            name: _made(name, f"{node.function}({', '.join(given)})", sources, lookups) for name in node.contract.names
        }


def source_table(node: TableNode) -> str:
    """Name of a bronze table's source: erp.orders, ecb.currency_rates. Systems may have tables of equal names."""
    source = node.dataset.source
    assert source is not None  # noqa: S101  (bronze has a source)
    return _source_table(source.system, node.dataset.source_name)


def _source_table(system: str, name: str) -> str:
    return name if name.startswith(f"{system}.") else f"{system}.{name}"


def _captured(node: TableNode, *dropped: str) -> Mapping[str, Made]:
    """A bronze table has its source's columns, and what is joined from parents in the same system."""
    names = (*node.contract.names, *dropped)
    made = {name: Made((Column(source_table(node), name),)) for name in names}
    source = node.dataset.source
    if isinstance(source, PostgresSource):
        for join in source.joins:
            parent = _source_table(source.system, join.table)
            made |= {name: Made((Column(parent, theirs),)) for name, theirs in join.columns.items() if name in names}
    return made


def _taken(node: TableNode) -> Mapping[str, Made]:
    return {name: Made((Column(node.name, name),)) for name in node.contract.names}


def _made(name: str, expression: str, sources: tuple[tuple[str, str], ...], lookups: Mapping[str, LookupTable]) -> Made:
    found: dict[Column, None] = {}
    found_by = {}
    for table, column in sources:
        lookup = lookups.get(table)
        if lookup is None:
            found[Column(table, column)] = None
        elif column in lookup.contract.key:
            found[Column(lookup.source, column)] = None
        else:
            found[Column(lookup.asset, column)] = None
            found_by[lookup.asset] = "; ".join(_conditions(lookup))
    taken = len(found) == 1 and expression == name == next(iter(found)).name
    return Made(tuple(found), None if taken else expression, found_by)


def _conditions(lookup: LookupTable) -> Iterator[str]:
    yield from (f"{theirs} = {lookup.source}.{own}" for own, theirs in lookup.on.items())
    if lookup.as_of is not None:
        own, theirs = lookup.as_of
        yield f"newest {theirs} <= {lookup.source}.{own}"
    if lookup.days_back is not None:
        yield f"at most {lookup.days_back} days older"
    if lookup.latest_by is not None:
        yield f"newest {lookup.latest_by}"
