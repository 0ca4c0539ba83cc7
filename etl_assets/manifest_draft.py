"""A manifest from a table of a system of record (U2): what the catalog knows, and nothing invented."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from etl_assets.project_files import MANIFEST
from etl_resources.errors import PermanentError
from etl_resources.extract.postgres import open_source
from etl_resources.introspect import TableColumn, TableDescription, describe_table
from etl_resources.manifest import Dataset
from etl_resources.manifest_file import load_platform, parse_manifest, shown
from etl_resources.settings import resolve_secret
from etl_resources.suggest import hint

CONNECT_TIMEOUT_S = 10
PARTITION_TYPES = ("date", "timestamptz")
STAMPS = (
    "updated_at", "modified_at", "changed_at", "last_updated_at", "last_modified_at", "last_updated",
    "last_modified", "updated_on", "modified_on", "updated", "modified",
)  # fmt: skip
"""Names of a column that the database sets on every change, the likeliest first."""
_NOT_PLAIN = ("true", "false", "null")


@dataclass(frozen=True)
class DraftRequest:
    """What the user said; None or () where the catalog or platform.yaml decides."""

    dataset: str
    table: str
    owner: str
    system: str | None = None
    tenant: str | None = None
    partition_by: str | None = None
    whole: bool = False
    """Without partitions: the table is read whole."""
    key: tuple[str, ...] = ()
    skip_unsupported: bool = False


def manifest_path(root: Path, dataset: str, *, replace: bool) -> Path:
    """Where the manifest goes. Raises PermanentError when there is one already."""
    path = root / "datasets" / dataset / MANIFEST
    if path.exists() and not replace:
        raise PermanentError(f"{shown(path)} exists already: use --force to overwrite it, or another name.")
    return path


def draft_manifest(root: Path, request: DraftRequest) -> tuple[str, list[str]]:
    """The manifest's text, and notes for whoever goes on with it. Reads the table's catalog entry only.

    Raises PermanentError naming columns and options for what can't be decided.
    """
    platform = load_platform(root / "platform.yaml")
    databases = [name for name, system in platform.systems.items() if system.kind == "postgres"]
    system = _only("system", request.system, databases)
    tenant = _only("tenant", request.tenant, platform.tenants)
    secret = platform.systems[system].connection.secret
    with open_source(resolve_secret(secret), setting=secret, timeout_s=CONNECT_TIMEOUT_S) as connection:
        table = describe_table(connection, request.table)
    columns = _supported(table, skip=request.skip_unsupported)
    key = _key(table, columns, request.key)
    if request.whole and request.partition_by:
        raise PermanentError("--whole means no partitions: leave --partition-by out.")
    by = None if request.whole else _partition_column(table, columns, request.partition_by)
    text = "\n".join(_lines(request, table, columns, (system, tenant), key, by)) + "\n"
    path = root / "datasets" / request.dataset / MANIFEST
    parse_manifest(text, path, Dataset)
    return text, list(_notes(request, columns, by))


def _only(kind: str, given: str | None, valid: Iterable[str]) -> str:
    names = list(valid)
    if given is None and len(names) == 1:
        return names[0]
    if given in names:
        return str(given)
    what = f"unknown {kind} {given!r}" if given else f"which {kind}? Give --{kind}"
    raise PermanentError(f"{what}; {hint(given or '', names)} (platform.yaml).")


def _supported(table: TableDescription, *, skip: bool) -> list[TableColumn]:
    bad = [c for c in table.columns if c.type is None]
    if bad and not skip:
        listed = "; ".join(f"{c.name} ({c.postgres_type}): {c.reason}" for c in bad)
        raise PermanentError(f"{table.name}: {listed}. Or leave these columns out with --skip-unsupported.")
    columns = [c for c in table.columns if c.type is not None]
    if not columns:
        raise PermanentError(f"{table.name} has no column of a supported type.")
    return columns


def _key(table: TableDescription, columns: list[TableColumn], given: tuple[str, ...]) -> tuple[str, ...]:
    names = [c.name for c in columns]
    if not given and not table.primary_key:
        raise PermanentError(f"{table.name} has no primary key: give --key; valid: {', '.join(names)}.")
    key = given or table.primary_key
    for name in key:
        if name not in names:
            origin = "--key" if given else "the primary key's column"
            raise PermanentError(f"{table.name}: {origin} {name!r} is not among the columns; {hint(name, names)}.")
    return key


def _partition_column(table: TableDescription, columns: list[TableColumn], given: str | None) -> str:
    candidates = [c.name for c in columns if c.type in PARTITION_TYPES]
    if given in candidates:
        return str(given)
    if given:
        types = " or ".join(PARTITION_TYPES)
        raise PermanentError(
            f"{table.name}: --partition-by {given!r} is not a {types} column; {hint(given, candidates)}."
        )
    dates = [c.name for c in columns if c.type == "date"]
    if len(dates) == 1:
        return dates[0]
    found = f"{len(dates)} columns are dates" if dates else "no column is a date"
    raise PermanentError(
        f"{table.name}: {found}: give --partition-by; valid: {', '.join(candidates) or 'none (join one in by hand)'}. "
        "Or --whole, for a table without partitions."
    )


def _change_column(columns: list[TableColumn]) -> str | None:
    stamps = [c.name for c in columns if c.type == "timestamptz"]
    return next((s for s in STAMPS if s in stamps), None)


def _lines(
    request: DraftRequest,
    table: TableDescription,
    columns: list[TableColumn],
    names: tuple[str, str],
    key: tuple[str, ...],
    by: str | None,
) -> Iterator[str]:
    system, tenant = names
    description = table.description or f"Table {table.name} of {system}."
    keys = ", ".join(_name(k) for k in key)
    stamp = _change_column(columns)
    yield f"dataset: {request.dataset}"
    yield f"owner: {request.owner}"
    yield f"tenant: {tenant}"
    yield f"description: {_text(description)}"
    if by is not None:
        yield f"partitions: {{by: {_name(by)}, every: month}}"
    yield "source:"
    yield "  kind: postgres"
    yield f"  system: {system}"
    yield f"  table: {table.name}"
    if by is None:
        yield "  extract: full"
    yield f"  key: [{keys}]"
    if stamp:
        yield f"  change_column: {stamp}"
    yield "  columns:"
    yield from (f"    {_name(c.name)}: {c.type}" for c in columns)
    yield from (
        f"    # left out: {json.dumps(c.name)} {c.postgres_type}: {c.reason}" for c in table.columns if c.type is None
    )
    yield "bronze: {}"
    yield "silver:"
    yield f"  key: [{keys}]"
    yield "  columns:"
    for column in columns:
        required = not column.nullable or column.name in (*key, by)
        fields = ["nullable: false"] if required else []
        fields += [f"description: {_text(column.description)}"] if column.description else []
        yield f"    {_name(column.name)}: {{{', '.join(fields)}}}"


def _notes(request: DraftRequest, columns: list[TableColumn], by: str | None) -> Iterator[str]:
    if request.owner == "team:unassigned":
        yield "owner is team:unassigned: write who answers for it"
    if _change_column(columns) is None:
        yield "no column looks stamped on change, so every column is compared; set change_column if one is"
    else:
        yield f"change_column is {_change_column(columns)}: keep it only if the database itself sets it"
    if any(c.name == by and c.nullable for c in columns):
        yield f"{by} may be null in the source: rows without it belong to no partition and are not read"


def _name(name: str) -> str:
    """A column name in YAML, where these words are values."""
    return f'"{name}"' if name in _NOT_PLAIN else name


def _text(text: str) -> str:
    return json.dumps(" ".join(text.split()), ensure_ascii=False)
