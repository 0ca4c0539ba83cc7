"""Reads the project's files and keeps where each came from. Nothing is resolved or checked here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from etl_assets.project_adjustments import adjustment_files
from etl_assets.reconciliations import reconciliations
from etl_resources.errors import ManifestError, ManifestErrors
from etl_resources.manifest import Dataset, Platform
from etl_resources.manifest_file import ManifestFile, read_manifest, shown
from etl_resources.python_source import BatchFunction, read_function

MANIFEST = "manifest.yaml"


@dataclass(frozen=True)
class SqlFile:
    """A transform's text and where it lies."""

    path: Path
    text: str

    def error(self, message: str, line: int) -> ManifestError:
        """An error at a line of the file."""
        return ManifestError(message, file=shown(self.path), line=line)


@dataclass(frozen=True)
class ProjectFiles:
    """Every file of a project, by dataset."""

    root: Path
    platform: ManifestFile[Platform]
    datasets: Mapping[str, ManifestFile[Dataset]]
    transforms: Mapping[tuple[str, str], SqlFile]
    """(dataset, layer): the transform that the manifest names."""
    functions: Mapping[tuple[str, str], BatchFunction]
    """(dataset, layer): the Python function that the manifest names."""
    controls: Mapping[str, SqlFile]
    """Control totals by name (etl_assets/reconciliations): the SQL of each."""
    queries: Mapping[tuple[str, str, int], SqlFile]
    """(dataset, layer, number of the check): its SQL."""
    adjusted: Mapping[str, str]
    """Dataset of adjustments, which has no manifest of its own: the table that it adjusts."""
    unreadable: frozenset[str]
    """Folders whose manifest can't be read: what others read of them is unknown, not wrong."""


def read_files(root: Path) -> tuple[ProjectFiles | None, list[ManifestError]]:
    """All files that can be read, with the errors of those that can't; None without a platform.yaml."""
    errors: list[ManifestError] = []
    platform: ManifestFile[Platform] | None = None
    try:
        platform = read_manifest(root / "platform.yaml", Platform)
    except ManifestErrors as e:
        errors += e.errors
    unreadable: set[str] = set()
    datasets = _read_datasets(root / "datasets", errors, unreadable)
    transforms: dict[tuple[str, str], SqlFile] = {}
    controls: dict[str, SqlFile] = {}
    queries: dict[tuple[str, str, int], SqlFile] = {}
    for name, file in datasets.items():
        for layer in file.model.layers[1:] if file.model.source else file.model.layers:
            sql_name = file.model.table(layer).sql
            sql = _read_sql(file, sql_name, errors, layer, "sql") if sql_name else None
            if sql:
                transforms[name, layer] = sql
            for i, check in enumerate(file.model.table(layer).checks):
                sql = _read_sql(file, check.sql, errors, layer, "checks", i, "sql") if check.sql else None
                if sql:
                    queries[name, layer, i] = sql
        for found in reconciliations(file.model):
            sql = _read_sql(file, found.rule.sql, errors, *found.at, "sql")
            if sql:
                controls[found.control] = sql
    functions = _read_functions(root, datasets, errors)
    added = list(adjustment_files(datasets, errors))
    datasets |= {file.model.dataset: file for _, file in added}
    adjusted = {file.model.dataset: table for table, file in added}
    files = None
    if platform:
        files = ProjectFiles(
            root, platform, datasets, transforms, functions, controls, queries, adjusted, frozenset(unreadable)
        )
    return files, errors


def _read_datasets(folder: Path, errors: list[ManifestError], unreadable: set[str]) -> dict[str, ManifestFile[Dataset]]:
    datasets: dict[str, ManifestFile[Dataset]] = {}
    for path in sorted(p for p in folder.glob("*/") if p.name[0] not in "._"):
        try:
            file = read_manifest(path / MANIFEST, Dataset)
        except ManifestErrors as e:
            errors += e.errors
            unreadable.add(path.name)
            continue
        name = file.model.dataset
        if name in datasets:
            message = f"dataset {name!r} is also declared in {shown(datasets[name].path)}: a name is given once"
            errors.append(file.error(message, "dataset"))
        elif name != path.name:
            message = f"dataset {name!r} lies in folder {path.name!r}: folder and dataset have one name"
            errors.append(file.error(message, "dataset"))
            unreadable.add(path.name)
        datasets.setdefault(name, file)
    return datasets


def _read_functions(
    root: Path, datasets: Mapping[str, ManifestFile[Dataset]], errors: list[ManifestError]
) -> dict[tuple[str, str], BatchFunction]:
    """(dataset, layer): the Python function that the manifest names, with the modules that it imports."""
    found = {}
    for dataset, file in datasets.items():
        for layer in file.model.layers:
            given = None if layer == "bronze" else file.model.table(layer).python
            if given is None:
                continue
            name, _, function = given.partition(":")
            try:
                read, problems = read_function(root / "datasets", file.path.parent / name, function)
            except (OSError, UnicodeDecodeError) as e:
                errors.append(_unreadable(file, name, e, layer, "python"))
                continue
            errors += problems
            if read is not None:
                found[dataset, layer] = read
    return found


def _read_sql(file: ManifestFile[Dataset], name: str, errors: list[ManifestError], *at: str | int) -> SqlFile | None:
    path = file.path.parent / name
    try:
        return SqlFile(path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        errors.append(_unreadable(file, name, e, *at))
    return None


def _unreadable(
    file: ManifestFile[Dataset], name: str, error: OSError | UnicodeDecodeError, *at: str | int
) -> ManifestError:
    folder, suffix = file.path.parent, Path(name).suffix
    if isinstance(error, FileNotFoundError):
        there = ", ".join(sorted(p.name for p in folder.glob(f"*{suffix}"))) or "none"
        return file.error(f"{name} doesn't exist in {shown(folder)}; {suffix} files there: {there}", *at)
    reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
    return file.error(f"{name} can't be read: {reason}", *at)
