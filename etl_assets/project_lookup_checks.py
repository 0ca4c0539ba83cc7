"""Lookups: tables and columns exist, types compare, one row at most is found, the SQL reads what is declared."""

from collections.abc import Iterator, Mapping

from etl_assets.project_grain_checks import same_partitions
from etl_assets.project_resolve import TableDraft
from etl_resources.business_days import GIVEN_COLUMNS
from etl_resources.errors import ManifestError
from etl_resources.lookups import relation_name
from etl_resources.manifest_tables import Lookup
from etl_resources.suggest import hint

ORDERED = ("date", "timestamptz")
WHOLE_NUMBERS = ("bigint", "int")


def lookup_errors(
    draft: TableDraft, drafts: Mapping[str, TableDraft], layers: tuple[str, ...], unreadable: frozenset[str]
) -> Iterator[ManifestError]:
    """Everything that is wrong in the lookups of one table. layers: those that it may read."""
    lookups = draft.file.model.lookups(draft.layer)
    yield from _named_by_sql(draft, lookups)
    valid = [n for n in drafts if n.partition(".")[0] in layers and n != draft.name]
    names: dict[str, str] = {}
    for asset, lookup in lookups.items():
        layer, _, dataset = asset.partition(".")
        if asset not in valid:
            if not (layer in layers and dataset in unreadable):
                kind = "may not look up" if asset in drafts else "looks up the unknown table"
                yield draft.file.error(
                    f"{draft.name} {kind} {asset!r}; {hint(asset, valid)}", draft.layer, "lookups", asset
                )
            continue
        if relation_name(asset) in names:
            message = f"{asset} and {names[relation_name(asset)]} would both be {relation_name(asset)}: look up one"
            yield draft.file.error(message, draft.layer, "lookups", asset)
        names.setdefault(relation_name(asset), asset)
        yield from _lookup(draft, asset, lookup, drafts)


def _named_by_sql(draft: TableDraft, lookups: Mapping[str, Lookup]) -> Iterator[ManifestError]:
    valid = [*GIVEN_COLUMNS, *map(relation_name, lookups)]
    for reference in draft.given:
        if reference.name not in valid:
            message = f"unknown table {reference.name!r}: declare it as a lookup"
            yield draft.sql_error(f"{message}; {hint(reference.name, valid)}", reference.line)
    if draft.query is None:
        return
    read = [r.name for r in draft.given]
    for asset in lookups:
        if relation_name(asset) not in read:
            message = f"lookup {relation_name(asset)} is not read by the SQL: read it or take it away"
            yield draft.file.error(message, draft.layer, "lookups", asset)
    for reference in draft.references:
        if reference.name in lookups:
            message = (
                f"{reference.name} is declared as a lookup: read {relation_name(reference.name)}, or take that away"
            )
            yield draft.sql_error(message, reference.line)


def _lookup(draft: TableDraft, asset: str, lookup: Lookup, drafts: Mapping[str, TableDraft]) -> Iterator[ManifestError]:
    at = (draft.layer, "lookups", asset)
    if drafts[asset].file.model.partitions is not None:
        message = f"{asset} has partitions: a lookup finds rows in a table without, whatever their time"
        yield draft.file.error(message, *at)
    windows = draft.file.model.windows(draft.layer)
    inputs = [
        r.name
        for r in draft.references
        if r.name in drafts and r.name not in windows and same_partitions(draft, r.name, drafts)
    ]
    if lookup.from_ not in inputs:
        message = f"from {lookup.from_!r} is not an input that the SQL reads for the same period and partitions"
        yield draft.file.error(f"{message}; {hint(lookup.from_, inputs)}", *at, "from")
        return
    source = {c.name: c.type for c in drafts[lookup.from_].contract.columns}
    found = {c.name: c.type for c in drafts[asset].contract.columns}
    problems = [*_columns(asset, lookup, source, found), *_types(asset, lookup, source, found)]
    yield from (draft.file.error(message, *at, *path) for message, path in problems)
    if not problems:
        yield from (draft.file.error(m, *at) for m in _shape(asset, lookup, drafts[asset].contract.key))


Problem = tuple[str, tuple[str | int, ...]]
"""Message, and the field below the lookup."""


def _columns(asset: str, lookup: Lookup, source: Mapping[str, str], found: Mapping[str, str]) -> Iterator[Problem]:
    for field, pairs in (("on", lookup.on), ("as_of", lookup.as_of or {})):
        for own, other in pairs.items():
            if own not in source:
                yield f"{field} {own!r} is not a column of {lookup.from_}; {hint(own, source)}", (field, own)
            if other not in found:
                yield f"{field} {other!r} is not a column of {asset}; {hint(other, found)}", (field, own)
    if lookup.latest_by is not None and lookup.latest_by not in found:
        message = f"latest_by {lookup.latest_by!r} is not a column of {asset}"
        yield f"{message}; {hint(lookup.latest_by, found)}", ("latest_by",)
    for i, name in enumerate(lookup.columns):
        if name not in found:
            yield f"column {name!r} is not a column of {asset}; {hint(name, found)}", ("columns", i)
        elif name in lookup.columns[:i]:
            yield f"column {name!r} is given twice: keep one", ("columns", i)


def _types(asset: str, lookup: Lookup, source: Mapping[str, str], found: Mapping[str, str]) -> Iterator[Problem]:
    for own, other in lookup.on.items():
        kinds = source.get(own), found.get(other)
        if all(kinds) and kinds[0] != kinds[1] and not set(kinds) <= set(WHOLE_NUMBERS):
            yield (
                f"on {own!r} is a {kinds[0]}, {other!r} of {asset} a {kinds[1]}: they must be of one type",
                ("on", own),
            )
    for own, other in (lookup.as_of or {}).items():
        kinds = source.get(own), found.get(other)
        if all(kinds) and (kinds[0] != kinds[1] or kinds[0] not in ORDERED):
            message = f"as_of {own!r} is a {kinds[0]}, {other!r} of {asset} a {kinds[1]}"
            yield f"{message}; valid: both {' or both '.join(ORDERED)}", ("as_of", own)


def _shape(asset: str, lookup: Lookup, key: tuple[str, ...]) -> Iterator[str]:
    """One row at most for each key, and no two columns of one name."""
    as_of = lookup.as_of or {}
    order = [*as_of.values(), *([lookup.latest_by] if lookup.latest_by else [])]
    open_key = [k for k in key if k not in (*lookup.on.values(), *order)]
    if open_key:
        message = f"several rows of {asset} could be found, whose key is {', '.join(key)}"
        yield f"{message}: name {', '.join(open_key)} in on, as_of or latest_by"
    keys = [*lookup.on, *as_of]
    for name in dict.fromkeys((*lookup.columns, *order)):
        if name in keys:
            yield f"{name!r} of {asset} has the name of a column of {lookup.from_} that looks up; rename one of them"
