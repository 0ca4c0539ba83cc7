"""Checks on whole partitions: their numbers, columns and SQL fit the table that they check."""

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

from etl_assets.project_column_checks import fits
from etl_assets.project_files import ProjectFiles, SqlFile
from etl_assets.project_resolve import TableDraft
from etl_resources.errors import ManifestError
from etl_resources.manifest_tables import Check
from etl_resources.sql_check import Schema, parse_select, read_only_problems, referenced_tables, resolve_columns
from etl_resources.suggest import hint

DATED = ("date", "timestamptz")


def check_errors(files: ProjectFiles, draft: TableDraft, schema: Schema) -> Iterator[ManifestError]:
    """Everything that is wrong in the checks of one table. schema: columns of the tables that its SQL may name."""
    for i, check in enumerate(draft.checks):
        for message, path in (*_numbers(check), *_columns(draft, check), *_history(draft, check)):
            yield draft.file.error(f"{check.kind}: {message}", draft.layer, "checks", i, check.kind, *path)
        query = files.queries.get((draft.dataset, draft.layer, i))
        if query is not None:
            yield from _query(draft, query, schema)


Problem = tuple[str, tuple[str | int, ...]]
"""Message, and the field below the check."""


def _numbers(check: Check) -> Iterator[Problem]:
    for rule, kind in (
        (check.rows, "bigint"),
        (check.rejected_rows, "bigint"),
        (check.rejected_share, "decimal(38,18)"),
    ):
        for key, value in rule.model_dump(exclude_none=True).items() if rule else ():
            if not fits(value, kind):
                yield f"{key} {value!r} is not a number", (key,)
    if check.rows_change is not None:
        try:
            valid = Decimal(check.rows_change.le).is_finite() and Decimal(check.rows_change.le) >= 0
        except InvalidOperation:
            valid = False
        if not valid:
            yield f"le {check.rows_change.le!r} is not valid; expected a share of 0 or more, e.g. '0.50'", ("le",)


def _columns(draft: TableDraft, check: Check) -> Iterator[Problem]:
    types = {c.name: c.type for c in draft.contract.columns}
    for i, name in enumerate(check.unique or ()):
        if name not in types:
            yield f"{name!r} is not a column of {draft.name}; {hint(name, types)}", (i,)
    if check.freshness is not None:
        name = check.freshness.column
        dated = [n for n, kind in types.items() if kind in DATED]
        if name not in dated:
            yield f"{name!r} is not a date or timestamptz of {draft.name}; {hint(name, dated)}", ("column",)


def _history(draft: TableDraft, check: Check) -> Iterator[Problem]:
    if check.rows_change is not None and draft.contract.partition_column is None:
        yield f"{draft.name} has no partitions, of which there could be earlier ones", ()


def _query(draft: TableDraft, query: SqlFile, schema: Schema) -> Iterator[ManifestError]:
    """One read-only SELECT over the table itself and what its transform reads."""
    parsed, found = parse_select(query.text)
    problems = [*found, *(read_only_problems(parsed, query.text) if parsed is not None else ())]
    if parsed is not None and not problems:
        read = (*draft.references, *draft.given)
        valid = {draft.name: draft.contract.names, **{r.name: schema[r.name] for r in read if r.name in schema}}
        references = referenced_tables(parsed)
        for reference in references:
            if reference.name not in valid:
                message = f"may not read {reference.name!r}: a check reads its table and what the transform reads"
                yield query.error(f"{message}; {hint(reference.name, valid)}", reference.line)
        if all(r.name in valid for r in references):
            problems += resolve_columns(query.text, {r.name: valid[r.name] for r in references})[1]
    yield from (query.error(p.message, p.line) for p in problems)
