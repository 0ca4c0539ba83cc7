"""What a job in AWS Glue runs: read the order, compute it by run_on_spark, write the answer, tell Dagster by Pipes.

    spark-submit glue_script.py --settings-secret NAME --dagster-pipes-context … --dagster-pipes-messages …

Nothing that it does is visible to a reader: it writes files of an attempt and an answer. What is published is decided
by who gave the order; a job that nobody waits for any more changes nothing.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from etl_resources.classify import classify
from etl_resources.engines.glue_order import ORDER, SETTINGS_ARGUMENT, GlueAnswer, GlueOrder, from_json, to_json
from etl_resources.engines.spark_conf import GIVEN
from etl_resources.engines.spark_metrics import SparkMeasures
from etl_resources.engines.spark_session import spark_session
from etl_resources.engines.spark_store import store_arguments
from etl_resources.engines.spark_transform import SparkOutput, run_on_spark
from etl_resources.errors import PermanentError, SettingsError
from etl_resources.object_store import ObjectStore, s3_client
from etl_resources.settings import Settings
from etl_resources.spark_errors import spark_error

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PROVEN = ("3.5", "4.1")
"""Versions of Spark on which the rows of both engines were compared: decision 0022."""
MESSAGES_S = 1
"""Seconds between the messages that are written to Dagster."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out one order. Raises what ended it, also after that was written as the answer: the run is failed."""
    from dagster_pipes import PipesCliArgsParamsLoader, PipesS3ContextLoader, PipesS3MessageWriter, open_dagster_pipes

    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument(SETTINGS_ARGUMENT, required=True, dest="secret")
    settings = settings_of(parser.parse_known_args(arguments)[0].secret)  # Glue adds arguments of its own
    endpoint, key, secret = settings.require_s3()
    client = s3_client(endpoint, (key, secret), region=settings.s3_region, timeout_s=settings.s3_timeout_s)
    with open_dagster_pipes(
        context_loader=PipesS3ContextLoader(client),
        message_writer=PipesS3MessageWriter(client, interval=MESSAGES_S),
        params_loader=PipesCliArgsParamsLoader(),  # type: ignore[no-untyped-call]
    ) as pipes:
        path = pipes.get_extra(ORDER)
        store = ObjectStore(client, path)
        order = from_json(GlueOrder, store.read(path))
        answer = carry_out(order, settings, pipes.log.info)
        store.write(order.answer, to_json(answer))
        if answer.error is not None:
            raise answer.error


def settings_of(secret: str) -> Settings:
    """Settings from a secret in AWS Secrets Manager, fetched now. Raises SettingsError, which quotes no value."""
    import boto3
    from botocore.exceptions import ClientError
    from pydantic import ValidationError

    try:
        text = boto3.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"]
    except ClientError as e:
        code = e.response.get("Error", {}).get("Code")
        raise SettingsError(f"The secret {secret} can't be read: {code}. Check its name and the job's role.") from e
    try:
        given = {name.lower().removeprefix("etl_"): value for name, value in json.loads(text).items()}
        return Settings(**{**given, "spark_master": GIVEN})
    except (ValueError, AttributeError) as e:
        names = [str(x["loc"][0]) for x in e.errors()] if isinstance(e, ValidationError) else ["it is no JSON object"]
        raise SettingsError(f"The secret {secret} doesn't hold settings of the platform: {', '.join(names)}.") from None


def carry_out(order: GlueOrder, settings: Settings, tell: Callable[[str], Any] = lambda _: None) -> GlueAnswer:
    """The answer to an order; an error that is known is one, too."""
    what, measures = order.what, SparkMeasures()
    engine = f"pyspark {version('pyspark')}"
    try:
        with spark_session(settings, order.size) as spark:
            engine = f"pyspark {spark.version}"
            prove_proven(spark)
            rejected: list[str] = []

            def keep(paths: Sequence[str]) -> dict[str, int]:
                rejected.extend(paths)
                return {}

            output = SparkOutput(order.folder, order.field_ids, store_arguments(settings), order.one_file, order.parts)
            tell(f"{what}: computing on Spark {spark.version}")
            result = run_on_spark(spark, order.transform, order.inputs, output, keep, lambda: "", measures, what)
    except Exception as e:
        known = spark_error(e, what) or classify(e)
        if known is None:
            raise
        return GlueAnswer.of_error(engine, known, measures)
    tell(f"{what}: {result.written} rows written, {result.rejected} rejected, {result.seconds:.0f} s")
    result = replace(result, paths=tuple(p for p in result.paths if p), measures=None)
    return GlueAnswer(engine, result, tuple(rejected), measures=measures)


def prove_proven(spark: "SparkSession") -> None:
    """Raises PermanentError on a Spark whose rows were never compared: equal tokens must mean equal rows."""
    if spark.version.startswith(tuple(f"{v}." for v in PROVEN)):
        return
    raise PermanentError(
        f"This is Spark {spark.version}; rows are proven equal on {', '.join(PROVEN)} only. Nothing is computed. "
        "Choose a glue.version in platform.yaml that has it, or another ETL_SPARK_MASTER."
    )


if __name__ == "__main__":
    main()
