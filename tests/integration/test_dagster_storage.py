"""dagster.yaml in a plain shell: the same Postgres as the web server, SQLite when there is none."""

from pathlib import Path

import psycopg
import pytest
from dagster import AssetKey, AssetMaterialization, DagsterInstance
from dagster._core.instance.ref import InstanceRef

from etl_resources.dagster_storage import sqlalchemy_url
from etl_resources.stack import StackStatus
from tests.integration.stack_project import ROOT


def plain_shell(folder: Path) -> DagsterInstance:
    """What `dagster asset materialize` makes without DAGSTER_HOME: a temporary instance with ./dagster.yaml."""
    return DagsterInstance.from_ref(InstanceRef.from_dir(str(folder), config_dir=str(ROOT)))


def materialize_in(folder: Path, asset: str) -> str:
    """One event through a plain shell's instance, read back by another; the class that keeps it."""
    with plain_shell(folder) as instance:
        instance.report_runless_asset_event(AssetMaterialization(asset))
    with plain_shell(folder) as instance:
        assert instance.get_latest_materialization_event(AssetKey(asset)) is not None
        assert instance.run_monitoring_enabled
        assert not instance.telemetry_enabled
        assert instance.get_concurrency_config().run_queue_config is not None
        return type(instance.event_log_storage).__name__


def test_runs_meet_in_the_embedded_postgres(
    stack: StackStatus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the proof that dagster-postgres works with our driver: it broke on SQLAlchemy 2.1."""
    monkeypatch.chdir(tmp_path)
    assert materialize_in(tmp_path, "in_postgres") == "PatientEventLogStorage"
    assert stack.postgres_dsn
    with psycopg.connect(stack.postgres_dsn) as connection:
        found = connection.execute("SELECT count(*) FROM event_logs WHERE asset_key = %s", ['["in_postgres"]'])
        assert found.fetchone() == (1,)


def test_without_a_database_runs_are_kept_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh clone works before `data-pipeline up`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ETL_POSTGRES_DSN", raising=False)
    monkeypatch.setenv("ETL_HOME", str(tmp_path / "home"))
    assert materialize_in(tmp_path, "in_sqlite") == "SqliteEventLogStorage"
    assert list((tmp_path / "home" / "dagster" / "storage").rglob("*.db"))


@pytest.mark.parametrize(
    ("dsn", "url"),
    [
        ("postgresql://u:p%2Fw@h:1/d", "postgresql+psycopg2://u:p%2Fw@h:1/d"),
        ("postgres://u@h/d?sslmode=require", "postgresql+psycopg2://u@h/d?sslmode=require"),
        ("host=h port=2 dbname=d user=u password='a b'", "postgresql+psycopg2://u:a%20b@h:2/d"),
        ("host=/run/pg dbname=d user=u", "postgresql+psycopg2://u@/d?host=%2Frun%2Fpg"),
        ("postgresql://u@[::1]:3/d", "postgresql+psycopg2://u@[::1]:3/d"),
    ],
)
def test_dagster_gets_the_driver_that_works(dsn: str, url: str) -> None:
    """Every form of a DSN that psycopg takes; `postgresql://` alone breaks dagster-postgres on SQLAlchemy 2.1."""
    assert sqlalchemy_url(dsn) == url
