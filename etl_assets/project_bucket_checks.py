"""What a table whose files are split by bucket must be."""

from collections.abc import Iterator

from etl_assets.project_resolve import TableDraft
from etl_resources.errors import ManifestError
from etl_resources.manifest_tables import Derived
from etl_resources.suggest import hint


def bucket_errors(draft: TableDraft) -> Iterator[ManifestError]:
    """Its column exists and has many values, and its partitions are not kept back for a person as one file."""
    buckets, file, at = draft.contract.buckets, draft.file, (draft.layer, "buckets")
    if buckets is None:
        return
    table = file.model.table(draft.layer)
    if draft.layer == "kpi" or (isinstance(table, Derived) and table.period_close is not None):
        message = "a table whose partitions may wait for a person, a kpi or one with period_close, has no buckets"
        yield file.error(f"{message}; remove `buckets`", *at)
    types = {c.name: c.type for c in draft.contract.columns}
    if buckets.of not in types:
        message = f"buckets of {buckets.of!r}: not a column of {draft.layer}; {hint(buckets.of, types)}"
        yield file.error(message, *at, "of")
    elif types[buckets.of] == "boolean":
        yield file.error(f"buckets of {buckets.of!r}, a boolean: choose a column of many values", *at, "of")
    elif buckets.field in types:
        yield file.error(f"column {buckets.field!r} has the name of its buckets; rename it", *at, "of")
