"""Files of tests as cases that can be run: tables and columns are known, values typed, rows of the right periods."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from etl_assets.graph.relations import input_windows
from etl_assets.project import Project, TableNode
from etl_assets.transform_tests.values import TypedRow, relation_of, typed_row
from etl_resources.business_days import DAYS
from etl_resources.calendar import PERIOD, bounds, period_relation
from etl_resources.contract import Contract
from etl_resources.errors import ManifestError, ManifestErrors, PermanentError
from etl_resources.manifest_file import ManifestFile, read_manifest
from etl_resources.manifest_tests import TransformTest
from etl_resources.suggest import hint

FOLDER = "tests"
"""Beside a manifest."""


@dataclass(frozen=True)
class RejectedCase:
    """A row that must be set aside: its key's values in the order of the key, and all reasons."""

    key: tuple[Any, ...]
    reasons: frozenset[str]


@dataclass(frozen=True)
class Case:
    """One test, ready to run."""

    node: TableNode
    path: Path
    inputs: Mapping[str, str]
    """Name in SQL: DuckDB table expression of the given rows."""
    expected: Sequence[TypedRow]
    rejected: Sequence[RejectedCase]

    @property
    def name(self) -> str:
        """E.g. gdp_sales/weekend."""
        return f"{self.node.dataset.dataset}/{self.path.stem}"


def load_cases(project: Project, dataset: str | None = None) -> list[Case]:
    """All tests of a project, or of one dataset, by dataset and file.

    Raises ManifestErrors with everything that is wrong in them, PermanentError for an unknown dataset or one without.
    """
    if dataset is not None and dataset not in project.datasets:
        raise PermanentError(f"Unknown dataset {dataset!r}; {hint(dataset, project.datasets)}.")
    paths = [p for name in ([dataset] if dataset else sorted(project.datasets)) for p in _files(project, name)]
    if not paths:
        what = f"Dataset {dataset}" if dataset else "The project"
        raise PermanentError(
            f"{what} has no tests: write one as datasets/{dataset or '<dataset>'}/{FOLDER}/<test>.yaml."
        )
    cases: list[Case] = []
    errors: list[ManifestError] = []
    for path in paths:
        try:
            cases.append(load_case(project, path))
        except ManifestErrors as e:
            errors += e.errors
    if errors:
        raise ManifestErrors(errors)
    return cases


def case_errors(project: Project) -> Iterator[ManifestError]:
    """Everything that is wrong in the files of all tests. Runs none of them."""
    for name in project.datasets:
        for path in _files(project, name):
            try:
                load_case(project, path)
            except ManifestErrors as e:
                yield from e.errors


def load_case(project: Project, path: Path) -> Case:
    """The test of a file `datasets/<dataset>/tests/<test>.yaml`. Raises ManifestErrors."""
    reading = _Reading(project, read_manifest(path, TransformTest, digits_as_text=True))
    case = reading.case(path.parent.parent.name)
    if case is None or reading.errors:
        raise ManifestErrors(sorted(reading.errors, key=lambda e: e.line or 0))
    return case


def _files(project: Project, dataset: str) -> list[Path]:
    return sorted((project.root / "datasets" / dataset / FOLDER).glob("*.yaml"))


