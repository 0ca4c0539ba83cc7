"""Every environment variable, once. Reading happens in load_settings(), never at import.

An environment variable wins over `.etl/stack.json`, which `data-pipeline up` writes for the servers that it
started; so each embedded server is replaced by setting its variable to a real one.
"""

import json
import os
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from etl_resources.errors import SettingsError

STACK_FILE = "stack.json"


class Settings(BaseSettings):
    """The platform's settings. Variables carry the prefix ETL_ (ETL_POSTGRES_DSN, ETL_S3_ENDPOINT …)."""

    model_config = SettingsConfigDict(env_prefix="ETL_", frozen=True, extra="ignore")

    home: Path = Path(".etl")
    """Folder of state, logs and the embedded servers' data, relative to the project's folder."""
    project: Path | None = None
    """Folder with platform.yaml and datasets/, when it is not the installed example; relative as `home`."""
    account: str = "local"
    """Account in computed names: the bucket is {resource_prefix}-{account}."""
    postgres_dsn: SecretStr | None = None
    """Ledger, Iceberg catalog, Dagster storage and the serving schema (database of the platform)."""
    s3_endpoint: str | None = None
    """Address of the S3 service, with scheme: http://127.0.0.1:8333 or https://s3.eu-central-1.amazonaws.com."""
    s3_access_key: SecretStr | None = None
    s3_secret_key: SecretStr | None = None
    s3_region: str = "us-east-1"
    s3_bucket: str | None = None
    """Bucket, when it is not the computed {resource_prefix}-{account}."""
    s3_timeout_s: int = 60
    """Longest wait for one S3 request."""
    elasticsearch_url: str | None = None
    """Address of the search service, with scheme: https://search.example.com:9200."""
    elasticsearch_api_key: SecretStr | None = None
    """Its API key, as Elasticsearch encodes it (base64 of id:key) …"""
    elasticsearch_username: str | None = None
    """… or a user with a password."""
    elasticsearch_password: SecretStr | None = None
    elasticsearch_ca_file: Path | None = None
    """Certificates (PEM) that sign the server's, where the usual authorities don't."""
    elasticsearch_verify: bool = True
    """Whether the server must prove by its certificate who it is; http:// to another machine is refused then. Without
    it anybody on the way may read and change everything."""
    elasticsearch_timeout_s: int = Field(60, ge=1)
    """Longest wait for one request."""
    maven_repository: str | None = None
    """Where the embedded Elasticsearch and Spark's jars are fetched from; by default Maven Central."""
    spark_master: str = "local"
    """Where tables of a size with `spark` are computed: local (in the run's process, with the size's cores), a
    cluster's address: spark://host:7077, k8s://https://host:6443, or glue: by a job in AWS Glue."""
    spark_secret: SecretStr | None = None
    """Secret of a standalone cluster that asks for one (its spark.authenticate.secret)."""
    spark_driver_host: str | None = None
    """Name or address by which executors reach this machine, where it isn't the one that it gives itself."""
    spark_wait_s: int = Field(60, ge=1)
    """Longest time that a run waits for the cluster to give it an executor."""
    size: str | None = None
    """Entry of `sizes` in platform.yaml for every dataset of a run, whatever its manifest says."""
    postgres_connect_timeout_s: int = 10
    lock_timeout_s: int = 30
    """Longest wait for the fairness lock of a commit; afterwards the compare-and-swap alone decides."""
    retry_tries: int = Field(10, ge=1)
    """Calls in all, of one call that meets transient errors."""
    retry_wait_s_max: float = Field(10.0, ge=0)
    """Longest wait between two of them, also when the server asks for more (Retry-After)."""
    retry_elapsed_s_max: float = Field(60.0, ge=0)
    """Longest time from the first of them to the last."""
    retry_steps: int = Field(2, ge=0)
    """How often Dagster starts a step again that ended with a transient error."""
    retry_budget_tries: int = Field(100, ge=0)
    """Retries of one run, all its steps together; when they are spent, the error ends the run."""
    retry_budget_wait_s: float = Field(600.0, ge=0)
    """Seconds that one run waits between tries, all its steps together."""
    maintain_keep_versions: int = Field(20, ge=1)
    """Maintenance keeps this many versions of a table, however old."""
    maintain_keep_days: float = Field(7.0, ge=0)
    """It keeps versions that were current within these days …"""
    maintain_max_versions: int = Field(50, ge=1)
    """… but not more than this many."""
    maintain_guard_s: float = Field(3600.0, ge=0)
    """Longest time that a reader may take: a version is kept this long after it was superseded, and no younger file is
    deleted."""
    maintain_file_mb: int = Field(128, ge=1)
    """Compaction puts smaller files of a partition together up to this size."""
    maintain_event_days: float = Field(30.0, ge=0)
    """Dagster's runs and events older than this are deleted, unless they are the latest of a partition or check."""
    alert_webhook: SecretStr | None = None
    """Address that alerts are posted to as JSON: stuck partitions, sources that can't be observed."""
    engine_threads: int = 2
    engine_memory_mb: int = 600
    """Memory of the embedded engine; beyond it spills to {home}/spill."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (signature of pydantic-settings)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, _StackFileSource(settings_cls))

    def require_postgres(self) -> str:
        """The platform's DSN. Raises SettingsError when there is none."""
        if self.postgres_dsn is None:
            raise SettingsError(_missing("ETL_POSTGRES_DSN"))
        return self.postgres_dsn.get_secret_value()

    def require_s3(self) -> tuple[str, str, str]:
        """(endpoint with scheme, access key, secret key). Raises SettingsError when one is missing."""
        if self.s3_endpoint is None:
            raise SettingsError(_missing("ETL_S3_ENDPOINT"))
        if self.s3_access_key is None:
            raise SettingsError(_missing("ETL_S3_ACCESS_KEY"))
        if self.s3_secret_key is None:
            raise SettingsError(_missing("ETL_S3_SECRET_KEY"))
        return self.s3_endpoint, self.s3_access_key.get_secret_value(), self.s3_secret_key.get_secret_value()

    def of_tasks(self) -> "Settings":
        """Of these what a task of Spark needs to read and write the bucket, and no other secret."""
        others = ("postgres_dsn", "elasticsearch_api_key", "elasticsearch_password", "spark_secret", "alert_webhook")
        return self.model_copy(update=dict.fromkeys(others))

    def require_elasticsearch(self) -> str:
        """The search service's address. Raises SettingsError when there is none."""
        if self.elasticsearch_url is None:
            raise SettingsError(f"{_missing('ETL_ELASTICSEARCH_URL')} The embedded one needs Java 17 or newer.")
        return self.elasticsearch_url


