"""What a manifest says of closed periods, against the table that it says it of and the tables that read it."""

from collections.abc import Iterator, Mapping

from etl_assets.project_adjustments import period_close
from etl_assets.project_conservation_checks import MEASURES
from etl_assets.project_resolve import TableDraft
from etl_assets.reconciliations import reconciliations
from etl_resources.adjustments import OWN
from etl_resources.errors import ManifestError
from etl_resources.suggest import hint


def close_errors(draft: TableDraft, drafts: Mapping[str, TableDraft]) -> Iterator[ManifestError]:
    """Everything that is wrong in `period_close`."""
    found, at = period_close(draft.file.model), (draft.layer, "period_close")
    if found is None or found[0] != draft.layer:
        return
    declared, contract = found[1], draft.contract
    if contract.partition_column is None:
        yield draft.file.error(f"{draft.name} has no partitions, so that it has no period to close", *at)
    numeric = [c.name for c in contract.columns if c.type.startswith(MEASURES) and c.name not in contract.key]
    for i, name in enumerate(declared.measures or ()):
        if name not in numeric:
            message = f"measure {name!r} is not a column outside the key that is summed exactly; {hint(name, numeric)}"
            yield draft.file.error(message, *at, "measures", i)
    if declared.late_data != "adjustment":
        return
    yield from _adjustment_errors(draft, drafts)


def _adjustment_errors(draft: TableDraft, drafts: Mapping[str, TableDraft]) -> Iterator[ManifestError]:
    """Of a table whose closed figures stay."""
    at = (draft.layer, "period_close", "late_data")
    for name in (n for n in draft.contract.names if n in OWN):
        message = (
            f"column {name!r} has the name of a column of adjustments; rename it, or let late data wait for approval"
        )
        yield draft.file.error(message, draft.layer, "columns", name)
    for table in (draft, *_behind(draft, drafts)):
        by = table.contract.partition_column
        if by is not None and by not in table.contract.key:
            message = (
                f"a row that moves from a closed period of {draft.name} to an open one stays in both, under one key of "
                f"{table.name}: add {by!r} to that key, or let late data wait for approval"
            )
            yield draft.file.error(message, *at)
    for reader in _behind(draft, drafts):
        if any(r.layer == reader.layer for r in reconciliations(reader.file.model)):
            what = f"{reader.name} is made of {draft.name} and must equal the control totals of now"
            message = f"{what}, which closed figures don't: say it of {reader.name}, or `approval` here"
            yield draft.file.error(message, *at)


def _behind(draft: TableDraft, drafts: Mapping[str, TableDraft]) -> list[TableDraft]:
    """Tables that are made of one, directly or not."""
    found: dict[str, TableDraft] = {}
    names = [draft.name]
    while names:
        name = names.pop()
        new = [d for d in drafts.values() if name in d.upstream and d.name not in found]
        found |= {d.name: d for d in new}
        names += [d.name for d in new]
    return list(found.values())
