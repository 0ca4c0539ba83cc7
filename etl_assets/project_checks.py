"""What the fields of manifests mean to each other and to platform.yaml. SQL is checked elsewhere."""

from collections.abc import Iterable, Iterator

from etl_assets.project_bucket_checks import bucket_errors
from etl_assets.project_column_checks import column_errors
from etl_assets.project_files import ProjectFiles
from etl_assets.project_grain_checks import span_errors
from etl_assets.project_resolve import TableDraft
from etl_assets.project_schedule_checks import schedule_errors
from etl_assets.project_size_checks import size_errors
from etl_assets.reconciliations import reconciliations
from etl_resources.conventions import META_RUN_ID, database_name, table_name
from etl_resources.errors import ManifestError
from etl_resources.manifest import Calendar, Dataset, Platform
from etl_resources.manifest_file import ManifestFile
from etl_resources.manifest_sources import PostgresSource, Source
from etl_resources.suggest import hint

PARTITION_TYPES = ("date", "timestamptz")
RESERVED_COLUMNS = ("partition", "epoch", META_RUN_ID)
"""Names that the platform gives to its own columns and folders."""
File = ManifestFile[Dataset]


def manifest_errors(files: ProjectFiles, drafts: dict[str, TableDraft]) -> Iterator[ManifestError]:
    """Everything that is wrong in the manifests themselves."""
    platform = files.platform.model
    yield from size_errors(files)
    for name, file in files.datasets.items():
        dataset = file.model
        yield from _names_of_platform(file, platform)
        yield from span_errors(file, platform.calendar)
        if dataset.source:
            yield from _source(file, dataset.source, platform)
            yield from _extract(file, dataset.source)
            yield from _evolution(file)
        for layer in dataset.layers:
            draft = drafts[f"{layer}.{name}"]
            yield from column_errors(draft)
            yield from _reserved_names(draft)
            yield from bucket_errors(draft)
            yield from _partition_column(draft, platform.calendar)
            if layer != "bronze":
                yield from _key(file, draft.contract.names, draft.contract.key, layer)
        yield from _serving(file, drafts[f"{dataset.layers[-1]}.{name}"], platform)
    yield from schedule_errors(files, drafts)
    yield from _served_twice(files)
    yield from _same_table(files, drafts)


def _names_of_platform(file: File, platform: Platform) -> Iterator[ManifestError]:
    dataset = file.model
    given: list[tuple[str, str, Iterable[str], tuple[str | int, ...]]] = [
        ("tenant", dataset.tenant, platform.tenants, ("tenant",)),
        (
            "network profile",
            dataset.runner.network_profile,
            platform.network_profiles,
            ("runner", "network_profile"),
        ),
    ]
    if dataset.source:
        given.append(("system", dataset.source.system, platform.systems, ("source", "system")))
    given += [("system", r.rule.system, platform.systems, (*r.at, "system")) for r in reconciliations(dataset)]
    for kind, name, valid, path in given:
        if name not in valid:
            yield file.error(f"unknown {kind} {name!r}; {hint(name, valid)} (platform.yaml)", *path)


def _source(file: File, source: Source, platform: Platform) -> Iterator[ManifestError]:
    yield from _key(file, source.columns, source.key, "source")
    system = platform.systems.get(source.system)
    if system and system.kind != source.kind:
        fitting = ", ".join(name for name, s in platform.systems.items() if s.kind == source.kind) or "none"
        message = f"system {source.system!r} is of kind {system.kind}, the source of kind {source.kind}"
        yield file.error(f"{message}; valid: {fitting} (platform.yaml)", "source", "system")
    if isinstance(source, PostgresSource):
        yield from _postgres(file, source)


def _postgres(file: File, source: PostgresSource) -> Iterator[ManifestError]:
    columns = list(source.columns)
    if source.change_column and source.change_column not in columns:
        message = f"change_column {source.change_column!r} is not a column of the source"
        yield file.error(f"{message}; {hint(source.change_column, columns)}", "source", "change_column")
    joined: dict[str, str] = {}
    later = [name for join in source.joins for name in join.columns]
    for i, join in enumerate(source.joins):
        at = ("source", "joins", i)
        for parent, own in join.on.items():
            if own not in columns:
                message = f"join on {own!r}: not a column of the source; {hint(own, columns)}"
                yield file.error(message, *at, "on", parent)
            elif own in later and own not in joined:
                message = f"join on {own!r}: the column comes from this or a later join; move that join up"
                yield file.error(message, *at, "on", parent)
        for name in join.columns:
            if name not in columns:
                message = f"join gives {name!r}, which is not a column of the source: list it with its type"
                yield file.error(f"{message}; {hint(name, columns)}", *at, "columns", name)
            if name in joined:
                message = f"join gives {name!r}, which the join with {joined[name]} gives too: keep one"
                yield file.error(message, *at, "columns", name)
            joined.setdefault(name, join.table)