class _StackFileSource(PydanticBaseSettingsSource):
    """Values of the servers that `data-pipeline up` started."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        values: dict[str, Any] = _stack_file(_home()).get("settings", {})
        if os.environ.get("ETL_ELASTICSEARCH_URL", values.get("elasticsearch_url")) != values.get("elasticsearch_url"):
            for name in ("elasticsearch_username", "elasticsearch_password"):
                values.pop(name, None)  # the embedded server's password is sent to nobody else
        if os.environ.get("ETL_SPARK_MASTER", values.get("spark_master")) != values.get("spark_master"):
            values.pop("spark_secret", None)
        return values


def load_settings(**overrides: Any) -> Settings:
    """Settings from overrides, environment and `.etl/stack.json`, in that order."""
    return Settings(**overrides)


def resolve_secret(reference: str, home: Path | None = None) -> str:
    """The value behind `env:NAME` or `file:PATH`, fetched now, never stored (M9).

    `env:NAME` falls back to the embedded stack's own secrets, so that ERP_DSN needs no export after `up`.
    Raises SettingsError naming the reference, never its value.
    """
    kind, _, name = reference.partition(":")
    if kind == "env" and name:
        stored = _stack_file(home or _home()).get("secrets", {}).get(name)
        value: str | None = os.environ.get(name) or stored
        if value:
            return value
        raise SettingsError(_missing(name))
    if kind == "file" and name:
        try:
            return Path(name).read_text().strip()
        except OSError as e:
            raise SettingsError(f"Secret file {name} can't be read: {e.strerror}. Check its path and mode.") from e
    raise SettingsError(f"Secret reference {reference!r} is not of the form env:NAME or file:PATH.")


def _home() -> Path:
    return Path(os.environ.get("ETL_HOME", ".etl"))


def _stack_file(home: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads((home / STACK_FILE).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as e:
        raise SettingsError(f"{home / STACK_FILE} can't be read: {e}. Move it away and run `data-pipeline up`.") from e
    return data


def _missing(name: str) -> str:
    return f"{name} is not set and no embedded stack is known. Run `data-pipeline up`, or set {name}."
