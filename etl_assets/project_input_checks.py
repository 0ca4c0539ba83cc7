"""What a table reads other than the same period of its inputs: windows must fit the SQL that reads them."""

from collections.abc import Iterator

from etl_assets.project_resolve import TableDraft
from etl_resources.errors import ManifestError
from etl_resources.suggest import hint


def input_errors(draft: TableDraft) -> Iterator[ManifestError]:
    """Windows of inputs that aren't read, or that can't have one."""
    if draft.query is None:
        return
    read = [r.name for r in draft.references]
    dataset = draft.file.model
    for name in dataset.windows(draft.layer):
        at = (draft.layer, "inputs", name)
        if name not in read:
            yield draft.file.error(f"input {name!r} is not read by the SQL; {hint(name, read)}", *at)
        elif name == dataset.table(draft.layer).grain:
            message = f"{name} is the grain, of which each row of this period gives one row: it can't have a window"
            yield draft.file.error(f"{message}; take the window or the grain away", *at)
