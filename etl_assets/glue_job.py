"""The job in AWS Glue that platform.yaml declares, made."""

from typing import Any

from etl_assets.graph.runtime import Runtime
from etl_assets.project import load_project
from etl_resources.conventions import glue_job_name
from etl_resources.engines.glue_job import Made, definition, make_job
from etl_resources.errors import PermanentError, SettingsError
from etl_resources.object_store import ObjectStore, glue_client


def make_declared_job(*, dry_run: bool = False) -> tuple[Made, dict[str, Any]]:
    """What was done, and the job. Raises SettingsError where platform.yaml declares none."""
    from botocore.exceptions import BotoCoreError, ClientError

    runtime = Runtime(load_project())
    platform = runtime.project.platform
    if platform.glue is None:
        raise SettingsError("platform.yaml has no `glue`: say there which role and secret the job has.")
    job = definition(platform.glue, glue_job_name(platform.etl_resource_prefix), runtime.bucket)
    store = ObjectStore.of(runtime.store.catalog, f"s3://{runtime.bucket}/glue")
    try:
        return make_job(glue_client(runtime.settings.s3_region), job, store, dry_run=dry_run), job
    except (ClientError, BotoCoreError) as e:
        raise PermanentError(f"The job {job['Name']} can't be made: {e}. Check the role and your rights in AWS.") from e
