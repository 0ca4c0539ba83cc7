"""The console script `data-pipeline`: gathers the verbs and turns errors into one line and an exit code."""

import sys

import typer

from etl_assets.cli import (
    acceptance,
    account,
    backfill,
    close,
    dead_letters,
    demo,
    glue_job,
    lineage,
    maintain,
    manifests,
    metrics,
    plan,
    query,
    recover,
    schema_changes,
    stack,
    stuck,
    transform_tests,
    versions,
    why,
)
from etl_resources.classify import classify
from etl_resources.errors import TransientError
from etl_resources.retries import retries_of_command

app = typer.Typer(
    name="data-pipeline",
    help="Manifest-driven ETL with exactly-once commits. Start with `data-pipeline demo`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
manifests.register(app)
transform_tests.register(app)
lineage.register(app)
account.register(app)
dead_letters.register(app)
schema_changes.register(app)
acceptance.register(app)
close.register(app)
why.register(app)
plan.register(app)
backfill.register(app)
demo.register(app)
query.register(app)
glue_job.register(app)
versions.register(app)
maintain.register(app)
recover.register(app)
stuck.register(app)
metrics.register(app)
stack.register(app)

EXIT_FAILED = 1
EXIT_TRY_AGAIN = 75
"""EX_TEMPFAIL of sysexits.h: the same command may succeed later."""


def main() -> None:
    """Run the CLI; a known error is one line on stderr, anything else is a crash with its traceback."""
    try:
        with retries_of_command():
            app()
    except Exception as e:
        known = classify(e)
        if known is None:
            raise
        print(f"error: {known}", file=sys.stderr)
        sys.exit(EXIT_TRY_AGAIN if isinstance(known, TransientError) else EXIT_FAILED)
