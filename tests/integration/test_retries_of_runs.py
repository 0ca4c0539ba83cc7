"""A server that is away for some seconds costs a run some seconds; what no retry can help ends it at once."""

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from etl_assets.graph import table_step
from etl_resources.errors import RestartError
from etl_resources.sinks.postgres_sink import PostgresSink
from tests.invariants import prove_whole
from tests.lake import KPI, SERVED, Lake, Run
from tests.one_month import MONTH
from tests.restarts import Restarts

pytest_plugins = ["tests.lake", "tests.one_month", "tests.restarts"]

PATIENT = {"ETL_RETRY_ELAPSED_S_MAX": "60", "ETL_RETRY_WAIT_S_MAX": "1", "ETL_RETRY_TRIES": "100"}


def retries_of(lake: Lake, run: Run) -> list[float]:
    """Seconds waited before each retry that the run paid for."""
    file = lake.home / "retries" / run.run_id
    return [float(line) for line in file.read_text().splitlines()] if file.exists() else []


def at_first(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], None]) -> None:
    """Act before the first call of a function."""
    original, called = getattr(owner, name), threading.Event()

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not called.is_set():
            called.set()
            act()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapped)


def test_a_run_outlives_a_restart_of_postgres(
    changed: Lake, restarts: Restarts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ledger, catalog and serving are gone in the middle of silver: its attempt is lost, its step starts again."""
    at_first(monkeypatch, table_step, "run_transform", lambda: restarts.restart("postgres"))
    run = changed.materialize(MONTH, **PATIENT)

    assert run.success, run.error
    assert run.retried == ["silver__sales_lines"]
    assert run.published(KPI) == {MONTH}
    restarts.wait()
    prove_whole(changed)


@pytest.mark.parametrize("name", ["run_transform", "read_result"])
def test_a_run_outlives_a_restart_of_s3(
    changed: Lake, restarts: Restarts, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Before a file is written, and before it is staged: the call waits for S3, no step starts again."""
    at_first(monkeypatch, table_step, name, lambda: restarts.restart("s3"))
    run = changed.materialize(MONTH, **PATIENT)

    assert run.success, run.error
    assert run.retried == []
    assert retries_of(changed, run), "it was away"
    assert run.published(KPI) == {MONTH}
    restarts.wait()
    prove_whole(changed)


def test_a_capture_outlives_a_restart_of_its_source(
    changed: Lake, restarts: Restarts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its snapshot is gone with the session: the capture starts again, whole, with a new one."""
    from etl_assets.graph import source_readers

    at_first(monkeypatch, source_readers, "capture_table", lambda: restarts.restart("postgres"))
    run = changed.materialize(MONTH, **PATIENT)

    assert run.success, run.error
    assert run.retried == ["capture_erp"]
    restarts.wait()
    prove_whole(changed)


@pytest.mark.parametrize("setting", ["ERP_DSN", "ETL_POSTGRES_DSN"])
def test_a_wrong_password_is_never_tried_again(changed: Lake, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    """Three tries lock an account in many companies."""
    dsn = make_conninfo(changed.env[setting], password="wrong")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn).close()
    tried: list[str] = []
    original = psycopg.connect

    def connect(conninfo: str = "", **kwargs: Any) -> Any:
        tried.append(conninfo)
        return original(conninfo, **kwargs)

    monkeypatch.setattr(psycopg, "connect", connect)
    run = changed.materialize(MONTH, **PATIENT, **{setting: dsn})

    assert not run.success
    assert "refused user" in run.error
    assert tried.count(dsn) == 1
    assert run.retried == []
    assert retries_of(changed, run) == []


def test_a_run_that_has_spent_its_budget_ends_and_says_so(changed: Lake) -> None:
    """Steps, tries and calls multiply: the budget is what keeps a run from trying all night."""
    run = changed.materialize(MONTH, **PATIENT, ETL_S3_ENDPOINT="http://127.0.0.1:1", ETL_RETRY_BUDGET_TRIES="3")

    assert not run.success
    assert len(retries_of(changed, run)) == 3
    lines = [e for e in run.errors if "the run has spent its retry budget (3 of 3 retries" in e]
    assert lines, run.error
    assert "S3: " in lines[0]
    assert "Could not connect to server" in lines[0]
    assert run.retried == []


def test_a_step_is_started_again_a_bounded_number_of_times(changed: Lake) -> None:
    """Each time after its calls gave up."""
    twice = PATIENT | {"ETL_RETRY_TRIES": "2", "ETL_RETRY_STEPS": "1"}  # by their number, never by their time
    run = changed.materialize(MONTH, ETL_S3_ENDPOINT="http://127.0.0.1:1", **twice)

    assert not run.success
    assert "Gave up after 2 tries" in run.error, run.errors
    assert run.retried == ["capture_erp"]


def test_a_rolled_back_serving_transaction_runs_again(changed: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server said that it did nothing: a deadlock needs no new attempt."""
    original, failed = PostgresSink._record_commits, []

    def once(self: PostgresSink, connection: Any, *args: Any) -> None:
        if not failed:
            failed.append(True)
            connection.execute("do $$ begin raise exception using errcode = '40P01', message = 'deadlock'; end $$")
        original(self, connection, *args)

    monkeypatch.setattr(PostgresSink, "_record_commits", once)
    run = changed.materialize(MONTH)

    assert run.success, run.error
    assert (failed, run.retried) == ([True], [])
    prove_whole(changed)


def test_a_commit_that_lands_late_is_seen_by_the_read_back(changed: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection broke while the server still worked: who reads back too early would call it failed."""
    original, fill, may_end = PostgresSink._replace, PostgresSink._fill, threading.Event()
    inside, worker = threading.Event(), []

    def slow_fill(self: PostgresSink, *args: Any) -> None:
        inside.set()
        assert may_end.wait(60)
        fill(self, *args)

    def lost(self: PostgresSink, batch: Any) -> Any:
        worker.append(threading.Thread(target=original, args=(self, batch)))
        worker[0].start()
        assert inside.wait(60)
        threading.Thread(target=release_when_awaited).start()
        raise RestartError("server closed the connection unexpectedly")

    def release_when_awaited() -> None:
        with psycopg.connect(changed.platform_dsn, autocommit=True) as connection:
            waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            while not (found := connection.execute(waiting).fetchone()) or not found[0]:
                pass
        may_end.set()

    monkeypatch.setattr(PostgresSink, "_replace", lost)
    monkeypatch.setattr(PostgresSink, "_fill", slow_fill)
    run = changed.materialize(MONTH)
    worker[0].join()

    assert run.success, run.error
    assert run.published(SERVED) == {MONTH}
    prove_whole(changed)
