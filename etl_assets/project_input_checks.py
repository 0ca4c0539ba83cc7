"""What a table reads other than the same period of its inputs: windows must fit the SQL that reads them."""

from collections.abc import Iterator

from etl_assets.project_resolve import TableDraft
from etl_resources.calendar import PERIOD
from etl_resources.errors import ManifestError
from etl_resources.suggest import hint


def input_errors(draft: TableDraft, drafts: dict[str, TableDraft]) -> Iterator[ManifestError]:
    """Windows of inputs that aren't read, or that can't have one; periods that a table without partitions lacks."""
    if draft.query is None:
        return
    read = [r.name for r in draft.references]
    dataset = draft.file.model
    for name, window in dataset.windows(draft.layer).items():
        at = (draft.layer, "inputs", name)
        if name not in read:
            yield draft.file.error(f"input {name!r} is not read by the SQL; {hint(name, read)}", *at)
        elif name == dataset.table(draft.layer).grain and dataset.partitions:
            message = f"{name} is the grain, of which each row of this period gives one row: it can't have a window"
            yield draft.file.error(f"{message}; take the window or the grain away", *at)
        elif name in drafts and drafts[name].file.model.partitions is None:
            yield draft.file.error(f"{name} has no partitions and is always read whole: it can't have a window", *at)
        elif dataset.partitions is None and window.periods is not None:
            message = f"{draft.name} has no partitions, to which periods could be relative"
            yield draft.file.error(f"{message}; valid: {{partitions: all}}", *at)
    if dataset.partitions is None:
        yield from _without_period(draft, drafts)


def _without_period(draft: TableDraft, drafts: dict[str, TableDraft]) -> Iterator[ManifestError]:
    for reference in draft.given:
        if reference.name == PERIOD:
            yield draft.sql_error(
                f"{draft.name} has no partitions, so that {PERIOD} has nothing to tell", reference.line
            )
    windows = draft.file.model.windows(draft.layer)
    for reference in draft.references:
        if reference.name in drafts and drafts[reference.name].file.model.partitions and reference.name not in windows:
            message = f"{draft.name} has no partitions and {reference.name} has: which ones it reads must be said"
            advice = f"add `{draft.layer}: {{inputs: {{{reference.name}: {{partitions: all}}}}}}`, or partitions"
            yield draft.sql_error(f"{message}; {advice}", reference.line)
