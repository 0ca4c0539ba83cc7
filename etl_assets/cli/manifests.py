"""`data-pipeline validate`, `schema` and `new`: manifests before anything runs."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from etl_resources.errors import ManifestErrors, PermanentError

ProjectPath = Annotated[Path | None, typer.Argument(help="Folder with platform.yaml; omitted: ETL_PROJECT.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(validate)
    app.command()(schema)
    app.command()(new)


def validate(
    path: ProjectPath = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check all manifests, their SQL and its tests without touching data; every error with file and line."""
    from etl_assets.project import load_project
    from etl_assets.project_binding import binding_errors
    from etl_assets.transform_tests.cases import case_errors

    try:
        project = load_project(path)
        if errors := (*binding_errors(project), *case_errors(project)):
            raise ManifestErrors(errors)
    except ManifestErrors as e:
        if as_json:
            told = [{"file": x.file, "line": x.line, "message": x.message} for x in e.errors]
            print(json.dumps({"valid": False, "errors": told}, indent=2, ensure_ascii=False))
        else:
            print(e, file=sys.stderr)
        raise typer.Exit(1) from e
    counts = {
        "dataset": len(project.datasets),
        "table": len(project.tables),
        "serving target": len(project.serving),
    }
    if as_json:
        print(json.dumps({"valid": True, "errors": []}, indent=2))
    else:
        print(", ".join(f"{n} {name}{'' if n == 1 else 's'}" for name, n in counts.items()) + ": valid")


def schema(
    platform: Annotated[bool, typer.Option("--platform", help="Of platform.yaml instead of a manifest.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/manifest.md instead.")] = False,
) -> None:
    """Print the JSON Schema of a manifest, for editors."""
    from etl_resources.manifest import Dataset, Platform
    from etl_resources.manifest_reference import reference
    from etl_resources.manifest_schema import json_schema

    if markdown:
        print(reference(), end="")
        return
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    print(json.dumps(draft | json_schema(Platform if platform else Dataset), indent=2, ensure_ascii=False))


def new(
    dataset: Annotated[str, typer.Argument(help="Name of the dataset and of its folder.")],
    source: Annotated[str, typer.Option("--from", help="Table, e.g. postgres:erp.orders.")],
    partition_by: Annotated[str | None, typer.Option(help="Column; omitted: the only date.")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="No partitions: the table is read whole.")] = False,
    key: Annotated[str | None, typer.Option(help="Columns, comma between; omitted: the primary key.")] = None,
    system: Annotated[str | None, typer.Option(help="Entry of `systems`; omitted: the only one.")] = None,
    owner: Annotated[str, typer.Option(help="team:<name> or a mail address.")] = "team:unassigned",
    tenant: Annotated[str | None, typer.Option(help="Entry of `tenants`; omitted: the only one.")] = None,
    skip_unsupported: Annotated[
        bool,
        typer.Option("--skip-unsupported", help="Leave out columns without a type here, named in a comment."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the manifest, write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing manifest.")] = False,
    project: Annotated[Path | None, typer.Option(help="Folder with platform.yaml; omitted: ETL_PROJECT.")] = None,
) -> None:
    """Write a manifest from a table of a system of record (read-only)."""
    from etl_assets.manifest_draft import DraftRequest, draft_manifest, manifest_path
    from etl_assets.project import project_folder

    kind, _, table = source.partition(":")
    if kind != "postgres" or not table:
        raise PermanentError(f"--from {source!r} is not valid; expected postgres:<schema>.<table>.")
    root = project or project_folder()
    request = DraftRequest(
        dataset=dataset,
        table=table,
        owner=owner,
        system=system,
        tenant=tenant,
        partition_by=partition_by,
        whole=whole,
        key=tuple(k.strip() for k in key.split(",")) if key else (),
        skip_unsupported=skip_unsupported,
    )
    path = manifest_path(root, dataset, replace=force or dry_run)
    text, notes = draft_manifest(root, request)
    if dry_run:
        print(text, end="")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}; next: data-pipeline validate")
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
