"""References: the table exists and may be read, columns compare, and nobody reads the table in another way as well."""

from collections.abc import Iterator, Mapping

from etl_assets.project_grain_checks import same_partitions
from etl_assets.project_lookup_checks import WHOLE_NUMBERS
from etl_assets.project_resolve import TableDraft
from etl_resources.errors import ManifestError
from etl_resources.lookups import FOUND, relation_name
from etl_resources.manifest_tables import Reference
from etl_resources.suggest import hint

REFERS = {"silver": ("silver",), "gdp": ("silver", "gdp"), "kpi": ("gdp", "kpi")}
"""Layers to which rows of a layer may refer."""


def reference_errors(
    draft: TableDraft, drafts: Mapping[str, TableDraft], unreadable: frozenset[str]
) -> Iterator[ManifestError]:
    """Everything that is wrong in the references of one table."""
    valid = [n for n in drafts if n.partition(".")[0] in REFERS.get(draft.layer, ()) and n != draft.name]
    used = {relation_name(asset): asset for asset in draft.file.model.lookups(draft.layer)}
    for asset, reference in draft.declared_references.items():
        at, dataset = (draft.layer, "references", asset), asset.partition(".")[2]
        if asset not in valid:
            if dataset not in unreadable:
                yield draft.file.error(f"{draft.name} may not refer to {asset!r}; {hint(asset, valid)}", *at)
            continue
        if relation_name(asset) in used:
            message = f"{used[relation_name(asset)]} is looked up already, and null where nothing is found"
            yield draft.file.error(f"{message}: make a column that is taken `nullable: false`, with a reason", *at)
        used.setdefault(relation_name(asset), asset)
        if asset in (r.name for r in draft.references):
            message = f"{asset} is read by the SQL as a whole: join it and make a column `nullable: false`"
            yield draft.file.error(f"{message}, or don't read it", *at)
        if drafts[asset].file.model.partitions is not None:
            yield draft.file.error(f"{asset} has partitions: rows refer to a table without, whatever their time", *at)
        yield from _source(draft, asset, reference, drafts)


def _source(
    draft: TableDraft, asset: str, reference: Reference, drafts: Mapping[str, TableDraft]
) -> Iterator[ManifestError]:
    """The input that holds the keys, and the columns on both sides."""
    at, windows = (draft.layer, "references", asset), draft.file.model.windows(draft.layer)
    inputs = [
        r.name
        for r in draft.references
        if r.name in drafts and r.name not in windows and same_partitions(draft, r.name, drafts)
    ]
    source = draft.source_of(reference)
    if source not in inputs:
        message = (
            f"from {source!r} is not an input that the SQL reads for the same period and partitions"
            if source
            else "say from"
        )
        yield draft.file.error(f"{message}: whose rows hold the key; {hint(source or '', inputs)}", *at, "from")
        return
    sides = {source: drafts[source].contract, draft.name: draft.contract}
    found = {c.name: c.type for c in drafts[asset].contract.columns}
    for own, other in reference.on.items():
        kinds = []
        for name, contract in sides.items():
            types = {c.name: c.type for c in contract.columns}
            if own not in types or own == FOUND:
                message = f"on {own!r} is not a column of {name}, from which it must come unchanged"
                yield draft.file.error(f"{message}; {hint(own, types)}", *at, "on", own)
            kinds.append(types.get(own))
        if other not in found:
            yield draft.file.error(f"on {other!r} is not a column of {asset}; {hint(other, found)}", *at, "on", own)
        kinds.append(found.get(other))
        if all(kinds) and len(set(kinds)) > 1 and not set(kinds) <= set(WHOLE_NUMBERS):
            message = f"on {own!r} is a {kinds[0]} in {source}, a {kinds[1]} here, {other!r} of {asset} a {kinds[2]}"
            yield draft.file.error(f"{message}: they must be of one type", *at, "on", own)
