"""Partitions against the platform's calendar, and inputs of one grain against tables of another."""

from collections.abc import Iterator, Mapping

from etl_assets.capture_grains import captures_of
from etl_assets.project_resolve import TableDraft
from etl_assets.reconciliations import reconciliations
from etl_resources.calendar import Every, bounds
from etl_resources.errors import ManifestError
from etl_resources.manifest import Calendar, Dataset
from etl_resources.manifest_file import ManifestFile
from etl_resources.manifest_sources import PostgresSource
from etl_resources.manifest_targets import ElasticsearchTarget

Drafts = Mapping[str, TableDraft]


def span_errors(file: ManifestFile[Dataset], calendar: Calendar) -> Iterator[ManifestError]:
    """First and last partition, and targets that can't take so many."""
    partitions = file.model.partitions
    if partitions is None:
        return
    grain = calendar.grain(partitions.every)
    every = grain.within(*calendar.span)
    wrong = False
    for name, key in (("start", partitions.start), ("end", partitions.end)):
        if key is None or key in every:
            continue
        wrong = True
        message = f"{name} {key} is no {partitions.every.replace('_', ' ')} of the platform's calendar"
        if grain.is_key(key):
            message = f"{name} {key} lies outside the platform's calendar"
        else:
            message += f", which has {grain.containing(bounds(key)[0])}"
        yield file.error(f"{message}; valid: {every[0]} to {every[-1]}", "partitions", name)
    start, end = partitions.start or every[0], partitions.end or every[-1]
    if end < start and not wrong:
        yield file.error(f"end {end} lies before start {start}", "partitions", "end")
    for i, target in enumerate(file.model.serving):
        if partitions.every == "day" and isinstance(target, ElasticsearchTarget) and target.load == "replace":
            message = "load: replace makes an index per partition, of which a server has no room for one a day"
            yield file.error(f"{message}; say `load: upsert`", "serving", i, "load")


def same_partitions(draft: TableDraft, name: str, drafts: Drafts) -> bool:
    """Whether an input has the partitions of the table that reads it, or none."""
    own, read = draft.file.model.partitions, drafts[name].file.model.partitions
    return own is None or read is None or own.every == read.every


def grain_errors(draft: TableDraft, drafts: Drafts) -> Iterator[ManifestError]:
    """Rows that are counted one by one need partitions of which each period has whole ones; inputs that are read
    together are of one capture."""
    if draft.layer == "bronze":
        return
    table = draft.file.model.table(draft.layer)
    conserve = getattr(table, "conserve", None)
    counted: list[tuple[str, tuple[str, ...]]] = [(table.grain, ("grain",))] if table.grain else []
    counted += [(conserve.of, ("conserve", "of"))] if conserve else []
    for name, at in counted:
        if name in drafts and not nests(draft, drafts[name]):
            message = f"{name} has partitions by {_every(drafts[name])}, of which a {_every(draft)} has no whole ones"
            yield draft.file.error(f"{message}: its rows can't be counted; leave {at[0]} out", draft.layer, *at)
    yield from _captures(draft, drafts)


def nests(draft: TableDraft, read: TableDraft) -> bool:
    """Whether a partition of a table has whole ones of what it reads."""
    if draft.file.model.partitions is None or read.file.model.partitions is None:
        return True
    return read.contract.grain.nests_in(draft.contract.grain)


def _every(draft: TableDraft) -> str:
    partitions = draft.file.model.partitions
    return partitions.every.replace("_", " ") if partitions else "whole"


def _captures(draft: TableDraft, drafts: Drafts) -> Iterator[ManifestError]:
    captures = captures_of(draft.name, lambda n: same_period_inputs(n, drafts), lambda n: _captured(n, drafts))
    by_system: dict[str, dict[Every, str]] = {}
    for (system, every), table in captures.items():
        by_system.setdefault(system, {})[every] = table
    for system, found in by_system.items():
        if len(found) > 1:
            told = " and ".join(f"{table} by {every.replace('_', ' ')}" for every, table in sorted(found.items()))
            message = f"{draft.name} is made from {told}, which are captured of {system} at moments of their own"
            yield draft.sql_error(f"{message}: give their datasets the same partitions", 1)
    for declared in reconciliations(draft.file.model):
        if declared.layer != draft.layer or draft.file.model.partitions is None:
            continue
        system = declared.rule.system
        found = by_system.get(system, {})
        if not found:
            message = f"{draft.name} isn't made from tables that are captured of {system} by period"
            yield draft.file.error(f"{message}: there are no totals to compare with", *declared.at, "system")
        elif declared.rule.by is None and not draft.contract.grain.nests_in(
            drafts[next(iter(found.values()))].contract.grain
        ):
            message = f"totals are kept by {next(iter(found)).replace('_', ' ')}, several for a {_every(draft)}"
            yield draft.file.error(f"{message}: say by which columns they are summed (`by`)", *declared.at)


def same_period_inputs(name: str, drafts: Drafts) -> list[str]:
    """What the SQL of a table reads for its own period, among others or not."""
    draft = drafts[name]
    windows = draft.file.model.windows(draft.layer)
    found = [r.name for r in draft.references if r.name in drafts]
    return [name for name in found if name not in windows or windows[name].has_own_period]


def _captured(name: str, drafts: Drafts) -> tuple[str, Every] | None:
    dataset = drafts[name].file.model
    if drafts[name].layer != "bronze" or dataset.partitions is None or not isinstance(dataset.source, PostgresSource):
        return None
    return dataset.source.system, dataset.partitions.every