def _extract(file: File, source: Source) -> Iterator[ManifestError]:
    """Windows of a Postgres need partitions; what is delivered whole has none."""
    partitioned = file.model.partitions is not None
    if not isinstance(source, PostgresSource):
        if partitioned:
            yield file.error(f"a source of kind {source.kind} is read whole; remove `partitions`", "partitions")
    elif source.extract == "window" and not partitioned:
        message = "extract window reads by partitions, which this dataset doesn't declare"
        yield file.error(f"{message}; add `partitions`, or say `extract: full`", "source")
    elif source.extract == "full" and partitioned:
        yield file.error("extract full reads the table whole; remove `partitions`", "source", "extract")


def _evolution(file: File) -> Iterator[ManifestError]:
    """A served table has the columns of a contract, and bronze that follows its source has more."""
    dataset = file.model
    evolves = dataset.bronze is not None and dataset.bronze.schema_evolution == "evolve"
    if evolves and dataset.silver is None and dataset.serving:
        message = "bronze that evolves isn't served, because its columns aren't those of a contract; add `silver`"
        yield file.error(message, "bronze", "schema_evolution")


def _partition_column(draft: TableDraft, calendar: Calendar) -> Iterator[ManifestError]:
    by, layer = draft.contract.partition_column, draft.layer
    if by is None:
        return
    section = "source" if layer == "bronze" else layer
    types = {c.name: c.type for c in draft.contract.columns}
    if by not in types:
        message = f"partition column {by!r} is not a column of {section}; {hint(by, types)}"
        yield draft.file.error(message, *(("partitions", "by") if layer == "bronze" else (layer, "columns")))
    elif types[by] and types[by] not in PARTITION_TYPES:
        message = f"partition column {by!r} is a {types[by]}; valid: {', '.join(PARTITION_TYPES)}"
        yield draft.file.error(message, section, "columns", by)
    elif types[by] == "timestamptz" and calendar.time_zone != "UTC":
        message = f"partition column {by!r} is a timestamptz, whose days are those of UTC in the tables"
        yield draft.file.error(
            f"{message}; the calendar is {calendar.time_zone}: partition by a date", section, "columns", by
        )


def _reserved_names(draft: TableDraft) -> Iterator[ManifestError]:
    section = "source" if draft.layer == "bronze" else draft.layer
    for name in draft.contract.names:
        if name in RESERVED_COLUMNS:
            message = f"column {name!r} has a name that the platform uses; rename it (in the source: in a view)"
            yield draft.file.error(message, section, "columns", name)


def _same_table(files: ProjectFiles, drafts: dict[str, TableDraft]) -> Iterator[ManifestError]:
    """gdp of `sales` and gdp of `gdp_sales` have the same name in the catalog."""
    seen: dict[tuple[str, str], str] = {}
    prefix = files.platform.model.database_prefix
    for name, draft in drafts.items():
        place = (database_name(prefix, draft.layer), table_name(draft.layer, draft.dataset))
        if place in seen:
            message = f"{name} and {seen[place]} would be the same table {'.'.join(place)}; rename one dataset"
            yield draft.file.error(message, "dataset")
        seen.setdefault(place, name)


def _key(file: File, columns: Iterable[str], key: Iterable[str], *at: str | int) -> Iterator[ManifestError]:
    for i, name in enumerate(key):
        if name not in columns:
            yield file.error(f"key {name!r} is not a column of {at[0]}; {hint(name, columns)}", *at, "key", i)


def _serving(file: File, draft: TableDraft, platform: Platform) -> Iterator[ManifestError]:
    for i, target in enumerate(file.model.serving):
        if not platform.allowed_targets.allow(target):
            valid = ", ".join(platform.allowed_targets.of_store(target.store)) or "none"
            message = f"target {target.place!r} isn't allowed; valid: {valid} (allowed_targets of platform.yaml)"
            yield file.error(message, "serving", i, target.store)
        for k, name in enumerate(target.key or ()):
            if name not in draft.contract.names:
                message = f"key {name!r} is not a column of {draft.name}; {hint(name, draft.contract.names)}"
                yield file.error(message, "serving", i, "key", k)


def _served_twice(files: ProjectFiles) -> Iterator[ManifestError]:
    served: dict[tuple[str, str], str] = {}
    for name, file in files.datasets.items():
        for i, target in enumerate(file.model.serving):
            place = (target.store, target.place)
            if place in served:
                message = (
                    f"target {target.place!r} is also served by dataset {served[place]!r}: a target has one writer"
                )
                yield file.error(message, "serving", i, target.store)
            served.setdefault(place, name)
