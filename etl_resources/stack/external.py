"""Servers that the product didn't start: recognised, checked, never touched."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from etl_resources.errors import DataPipelineError, SettingsError
from etl_resources.ledger.connection import connect, typed_errors
from etl_resources.settings import Settings, resolve_secret
from etl_resources.sinks.elasticsearch_client import address_of
from etl_resources.stack.companion import companion_addresses
from etl_resources.stack.elasticsearch import USER, check_health
from etl_resources.stack.elasticsearch import endpoint as search_endpoint
from etl_resources.stack.provision import (
    ERP_ADMIN_ROLE,
    ERP_DATABASE,
    ERP_READER_ROLE,
    PLATFORM_DATABASE,
    PLATFORM_ROLE,
    dsn,
)
from etl_resources.stack.report import ServerStatus
from etl_resources.stack.s3 import ACCESS_KEY, SECRET_KEY, bucket_url, endpoint
from etl_resources.stack.s3_probe import check_bucket, client, probe_object
from etl_resources.stack.spark import MASTER, SECRET, master_address
from etl_resources.stack.state import StackState

ERP_SECRET = "ERP_DSN"  # noqa: S105  (a name)
ERP_ADMIN_SECRET = "ERP_ADMIN_DSN"  # noqa: S105
CRM_SECRET, CRM_BUCKET = "CRM_S3_URL", "crm-drop"
"""The bucket of files that demos and tests play; who fills it makes it."""
HASH_KEY = "HASH_KEY"
"""Of hashed columns."""


@dataclass(frozen=True)
class ExternalPostgres:
    """A database given by a DSN."""

    setting: str
    dsn: str

    def check(self) -> None:
        """Connect and ask. Raises SettingsError or TransientError naming setting, host and port only."""
        with connect(self.dsn, setting=self.setting, timeout_s=10) as connection, typed_errors(self.setting):
            connection.execute("SELECT 1")

    @property
    def address(self) -> str:
        """host:port."""
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict

        try:
            parts = conninfo_to_dict(self.dsn)
        except ProgrammingError:
            return self.setting
        return f"{parts.get('host') or 'localhost'}:{parts.get('port') or 5432}"


@dataclass(frozen=True)
class ExternalS3:
    """A bucket given by endpoint and keys."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str
    bucket: str
    setting: str = "ETL_S3_ENDPOINT"

    def check(self, *, write: bool = False) -> None:
        """The bucket answers to the keys, with `write` also a small object. Raises like the database."""
        if not urlsplit(self.endpoint).hostname:
            raise SettingsError(
                f"{self.setting} {self.endpoint!r} has no scheme and host. Write http://host:port or https://host."
            )
        service = client(self.endpoint, self.access_key, self.secret_key, self.region)
        check_bucket(service, self.bucket, self.setting, self.endpoint)
        if write:
            probe_object(service, self.bucket, self.setting, self.endpoint)

    @property
    def address(self) -> str:
        """The endpoint."""
        return self.endpoint


@dataclass(frozen=True)
class ExternalElasticsearch:
    """A search service given by its address; credentials and TLS as in the settings."""

    settings: Settings = field(repr=False)

    def check(self) -> None:
        """It answers to the credentials and isn't red. Raises SettingsError or TransientError."""
        try:
            check_health(self.settings)
        except DataPipelineError as e:
            raise type(e)(f"ETL_ELASTICSEARCH_URL {self.address}: {e}") from e

    @property
    def address(self) -> str:
        """The address without credentials."""
        return address_of(self.settings.require_elasticsearch())


@dataclass(frozen=True)
class External:
    """The external ones among the services; None is embedded."""

    platform: ExternalPostgres | None
    erp: ExternalPostgres | None
    s3: ExternalS3 | None
    search: ExternalElasticsearch | None

    def check(self) -> None:
        """Raises the first problem: SettingsError or TransientError."""
        for database in (self.platform, self.erp):
            if database:
                database.check()
        if self.s3:
            self.s3.check(write=True)
        if self.search:
            self.search.check()

    def statuses(self) -> list[ServerStatus]:
        """One status each."""
        named = (("postgres", self.platform), ("erp", self.erp), ("s3", self.s3), ("elasticsearch", self.search))
        return [_status(name, service) for name, service in named if service]


