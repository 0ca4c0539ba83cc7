"""Dagster's events outlive a restart of their Postgres: each is stored once, with all that Dagster derives from it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy.exc
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetKey,
    AssetMaterialization,
    DagsterInstance,
)
from dagster._core.instance.ref import InstanceRef
from dagster_postgres import PostgresEventLogStorage
from dagster_postgres.utils import DagsterPostgresException

from etl_resources.classify import classify
from etl_resources.errors import RestartError, TransientError
from etl_resources.settings import load_settings
from tests.databases import query
from tests.integration.stack_project import ROOT
from tests.integration.stored_events import stored
from tests.restarts import Restarts

pytest_plugins = ["tests.restarts", "tests.integration.stored_events"]

VERSION = "dagster/data_version"


@pytest.fixture
def instance(stack: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    """As in a run's process: its events are in the stack's Postgres."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ETL_RETRY_WAIT_S_MAX", "0.5")
    monkeypatch.setenv("ETL_RETRY_TRIES", "100")
    with DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path), config_dir=str(ROOT))) as made:
        yield made


def events_of(asset: str) -> int:
    return int(stored("select count(*) from event_logs where asset_key = %s", asset)[0][0])


def tags_of(asset: str) -> list[str]:
    rows = stored("select value from asset_event_tags where asset_key = %s and key = 'dagster/data_version'", asset)
    return sorted(value for (value,) in rows)


def checks_of(asset: str) -> int:
    return int(stored("select count(*) from asset_check_executions where asset_key = %s", asset)[0][0])


def lost_connection() -> Exception:
    origin = psycopg2.OperationalError("server closed the connection unexpectedly\n")
    return sqlalchemy.exc.OperationalError("insert into event_logs", {}, origin)


def losing(monkeypatch: pytest.MonkeyPatch, name: str, when: str) -> None:
    """The first call of a method of Dagster's storage loses its connection, before or after it did its work."""
    original: Callable[..., Any] = getattr(PostgresEventLogStorage, name)
    lost: list[bool] = []

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        first = not lost
        lost.append(True)
        if first and when == "before":
            raise lost_connection()
        result = original(*args, **kwargs)
        if first:
            raise lost_connection()
        return result

    monkeypatch.setattr(PostgresEventLogStorage, name, wrapped)


POINTS = [
    ("store_event", "before"),
    ("_store_asset_event_tags", "before"),
    ("_store_asset_event_tags", "after"),
    ("_store_asset_event", "before"),
    ("_store_asset_event", "after"),
    ("store_event", "after"),
]


@pytest.mark.parametrize(("name", "when"), POINTS)
def test_a_materialization_without_answer_is_stored_once(
    instance: DagsterInstance, asset: str, monkeypatch: pytest.MonkeyPatch, name: str, when: str
) -> None:
    """Twice would be a second materialization in the UI; without its tags the partition would look out of date."""
    losing(monkeypatch, name, when)
    instance.report_runless_asset_event(AssetMaterialization(asset, tags={VERSION: "7"}))

    assert events_of(asset) == 1
    assert tags_of(asset) == ["7"]
    newest = instance.get_latest_materialization_event(AssetKey(asset))
    assert newest is not None
    assert newest.asset_materialization is not None
    assert (newest.asset_materialization.tags or {})[VERSION] == "7"


@pytest.mark.parametrize(
    ("name", "when"),
    [("store_event", "before"), ("store_asset_check_event", "before"), ("store_asset_check_event", "after")],
)
def test_a_check_without_answer_is_stored_once(
    instance: DagsterInstance, asset: str, monkeypatch: pytest.MonkeyPatch, name: str, when: str
) -> None:
    """A second row of one evaluation breaks Dagster's own update of it."""
    losing(monkeypatch, name, when)
    check = AssetCheckEvaluation(asset_key=AssetKey(asset), check_name="unique", passed=True, metadata={})
    instance.report_runless_asset_event(check)

    assert checks_of(asset) == 1
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [AssetCheckKey(AssetKey(asset), "unique")]
    )
    assert [record.event is not None for record in latest.values()] == [True]


def test_two_equal_events_of_two_moments_are_two(instance: DagsterInstance, asset: str) -> None:
    """Looking an event up must not swallow one that looks alike."""
    for _ in range(2):
        instance.report_runless_asset_event(AssetMaterialization(asset, tags={VERSION: "7"}))
    assert events_of(asset) == 2


def test_cut_connections_cost_nothing(instance: DagsterInstance, asset: str) -> None:
    """A proxy or a fail-over drops idle connections: the pool asks before it uses one."""
    for n in range(5):
        query(
            load_settings().require_postgres(),
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
            "and pid <> pg_backend_pid()",
        )
        instance.report_runless_asset_event(AssetMaterialization(asset, tags={VERSION: str(n)}))
    assert tags_of(asset) == ["0", "1", "2", "3", "4"]


def test_events_outlive_a_restart_of_their_server(instance: DagsterInstance, asset: str, restarts: Restarts) -> None:
    """A step goes on telling while Postgres restarts: nothing is lost, nothing is there twice."""
    for n in range(60):
        if n in (20, 40):
            restarts.restart("postgres")
        instance.report_runless_asset_event(AssetMaterialization(asset, tags={VERSION: f"{n:02}"}))
        if n in (20, 40):
            restarts.wait()
    assert events_of(asset) == 60
    assert tags_of(asset) == [f"{n:02}" for n in range(60)]


def test_a_server_that_stays_away_is_told(
    instance: DagsterInstance, asset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounded as everything else."""
    monkeypatch.setenv("ETL_RETRY_TRIES", "2")

    def away(*args: Any) -> Any:
        origin = psycopg2.OperationalError('connection to server at "127.0.0.1", port 1 failed: Connection refused')
        raise sqlalchemy.exc.OperationalError("", {}, origin)

    monkeypatch.setattr(sqlalchemy.engine.Engine, "connect", away)
    with pytest.raises(RestartError, match=r"Connection refused\. Gave up after 2 tries"):
        instance.report_runless_asset_event(AssetMaterialization(asset))


def test_dagsters_own_error_is_known_by_its_name() -> None:
    """The table of errors is tested with another class of that name, as importing this one takes a second."""
    assert type(classify(DagsterPostgresException("too many retries for DB connection"))) is TransientError
