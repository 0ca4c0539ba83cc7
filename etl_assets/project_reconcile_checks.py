"""How a KPI is accepted: control totals, groups in which they are compared, rejected rows that count."""

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation

from etl_assets.project_conservation_checks import MEASURES
from etl_assets.project_files import ProjectFiles
from etl_assets.project_resolve import TableDraft
from etl_resources.errors import ManifestError
from etl_resources.manifest_tables import Reconcile, Rejected
from etl_resources.quality.dead_letters import ROWS
from etl_resources.sql_check import output_columns, parse_control, read_only_problems
from etl_resources.suggest import hint

AT = ("kpi", "accept", "reconcile")


def reconcile_errors(
    files: ProjectFiles, draft: TableDraft, drafts: Mapping[str, TableDraft]
) -> Iterator[ManifestError]:
    """The control totals: one read-only SELECT for Postgres that gives the groups and the compared measures."""
    kpi = draft.file.model.kpi
    if kpi is None or kpi.accept is None:
        return
    if draft.contract.partition_column is None:
        message = "totals are kept by period: a kpi without partitions can't be reconciled; declare partitions"
        yield draft.file.error(message, "kpi", "accept", "reconcile")
        return
    rule = kpi.accept.reconcile
    compare = rule.compare
    yield from _compare(draft, compare)
    yield from _groups(draft, rule)
    if rule.rejected:
        yield from _rejected(draft, rule, rule.rejected, drafts)
    control = files.controls.get(draft.dataset)
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
    needed = dict.fromkeys((*groups, *compare))
    for name in needed:
        if name not in given:
            role = "key" if name in groups else "compared measure"
            message = f"{role} {name!r} of {draft.name} is not in the result; {hint(name, (n for n in given if n))}"
            yield control.error(message, output_columns(query)[0].line)


def _compare(draft: TableDraft, compare: dict[str, str]) -> Iterator[ManifestError]:
    numeric = [c.name for c in draft.contract.columns if c.type.startswith(MEASURES)]
    measures = [n for n in numeric if n not in draft.contract.key]
    for name, tolerance in compare.items():
        at = (*AT, "compare", name)
        if name not in measures:
            yield draft.file.error(f"compared measure {name!r} is not a numeric column; {hint(name, measures)}", *at)
        try:
            valid = Decimal(tolerance).is_finite() and Decimal(tolerance) >= 0
        except InvalidOperation:
            valid = False
        if not valid:
            message = f"tolerance {tolerance!r} of {name!r} is not valid"
            yield draft.file.error(f"{message}; expected a decimal of 0 or more, e.g. '0.01'", *at)


def _groups(draft: TableDraft, rule: Reconcile) -> Iterator[ManifestError]:
    key = draft.contract.key
    for i, name in enumerate(rule.by or ()):
        if name not in key:
            message = f"by {name!r} is not a column of the key of {draft.name}; {hint(name, key)}"
            yield draft.file.error(message, *AT, "by", i)


def _rejected(
    draft: TableDraft, rule: Reconcile, rejected: Rejected, drafts: Mapping[str, TableDraft]
) -> Iterator[ManifestError]:
    """Each group and each compared measure must be told by a rejected row."""
    windows = draft.file.model.windows(draft.layer)
    inputs = [r.name for r in draft.references if r.name not in windows and r.name in drafts]
    if rejected.table not in inputs:
        message = f"rejected rows of {rejected.table!r}, which isn't an input of the same period"
        yield draft.file.error(f"{message}; {hint(rejected.table, inputs)}", *AT, "rejected", "table")
        return
    columns = {c.name: c.type for c in drafts[rejected.table].contract.columns}
    for i, name in enumerate(rule.by or ()):
        if name not in columns:
            message = f"by {name!r} is not a column of {rejected.table}, so that its rejected rows have no group"
            yield draft.file.error(f"{message}; {hint(name, columns)}", *AT, "by", i)
    numeric = [name for name, kind in columns.items() if kind.startswith(MEASURES)]
    for measure, column in rejected.columns.items():
        if measure not in rule.compare:
            message = f"measure {measure!r} is not compared; {hint(measure, rule.compare)}"
            yield draft.file.error(message, *AT, "rejected", "columns", measure)
        if column not in (ROWS, *numeric):
            message = f"column {column!r} of {rejected.table} can't be summed; {hint(column, (ROWS, *numeric))}"
            yield draft.file.error(message, *AT, "rejected", "columns", measure)
    for measure in rule.compare:
        if measure not in rejected.columns:
            message = f"measure {measure!r} is compared: say which column of {rejected.table} is its part"
            yield draft.file.error(f"{message}; {hint(measure, (ROWS, *numeric))}", *AT, "rejected", "columns")
