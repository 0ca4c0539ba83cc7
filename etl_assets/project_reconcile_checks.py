"""Comparisons with control totals: groups, measures, rejected rows that count; and a KPI's limits of change."""

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation

from etl_assets.project_conservation_checks import MEASURES
from etl_assets.project_files import ProjectFiles
from etl_assets.project_grain_checks import nests
from etl_assets.project_resolve import TableDraft
from etl_assets.reconciliations import Reconciliation, reconciliations
from etl_resources.errors import ManifestError
from etl_resources.manifest_tables import ROWS, Rejected
from etl_resources.quality.audit import RECONCILED
from etl_resources.sql_check import output_columns, parse_control, read_only_problems
from etl_resources.suggest import hint

Drafts = Mapping[str, TableDraft]


def reconcile_errors(files: ProjectFiles, draft: TableDraft, drafts: Drafts) -> Iterator[ManifestError]:
    """Everything that is wrong in what a table is compared with before it is published."""
    for declared in reconciliations(draft.file.model):
        if declared.layer == draft.layer:
            yield from _reconciliation(files, draft, declared, drafts)
    kpi = draft.file.model.kpi if draft.layer == "kpi" else None
    if kpi and kpi.accept and kpi.accept.change:
        limit, at = kpi.accept.change, ("kpi", "accept", "change")
        yield from _tolerances(draft, limit.within, (*at, "within"), "a share of 0 or more, e.g. '0.10'")
        yield from _of_key(draft, limit.by, at)


def _reconciliation(
    files: ProjectFiles, draft: TableDraft, declared: Reconciliation, drafts: Drafts
) -> Iterator[ManifestError]:
    """The control totals: one read-only SELECT for Postgres that gives the groups and the compared measures."""
    rule, at = declared.rule, declared.at
    if draft.contract.partition_column is None:
        message = f"totals are kept by period: a {draft.layer} without partitions can't be reconciled"
        yield draft.file.error(f"{message}; declare partitions", *at)
        return
    yield from _tolerances(draft, rule.compare, (*at, "compare"), "a decimal of 0 or more, e.g. '0.01'")
    if declared.check == RECONCILED:
        yield from _of_key(draft, rule.by or (), at)
    elif rule.by is None:
        yield draft.file.error("a check compares groups: say by which columns both sides are summed (`by`)", *at)
    else:
        for i, name in enumerate(n for n in rule.by if n not in draft.contract.names):
            message = f"by {name!r} is not a column of {draft.name}; {hint(name, draft.contract.names)}"
            yield draft.file.error(message, *at, "by", i)
    if rule.rejected:
        yield from _rejected(draft, declared, rule.rejected, drafts)
    yield from _control(files, draft, declared)


def _control(files: ProjectFiles, draft: TableDraft, declared: Reconciliation) -> Iterator[ManifestError]:
    control, rule = files.controls.get(declared.control), declared.rule
    if control is None:
        return
    query, problems = parse_control(control.text)
    problems += read_only_problems(query, control.text, "postgres") if query is not None else []
    yield from (control.error(p.message, p.line) for p in problems)
    if query is None:
        return
    given = [c.name for c in output_columns(query)]
    by = draft.contract.partition_column
    if given[:1] != [by]:
        message = f"the first column is {given[0]!r}, must be the partition column {by!r}: totals are kept by period"
        yield control.error(message, output_columns(query)[0].line)
    groups = rule.by or draft.contract.key
    for name in dict.fromkeys((*groups, *rule.compare)):
        if name not in given:
            role = "key" if name in groups else "compared measure"
            message = f"{role} {name!r} of {draft.name} is not in the result; {hint(name, (n for n in given if n))}"
            yield control.error(message, output_columns(query)[0].line)


def _tolerances(
    draft: TableDraft, compare: Mapping[str, str], at: tuple[str | int, ...], expected: str
) -> Iterator[ManifestError]:
    """Measures that are numbers, and how far each may differ."""
    numeric = [c.name for c in draft.contract.columns if c.type.startswith(MEASURES)]
    measures = [n for n in numeric if n not in draft.contract.key]
    if at[1] == "checks":
        measures.append(ROWS)
    for name, tolerance in compare.items():
        if name not in measures:
            message = f"compared measure {name!r} is not a numeric column; {hint(name, measures)}"
            yield draft.file.error(message, *at, name)
        try:
            valid = Decimal(tolerance).is_finite() and Decimal(tolerance) >= 0
        except InvalidOperation:
            valid = False
        if not valid:
            message = f"tolerance {tolerance!r} of {name!r} is not valid"
            yield draft.file.error(f"{message}; expected {expected}", *at, name)


def _of_key(draft: TableDraft, by: tuple[str, ...], at: tuple[str | int, ...]) -> Iterator[ManifestError]:
    key = draft.contract.key
    for i, name in enumerate(by):
        if name not in key:
            message = f"by {name!r} is not a column of the key of {draft.name}; {hint(name, key)}"
            yield draft.file.error(message, *at, "by", i)


def _rejected(
    draft: TableDraft, declared: Reconciliation, rejected: Rejected, drafts: Drafts
) -> Iterator[ManifestError]:
    """Each group and each compared measure must be told by a rejected row."""
    rule, at = declared.rule, declared.at
    windows = draft.file.model.windows(draft.layer)
    inputs = [
        r.name for r in draft.references if r.name in drafts and r.name not in windows and nests(draft, drafts[r.name])
    ]
    if rejected.table not in inputs:
        message = f"rejected rows of {rejected.table!r}, which isn't an input of the same period"
        yield draft.file.error(f"{message}; {hint(rejected.table, inputs)}", *at, "rejected", "table")
        return
    columns = {c.name: c.type for c in drafts[rejected.table].contract.columns}
    for i, name in enumerate(rule.by or ()):
        if name not in columns:
            message = f"by {name!r} is not a column of {rejected.table}, so that its rejected rows have no group"
            yield draft.file.error(f"{message}; {hint(name, columns)}", *at, "by", i)
    numeric = [name for name, kind in columns.items() if kind.startswith(MEASURES)]
    for measure, column in rejected.columns.items():
        if measure not in rule.compare:
            message = f"measure {measure!r} is not compared; {hint(measure, rule.compare)}"
            yield draft.file.error(message, *at, "rejected", "columns", measure)
        if column not in (ROWS, *numeric):
            message = f"column {column!r} of {rejected.table} can't be summed; {hint(column, (ROWS, *numeric))}"
            yield draft.file.error(message, *at, "rejected", "columns", measure)
    for measure in rule.compare:
        if measure not in rejected.columns:
            message = f"measure {measure!r} is compared: say which column of {rejected.table} is its part"
            yield draft.file.error(f"{message}; {hint(measure, (ROWS, *numeric))}", *at, "rejected", "columns")
