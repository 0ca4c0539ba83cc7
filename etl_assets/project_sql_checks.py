"""What the transforms read and give, held against the tables of the project. Offline, by parsing only."""

from collections.abc import Iterator

from etl_assets.project_close_checks import close_errors
from etl_assets.project_conservation_checks import conservation_errors
from etl_assets.project_files import ProjectFiles
from etl_assets.project_grain_checks import grain_errors
from etl_assets.project_input_checks import input_errors
from etl_assets.project_lookup_checks import lookup_errors
from etl_assets.project_partition_checks import check_errors
from etl_assets.project_reconcile_checks import reconcile_errors
from etl_assets.project_reference_checks import reference_errors
from etl_assets.project_resolve import TableDraft, resolve_lookups
from etl_resources.business_days import GIVEN_COLUMNS
from etl_resources.errors import ManifestError
from etl_resources.sql_check import (
    OutputColumn,
    Schema,
    read_only_problems,
    resolve_columns,
)
from etl_resources.suggest import hint

READS = {"silver": ("bronze",), "gdp": ("silver", "gdp"), "kpi": ("gdp", "kpi")}
"""Layers that a layer may read; silver only its own dataset."""

Drafts = dict[str, TableDraft]


def sql_errors(files: ProjectFiles, drafts: Drafts) -> Iterator[ManifestError]:
    """Everything that is wrong in the transforms and the control SQL."""
    schema: Schema = {name: d.contract.names for name, d in drafts.items()}
    for draft in drafts.values():
        yield from (draft.sql_error(p.message, p.line) for p in draft.problems)
        if draft.query is not None and draft.sql is not None:
            problems = read_only_problems(draft.query, draft.sql)
            yield from (draft.sql_error(p.message, p.line) for p in problems)
            yield from _references(draft, drafts, files.unreadable)
            known = {**schema, **_given(draft, drafts)}
            if all(r.name in known for r in (*draft.references, *draft.given)):
                yield from _columns(draft, {r.name: known[r.name] for r in (*draft.references, *draft.given)})
        yield from check_errors(files, draft, {**schema, **_given(draft, drafts)})
        yield from _grain(draft)
        if draft.layer in READS:
            yield from conservation_errors(draft, drafts)
            yield from reconcile_errors(files, draft, drafts)
        yield from input_errors(draft, drafts)
        yield from grain_errors(draft, drafts)
        if draft.layer in READS:
            yield from lookup_errors(draft, drafts, READS[draft.layer], files.unreadable)
            yield from close_errors(draft, drafts)
        if draft.query is not None:
            yield from reference_errors(draft, drafts, files.unreadable)
    yield from _cycles(drafts)


def _references(draft: TableDraft, drafts: Drafts, unreadable: frozenset[str]) -> Iterator[ManifestError]:
    layers = READS[draft.layer]
    own = f"bronze.{draft.dataset}"
    valid = [own] if draft.layer == "silver" else [n for n in drafts if n.partition(".")[0] in layers]
    valid = [n for n in valid if n != draft.name]
    for reference in draft.references:
        layer, _, dataset = reference.name.partition(".")
        if reference.name in valid or (layer in layers and dataset in unreadable):
            continue
        if reference.name == draft.name:
            message = f"{draft.name} reads itself"
        elif reference.name in drafts:
            rule = "its own bronze table" if draft.layer == "silver" else " and ".join(layers)
            message = f"{draft.name} may not read {reference.name}: a {draft.layer} reads only {rule}"
        else:
            message = f"unknown table {reference.name!r}"
        yield draft.sql_error(f"{message}; {hint(reference.name, valid)}", reference.line)


def _given(draft: TableDraft, drafts: Drafts) -> Schema:
    """Columns of the relations that the platform gives to a transform."""
    lookups = resolve_lookups(draft, drafts)
    return {**GIVEN_COLUMNS, **{name: table.contract.names for name, table in lookups.items()}}


def _columns(draft: TableDraft, schema: Schema) -> Iterator[ManifestError]:
    """Unknown columns, and the result's columns against the contract's; their order is free."""
    if draft.sql is None or draft.sql_file is None:
        return  # generated: a column that the source lacks is reported as a column without a type
    columns, problems = resolve_columns(draft.sql, schema)
    yield from (draft.sql_error(p.message, p.line) for p in problems)
    if problems:
        return
    yield from _names(draft, columns)
    if draft.function is None:  # what a function gives is known when it is called
        yield from _result(draft, draft.sql_file.path.name, columns)


def _names(draft: TableDraft, columns: tuple[OutputColumn, ...]) -> Iterator[ManifestError]:
    names = [c.name for c in columns]
    expected = draft.contract.names
    for i, column in enumerate(columns):
        if not column.name:
            message = f"column {i + 1} of the result has no name: add `as <name>`"
            missing = [n for n in expected if n not in names]
            yield draft.sql_error(f"{message}; {hint('', missing or expected)}", column.line)
        elif column.name in names[:i]:
            yield draft.sql_error(f"column {column.name!r} is given twice: keep one", column.line)


def _result(draft: TableDraft, sql_name: str, columns: tuple[OutputColumn, ...]) -> Iterator[ManifestError]:
    expected = draft.contract.names
    names = [c.name for c in columns]
    missing = [n for n in expected if n not in names]
    for column in columns:
        if column.name and column.name not in expected:
            message = f"column {column.name!r} is not in the contract of {draft.name}"
            yield draft.sql_error(f"{message}; {hint(column.name, expected)}", column.line)
    for name in missing:
        message = f"column {name!r} is not given by {sql_name}, which gives {', '.join(n or '?' for n in names)}"
        yield draft.file.error(message, draft.layer, "columns", name)


def _grain(draft: TableDraft) -> Iterator[ManifestError]:
    grain = None if draft.layer == "bronze" else draft.file.model.table(draft.layer).grain
    inputs = [r.name for r in draft.references]
    if grain is not None and grain not in inputs and draft.query is not None:
        yield draft.file.error(f"grain {grain!r} is not read by the SQL; {hint(grain, inputs)}", draft.layer, "grain")


def _cycles(drafts: Drafts) -> Iterator[ManifestError]:
    """Each cycle once, named from its first table in the order of the project."""
    reported: set[frozenset[str]] = set()
    for name in drafts:
        cycle = _path_back(name, drafts)
        if cycle and frozenset(cycle) not in reported:
            reported.add(frozenset(cycle))
            draft, message = drafts[name], f"cycle: {' → '.join(cycle)}; take one of these reads out"
            line = next((r.line for r in draft.references if r.name == cycle[1]), None)
            at = (draft.layer, _held_in(draft, cycle[1]), cycle[1])
            yield draft.sql_error(message, line) if line else draft.file.error(message, *at)


def _held_in(draft: TableDraft, upstream: str) -> str:
    """Field of the manifest that names a table which the SQL doesn't."""
    return "references" if upstream in draft.declared_references else "lookups"


def _path_back(name: str, drafts: Drafts) -> list[str] | None:
    """The shortest way from a table over others back to itself."""
    paths = [[name]]
    seen: set[str] = set()
    while paths:
        path = paths.pop(0)
        for upstream in drafts[path[-1]].upstream:
            if upstream == name and len(path) > 1:
                return [*path, name]
            if upstream in drafts and upstream not in seen and upstream != name:
                seen.add(upstream)
                paths.append([*path, upstream])
    return None
