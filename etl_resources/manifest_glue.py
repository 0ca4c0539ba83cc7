"""AWS Glue in platform.yaml: what its job is made of."""

from typing import Annotated

from pydantic import Field, StringConstraints

from etl_resources.manifest_types import Strict

Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class Glue(Strict):
    """The job in AWS Glue that computes tables where ETL_SPARK_MASTER is `glue`; made by `data-pipeline glue-job`."""

    role: Name = Field(
        description="IAM role of the job, by name or ARN: may read the secret, and the code in the bucket."
    )
    settings_secret: Name = Field(
        description="Secret in AWS Secrets Manager, by name or ARN: a JSON object of the settings that the job needs, "
        "ETL_POSTGRES_DSN and those of ETL_S3_…. The job fetches it; it is in no argument."
    )
    version: Name = Field(default="5.1", description="Version of Glue, which decides that of Spark.")
    connections: tuple[Name, ...] = Field(
        default=(), description="Glue connections, by which the job reaches Postgres in a private network."
    )
    timeout_minutes: int = Field(default=120, ge=1, description="Longest time of a run; then Glue ends it.")
    runs_max: int = Field(default=20, ge=1, description="Runs at once, of all that start this job; others wait.")
    tags: dict[Name, str] = Field(default_factory=dict, description="Tags of the job, set when it is made.")