@dataclass
class _Reading:
    """One file on its way to a case, with what was found to be wrong."""

    project: Project
    file: ManifestFile[TransformTest]
    errors: list[ManifestError] = field(default_factory=list)

    def case(self, dataset: str) -> Case | None:
        """None when there is nothing to test; whatever else is wrong is in `errors`."""
        node = next((t for t in self.project.tables.values() if t.dataset.dataset == dataset and t.sql), None)
        if node is None:
            self._error(f"dataset {dataset!r} has no table that is made by SQL: there is no transform to test")
            return None
        given = self._given(node)
        return Case(
            node,
            self.file.path,
            self._relations(node, given),
            self._expected(node.contract),
            self._rejected(node.contract),
        )

    def _error(self, message: str, *at: str | int) -> None:
        self.errors.append(self.file.error(message, *at))

    def _given(self, node: TableNode) -> dict[str, list[TypedRow]]:
        """Typed rows by table; each table that the SQL reads must be there."""
        test = self.file.model
        contracts = {name: self.project.tables[name].contract for name in node.upstream}
        contracts |= {lookup.name: lookup.contract for lookup in node.lookups}
        for section, tables in (("given", test.given), ("defaults", test.defaults)):
            for name in tables:
                if name not in contracts:
                    self._error(f"{node.name} doesn't read {name!r}; {hint(name, contracts)}", section, name)
        found: dict[str, list[TypedRow]] = {}
        for name in (n for n in test.given if n in contracts):
            defaults = self._typed(contracts[name], test.defaults.get(name, {}), "defaults", name)
            rows = [self._typed(contracts[name], row, "given", name, i) for i, row in enumerate(test.given[name])]
            found[name] = [{**defaults, **row} for row in rows]
        for name in node.inputs:
            if name not in test.given:
                self._error(f"{node.name} reads {name}: give its rows, [] for none", "given")
        for lookup in node.lookups:
            both = [n for n in (lookup.asset, lookup.name) if n in test.given]
            if not both:
                self._error(f"{node.name} looks up {lookup.asset}: give its rows, [] for none", "given")
            elif len(both) > 1:
                message = f"{lookup.name} is what is found in {lookup.asset}: give one of them"
                self._error(message, "given", lookup.name)
        self._prove_periods(node, found)
        return found

    def _typed(self, contract: Contract, row: Mapping[str, Any], *at: str | int) -> dict[str, Any]:
        typed, problems = typed_row(contract, row)
        for column, message in problems:
            self._error(message, *at, column)
        return typed

    def _prove_periods(self, node: TableNode, given: Mapping[str, Sequence[TypedRow]]) -> None:
        """What a run would not read can't be given: a test must not prove what never happens."""
        partition = self.file.model.partition
        if (partition is None) != (node.dataset.partitions is None):
            needs = f"{node.name} has no partitions: take it away"
            example = self.project.platform.calendar.keys(node.dataset.partitions)[0]
            what = f"{node.name} is made by {(node.every or '').replace('_', ' ')}s: add `partition: {example}`"
            self._error(needs if partition else what, "partition")
            return
        if partition is None:
            return
        if not node.contract.grain.is_key(partition):
            key = node.contract.grain.containing(bounds(partition)[0])
            self._error(
                f"{partition} is no {(node.every or '').replace('_', ' ')} of {node.name}; {key} is", "partition"
            )
            return
        windows = input_windows(self.project, node)
        for name in (n for n in node.inputs if n in given):
            column, window = self.project.tables[name].contract.partition_column, windows.get(name)
            if column is None or (window and window.periods is None):
                continue
            start, end = window.days_read(partition) if window else bounds(partition)
            for i, row in enumerate(given[name]):
                value = row.get(column)
                day = value.date() if isinstance(value, datetime) else value
                if day is not None and not start <= day < end:
                    read = dict.fromkeys(node.contract.grain.containing(d) for d in (start, end - timedelta(days=1)))
                    own = node.contract.grain.containing(day)
                    self._error(
                        f"{name} is read for {' to '.join(read)}, this row is of {own}", "given", name, i, column
                    )

    def _relations(self, node: TableNode, given: Mapping[str, Sequence[TypedRow]]) -> dict[str, str]:
        partition = self.file.model.partition
        fiscal_year_start = self.project.platform.calendar.fiscal_year_start
        relations = {PERIOD: period_relation(partition, fiscal_year_start)} if partition else {}
        if node.reads_days:
            relations[DAYS] = self.project.business_days.relation
        tables = {name: relation_of(self.project.tables[name].contract, given.get(name, ())) for name in node.upstream}
        relations |= {name: tables[name] for name in node.inputs}
        for lookup in node.lookups:
            found = given.get(lookup.name)
            relations[lookup.name] = (
                lookup.relation(tables[lookup.source], tables[lookup.asset])
                if found is None
                else relation_of(lookup.contract, found)
            )
        return relations

    def _expected(self, contract: Contract) -> list[TypedRow]:
        rows: list[TypedRow] = []
        seen: dict[tuple[Any, ...], int] = {}
        for i, row in enumerate(self.file.model.expect):
            self._prove_key(contract, row, "expect", i)
            typed = self._typed(contract, row, "expect", i)
            key = tuple(typed.get(k) for k in contract.key)
            if key in seen:
                self._error(f"row {seen[key] + 1} of expect has the same key", "expect", i)
            seen.setdefault(key, i)
            rows.append(typed)
        return rows

    def _rejected(self, contract: Contract) -> list[RejectedCase]:
        found = []
        for i, row in enumerate(self.file.model.rejected):
            at: tuple[str | int, ...] = ("rejected", i, "key")
            self._prove_key(contract, row.key, *at)
            for name in row.key:
                if name in contract.names and name not in contract.key:
                    self._error(f"{name!r} is not part of the key; valid: {', '.join(contract.key)}", *at, name)
            typed = self._typed(contract, row.key, *at)
            reasons = (row.reason,) if isinstance(row.reason, str) else row.reason
            found.append(RejectedCase(tuple(typed.get(k) for k in contract.key), frozenset(reasons)))
        return found

    def _prove_key(self, contract: Contract, row: Mapping[str, Any], *at: str | int) -> None:
        missing = [k for k in contract.key if k not in row]
        if missing:
            self._error(f"{', '.join(missing)} is missing: rows are found by their whole key", *at)
