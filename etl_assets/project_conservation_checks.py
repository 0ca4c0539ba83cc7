"""What a table says of rows that it leaves out, and of sums that it conserves, against what it reads."""

from collections.abc import Iterator, Mapping

from etl_assets.project_resolve import TableDraft
from etl_resources.errors import ManifestError
from etl_resources.manifest_tables import ROWS, Derived
from etl_resources.sql_expression import expression_problems
from etl_resources.suggest import hint

MEASURES = ("bigint", "int", "decimal")
"""Types that are summed exactly."""


def conservation_errors(draft: TableDraft, drafts: Mapping[str, TableDraft]) -> Iterator[ManifestError]:
    """Everything that is wrong in `filters` and `conserve`. Not for bronze, which has neither."""
    yield from _filters(draft, drafts)
    yield from _conserve(draft, drafts)


def _filters(draft: TableDraft, drafts: Mapping[str, TableDraft]) -> Iterator[ManifestError]:
    table = draft.file.model.table(draft.layer)
    grain = f"bronze.{draft.dataset}" if draft.layer == "silver" else table.grain
    if table.filters and grain is None:
        yield draft.file.error("filters are of rows of the grain: say which input that is", draft.layer, "filters")
    names: list[str] = []
    for i, rule in enumerate(table.filters):
        at: tuple[str | int, ...] = (draft.layer, "filters", i)
        if rule.name in names:
            yield draft.file.error(f"filter {rule.name!r} is there twice: give each a name of its own", *at, "name")
        names.append(rule.name)
        for problem in (
            expression_problems(rule.expression, drafts[grain].contract.names)
            if grain is not None and grain in drafts
            else ()
        ):
            yield draft.file.error(f"expression of filter {rule.name!r}: {problem}", *at, "expression")


def _conserve(draft: TableDraft, drafts: Mapping[str, TableDraft]) -> Iterator[ManifestError]:
    table, at = draft.file.model.table(draft.layer), (draft.layer, "conserve")
    if not isinstance(table, Derived) or table.conserve is None:
        return
    rule = table.conserve
    if table.grain is not None:
        message = f"{draft.name} has a grain, of which each row is counted: conserve is for what aggregates"
        yield draft.file.error(f"{message}; remove it", *at)
        return
    inputs = [r.name for r in draft.references if r.name in drafts]
    if rule.of not in inputs:
        yield draft.file.error(f"{rule.of!r} is not read by the SQL; {hint(rule.of, inputs)}", *at, "of")
        return
    measures, summed = _numeric(draft), [ROWS, *_numeric(drafts[rule.of])]
    for measure, column in rule.sums.items():
        if measure not in measures:
            message = f"{measure!r} is not a column of {draft.name} that is summed exactly; {hint(measure, measures)}"
            yield draft.file.error(message, *at, "sums", measure)
        if column not in summed:
            message = f"column {column!r} of {rule.of} can't be summed exactly; {hint(column, summed)}"
            yield draft.file.error(message, *at, "sums", measure)


def _numeric(draft: TableDraft) -> list[str]:
    return [c.name for c in draft.contract.columns if c.type.startswith(MEASURES)]
