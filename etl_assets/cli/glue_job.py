"""`data-pipeline glue-job`: the job in AWS Glue that computes tables."""

import json
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("glue-job")(glue_job)


def glue_job(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done; change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done, and the job, as JSON.")] = False,
) -> None:
    """Make the job of `glue` in platform.yaml in AWS Glue, or make it what is declared there.

    Credentials and region of AWS are those of its own tools; ETL_S3_REGION names the region. Runs bring their code
    along: after an upgrade of the platform nothing needs to be done.
    """
    from etl_assets.glue_job import make_declared_job

    done, job = make_declared_job(dry_run=dry_run)
    if as_json:
        print(json.dumps({"done": done, "dry_run": dry_run, "job": job}, indent=2))
    else:
        would = "would be " if dry_run and done != "unchanged" else ""
        print(f"job {job['Name']}: {would}{done} (Glue {job['GlueVersion']}, role {job['Role']})")