def embedded_values(state: StackState) -> tuple[dict[str, str], dict[str, str]]:
    """Settings and secrets that the recorded embedded servers give."""
    values: dict[str, str] = {}
    secrets: dict[str, str] = {}
    postgres, s3 = state.servers.get("postgres"), state.servers.get("s3")
    if postgres and postgres.ports:
        values["postgres_dsn"] = dsn(postgres, PLATFORM_ROLE, PLATFORM_DATABASE)
        secrets[ERP_SECRET] = dsn(postgres, ERP_READER_ROLE, ERP_DATABASE)
        secrets[ERP_ADMIN_SECRET] = dsn(postgres, ERP_ADMIN_ROLE, ERP_DATABASE)
    if s3 and s3.ports:
        values["s3_endpoint"] = endpoint(s3)
        values["s3_access_key"], values["s3_secret_key"] = s3.secrets[ACCESS_KEY], s3.secrets[SECRET_KEY]
        secrets[CRM_SECRET] = bucket_url(s3, CRM_BUCKET)
    search = state.servers.get("elasticsearch")
    if search and search.ports:
        values["elasticsearch_url"] = search_endpoint(search)
        values["elasticsearch_username"], values["elasticsearch_password"] = USER, search.secrets[USER]
    spark = state.servers.get(MASTER)
    if spark and spark.ports:
        values["spark_master"], values["spark_secret"] = master_address(spark), spark.secrets[SECRET]
    return values, secrets


def published_values(state: StackState, external: External) -> tuple[dict[str, str], dict[str, str]]:
    """What load_settings() and resolve_secret() shall find: only of services that are embedded."""
    values, secrets = embedded_values(state)
    if external.platform:
        values.pop("postgres_dsn", None)
    if external.s3:
        values = {name: value for name, value in values.items() if not name.startswith("s3_")}
        secrets.pop(CRM_SECRET, None)
    if external.search:
        values = {name: value for name, value in values.items() if not name.startswith("elasticsearch_")}
    if external.erp:
        for name in (ERP_SECRET, ERP_ADMIN_SECRET):
            secrets.pop(name, None)
    made = {HASH_KEY: state.secrets[HASH_KEY]} if HASH_KEY in state.secrets else {}
    return values, {**secrets, **companion_addresses(state), **made}


def external_services(settings: Settings, state: StackState, bucket: str) -> External:
    """A value that differs from what stack.json records came from the environment, so its server is external.

    Raises SettingsError when only a part of the S3 settings is external.
    """
    values, secrets = embedded_values(state)
    platform = settings.postgres_dsn.get_secret_value() if settings.postgres_dsn else None
    if platform == values.get("postgres_dsn"):
        platform = None
    try:
        erp: str | None = resolve_secret(f"env:{ERP_SECRET}", settings.home)
    except SettingsError:
        erp = None
    if erp == secrets.get(ERP_SECRET):
        erp = None
    return External(
        ExternalPostgres("ETL_POSTGRES_DSN", platform) if platform else None,
        ExternalPostgres(ERP_SECRET, erp) if erp else None,
        _external_s3(settings, values, bucket),
        _external_search(settings, values),
    )


def _external_s3(settings: Settings, embedded: dict[str, str], bucket: str) -> ExternalS3 | None:
    given = {
        "s3_endpoint": settings.s3_endpoint,
        "s3_access_key": settings.s3_access_key.get_secret_value() if settings.s3_access_key else None,
        "s3_secret_key": settings.s3_secret_key.get_secret_value() if settings.s3_secret_key else None,
    }
    differing = {name for name, value in given.items() if value and value != embedded.get(name)}
    if not differing:
        return None
    if missing := sorted(set(given) - differing):
        names = [", ".join(f"ETL_{name.upper()}" for name in sorted(group)) for group in (differing, missing)]
        raise SettingsError(f"{names[0]} is set without {names[1]}. Set all three for your own S3, or none of them.")
    return ExternalS3(
        str(given["s3_endpoint"]),
        str(given["s3_access_key"]),
        str(given["s3_secret_key"]),
        settings.s3_region,
        bucket,
    )


def _external_search(settings: Settings, embedded: dict[str, str]) -> ExternalElasticsearch | None:
    if settings.elasticsearch_url not in (None, embedded.get("elasticsearch_url")):
        return ExternalElasticsearch(settings)
    password = settings.elasticsearch_password.get_secret_value() if settings.elasticsearch_password else None
    if settings.elasticsearch_api_key or password != embedded.get("elasticsearch_password"):
        raise SettingsError(
            "Elasticsearch's credentials are set without ETL_ELASTICSEARCH_URL. Set it too, or neither."
        )
    return None


def _status(name: str, service: ExternalPostgres | ExternalS3 | ExternalElasticsearch) -> ServerStatus:
    problem = ""
    try:
        service.check()
    except DataPipelineError as e:
        problem = str(e)
    return ServerStatus(name=name, kind="external", healthy=not problem, detail=problem, address=service.address)
