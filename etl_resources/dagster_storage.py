"""Where Dagster keeps runs, events and schedules: Postgres when it is set, else SQLite in the home.

One `dagster.yaml` serves both, because `{env: NAME}` there has no default:

    storage:
      custom: {module: etl_resources.dagster_storage, class: PlatformStorage, config: {}}

It holds no data of the product. The web server, the daemon and a plain `dagster asset materialize` all read the
same settings, so they meet in the same database.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

from dagster import DagsterInstance
from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.event_log.base import EventLogStorage
from dagster._core.storage.runs.base import RunStorage
from dagster._core.storage.schedules.base import ScheduleStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from etl_resources.settings import load_settings

_CREATION_LOCK = 7_201_536_002
_LOCK_TIMEOUT_S = 60
_STATEMENT_TIMEOUT_MS = 60_000
_POOL_RECYCLE_S = 3_600
_MAX_OVERFLOW = 20
_POOL_SIZE = 3


class PlatformStorage(DagsterStorage[DagsterInstance], ConfigurableClass):
    """Delegates to DagsterPostgresStorage or DagsterSqliteStorage. Named in dagster.yaml, never made by hand."""

    def __init__(
        self, storage: DagsterStorage[DagsterInstance], inst_data: ConfigurableClassData | None = None
    ) -> None:
        self._storage = storage
        self._inst_data = inst_data
        super().__init__()  # type: ignore[no-untyped-call]  # Dagster leaves it untyped

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """What dagster.yaml says."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """No options: the settings decide."""
        return {}

    @classmethod
    def from_config_value(
        cls,
        inst_data: ConfigurableClassData | None,
        config_value: Mapping[str, Any],  # noqa: ARG003  (signature of Dagster)
    ) -> "PlatformStorage":
        """Open the storage, creating its tables where missing. Raises SettingsError or TransientError."""
        settings = load_settings()
        if settings.postgres_dsn is not None:
            return cls(_postgres_storage(settings.postgres_dsn.get_secret_value()), inst_data)
        from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

        folder = settings.home.resolve() / "dagster" / "storage"
        return cls(DagsterSqliteStorage.from_local(str(folder)), inst_data)

    def register_instance(self, instance: DagsterInstance) -> None:
        """Called by Dagster once the instance exists."""
        super().register_instance(instance)
        for part in (self.run_storage, self.event_log_storage, self.schedule_storage):
            if not part.has_instance:
                part.register_instance(instance)

    @property
    def event_log_storage(self) -> EventLogStorage[DagsterInstance]:
        """Events and asset records."""
        return self._storage.event_log_storage

    @property
    def run_storage(self) -> RunStorage[DagsterInstance]:
        """Runs, backfills and heartbeats."""
        return self._storage.run_storage

    @property
    def schedule_storage(self) -> ScheduleStorage[DagsterInstance]:
        """Ticks and cursors."""
        return self._storage.schedule_storage


def sqlalchemy_url(dsn: str) -> str:
    """The DSN with the driver named: `postgresql://` alone means psycopg 3 since SQLAlchemy 2.1, which
    dagster-postgres can't use (its `NOTIFY run_events, $1` is a syntax error there)."""
    from psycopg.conninfo import conninfo_to_dict

    parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    user, password = (quote(parts.pop(name, ""), safe="") for name in ("user", "password"))
    host, port = parts.pop("host", ""), parts.pop("port", "")
    if host.startswith("/"):  # folder of a Unix socket
        parts["host"], host = host, ""
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    address = f"[{host}]" if ":" in host else host
    database = quote(parts.pop("dbname", ""), safe="")
    query = f"?{urlencode(parts)}" if parts else ""
    return f"postgresql+psycopg2://{login}{address}{f':{port}' if port else ''}/{database}{query}"


def _postgres_storage(dsn: str) -> DagsterStorage[DagsterInstance]:
    from etl_resources.dagster_events import WAITING_EVENTS_MAX, PatientPostgresStorage

    with _creation_lock(dsn):
        storage = PatientPostgresStorage(sqlalchemy_url(dsn))
    # Without this every event opens three connections, each with its password exchange: 70 ms an event instead of 5.
    for part in (storage.run_storage, storage.event_log_storage, storage.schedule_storage):
        part.optimize_for_webserver(_STATEMENT_TIMEOUT_MS, _POOL_RECYCLE_S, _MAX_OVERFLOW)
        _keep_connections(part)
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(WAITING_EVENTS_MAX))  # planned events come together then
    _remember_tables(storage.event_log_storage)
    return storage


@contextmanager
def _creation_lock(dsn: str) -> Iterator[None]:
    """Web server, daemon and CLI start together on an empty database and would all create the same tables."""
    from etl_resources.ledger.connection import connect_again, typed_errors

    with connect_again(dsn, setting="ETL_POSTGRES_DSN") as connection:
        connection.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT_S}s'")
        with typed_errors("Dagster's storage"):
            connection.execute("SELECT pg_advisory_lock(%s)", [_CREATION_LOCK])
        yield  # closing the connection frees the lock


def _keep_connections(part: object) -> None:
    """Dagster keeps one connection, but storing an event takes two at once: the second was made anew each time.

    A kept connection is asked before it is used: after a restart of the server all of them are dead.
    """
    from sqlalchemy.pool import QueuePool

    pool = getattr(getattr(part, "_engine", None), "pool", None)
    if isinstance(pool, QueuePool):
        pool._pool.maxsize = _POOL_SIZE
        pool._pre_ping = True


def _remember_tables(events: EventLogStorage[DagsterInstance]) -> None:
    """Dagster asks the server for each event whether its table exists. One that was there isn't asked for again."""
    exists: Callable[[str], bool] = events.has_table  # type: ignore[attr-defined]
    known: set[str] = set()

    def has_table(name: str) -> bool:
        if name not in known and exists(name):
            known.add(name)
        return name in known

    events.has_table = has_table  # type: ignore[attr-defined]
