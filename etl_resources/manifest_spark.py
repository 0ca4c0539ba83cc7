"""What a platform says of its Spark cluster, beside the address, which is a setting."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from etl_resources.manifest_types import Strict

CONF_ALLOWED = (
    *("spark.kubernetes.", "spark.driver.", "spark.executor.", "spark.network.", "spark.rpc.", "spark.port."),
    *("spark.dynamicAllocation.", "spark.decommission.", "spark.storage.decommission.", "spark.locality."),
    *("spark.task.maxFailures", "spark.excludeOnFailure.", "spark.shuffle.", "spark.io.", "spark.ssl."),
)
"""Where and how tasks run. What isn't here may decide which rows come out (spark.sql.…), or is the platform's."""
CONF_OWNED = frozenset({
    *("spark.driver.host", "spark.driver.memory", "spark.driver.extraClassPath"),
    *("spark.executor.memory", "spark.executor.cores", "spark.executor.instances", "spark.executor.extraClassPath"),
    *("spark.dynamicAllocation.enabled", "spark.dynamicAllocation.minExecutors"),
    *("spark.dynamicAllocation.initialExecutors", "spark.dynamicAllocation.maxExecutors"),
    "spark.dynamicAllocation.shuffleTracking.enabled",
    *("spark.network.crypto.enabled", "spark.kubernetes.container.image", "spark.kubernetes.namespace"),
    "spark.kubernetes.authenticate.executor.serviceAccountName",
})  # fmt: skip
"""Made of sizes, settings and the fields here: said once."""
_SECRET = re.compile(r"(?i)secret(?!s\.)|password|token(?!File)")


def _conf_key(name: str) -> str:
    if name in CONF_OWNED:
        raise ValueError(f"{name} is set from sizes, settings or another field: say it there")
    if _SECRET.search(name) and "secretKeyRef" not in name:
        raise ValueError(f"{name} is a secret: this file is no place for one")
    if not name.startswith(CONF_ALLOWED):
        raise ValueError(f"{name} is not one of those that may be set here: {', '.join(CONF_ALLOWED)}")
    return name


ConfKey = Annotated[str, AfterValidator(_conf_key)]
Text = Annotated[str, StringConstraints(min_length=1)]


class Kubernetes(Strict):
    """Executors as pods, where ETL_SPARK_MASTER is k8s://…; a run is their driver."""

    image: Text = Field(description="Image of the executors: Spark's, with this package and its Python.")
    namespace: Text = Field(default="default", description="Where the pods are made.")
    service_account: Text | None = Field(default=None, description="Service account of the executors.")


class SparkCluster(Strict):
    """The cluster on which tables of a size with `spark` are computed."""

    python: Text | None = Field(
        default=None, description="Python of the executors; omitted: the path of the one that runs here."
    )
    kubernetes: Kubernetes | None = Field(default=None, description="Needed for k8s://…")
    conf: dict[ConfKey, str] = Field(
        default_factory=dict,
        description="Spark's own configuration of where and how tasks run. What decides rows, secrets, and what is "
        "said elsewhere are refused.",
    )
