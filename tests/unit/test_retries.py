"""Trying again is bounded in tries, in time and for the whole run, and never does what somebody must settle first."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from etl_resources import retries
from etl_resources.errors import (
    DataPipelineError,
    PermanentError,
    RestartError,
    RetryBudgetError,
    SettingsError,
    TransientError,
    UnknownCommitError,
)
from etl_resources.http_errors import retry_after_s
from etl_resources.retries import (
    backoff_s,
    retries_of_command,
    retries_of_run,
    retry_transient,
    with_retries_of_here,
)
from etl_resources.settings import Settings, load_settings
from tests.unit.library_errors import http

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    """Seconds that would have been slept; no test waits."""
    monkeypatch.setenv("ETL_HOME", str(tmp_path))
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr(retries.random, "uniform", lambda low, high: high)
    return slept


def settings(**values: object) -> Settings:
    return load_settings(**values)


def failing(times: int, error: Callable[[], Exception] = lambda: TransientError("away")) -> Callable[[], int]:
    """A call that raises so often, then gives the number of the call."""
    calls = count(1)

    def call() -> int:
        n = next(calls)
        if n <= times:
            raise error()
        return n

    return call


def test_a_transient_error_is_tried_again_after_growing_waits(
    waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """A server that restarts is given time, and whoever looks sees why nothing happens."""
    caplog.set_level(logging.INFO, "etl.progress")
    assert retry_transient(failing(3), "gdp.gdp_sales") == 4
    assert waits == [0.5, 1.0, 2.0]
    assert caplog.messages[0] == "gdp.gdp_sales: retries after_try 1, in_s 0.5, because away"
    assert len(caplog.messages) == 3


@pytest.mark.parametrize("kind", [PermanentError, SettingsError, UnknownCommitError, RestartError, RetryBudgetError])
def test_only_transient_errors_are_tried_again(waits: list[float], kind: type[DataPipelineError]) -> None:
    """A wrong password locks the account when it is repeated; a commit without answer may double."""
    with pytest.raises(kind):
        retry_transient(failing(1, lambda: kind("no")), "x")
    assert waits == []


def test_a_crash_is_not_tried_again(waits: list[float]) -> None:
    """A bug stays a bug, the first time."""
    with pytest.raises(KeyError):
        retry_transient(failing(1, lambda: KeyError("x")), "x")
    assert waits == []


def test_tries_of_one_call_are_bounded(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """And the error says how often it was tried; whoever encloses the call does not try again."""
    monkeypatch.setenv("ETL_RETRY_TRIES", "3")
    with pytest.raises(RestartError, match=r"^away\. Gave up after 3 tries in \d+ s\.$"):
        retry_transient(lambda: retry_transient(failing(9), "inner"), "outer")
    assert len(waits) == 2


def test_the_time_of_one_call_is_bounded(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that would end too late is not begun."""
    monkeypatch.setenv("ETL_RETRY_ELAPSED_S_MAX", "1.5")
    with pytest.raises(RestartError, match="Gave up after 3 tries"):
        retry_transient(failing(9), "x")
    assert waits == [0.5, 1.0]


def test_a_command_waits_less_than_a_run(waits: list[float]) -> None:
    """Somebody sits before it."""
    with retries_of_command(), pytest.raises(RestartError):
        retry_transient(failing(99), "x")
    assert max(waits) <= retries.COMMAND_ELAPSED_S


def test_a_wait_is_drawn_anew_up_to_its_bound() -> None:
    """Full jitter: writers that failed together don't come back together."""
    drawn = {backoff_s(5, wait_s_max=2.0) for _ in range(200)}
    assert len(drawn) == 200
    assert 0 <= min(drawn) < 0.5 < 1.5 < max(drawn) <= 2.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
    ],
)
def test_a_server_says_when_to_come_back(value: str, seconds: float | None) -> None:
    """In seconds or as a date; nonsense counts as nothing."""
    for make in http(503):
        error = make()
        headers = getattr(getattr(error, "response", None), "headers", None) or getattr(error, "headers", None)
        if headers is None:
            continue
        headers["Retry-After"] = value
        assert retry_after_s(error, NOW) == seconds
        assert retry_after_s(_wrapped(error), NOW) == seconds, "also as the cause of an error of ours"


def _wrapped(error: BaseException) -> BaseException:
    ours = TransientError("x")
    ours.__cause__ = error
    return ours


def test_an_error_that_is_its_own_cause_is_looked_through_once() -> None:
    """`raise e from e` makes one; a run that looked for Retry-After in it never ended."""
    first, second = TransientError("x"), TransientError("y")
    first.__cause__, second.__cause__ = second, first
    assert retry_after_s(first, NOW) is None


def test_a_server_cannot_make_us_wait_longer_than_we_want() -> None:
    """A day of Retry-After is an outage, to be told, not slept through."""
    error = http(429)[0]()
    error.response.headers["Retry-After"] = "86400"  # type: ignore[attr-defined]
    assert backoff_s(1, wait_s_max=10.0, error=error) == 10.0
    error.response.headers["Retry-After"] = "4"  # type: ignore[attr-defined]
    assert 4.0 <= backoff_s(1, wait_s_max=10.0, error=error) <= 10.0


def test_a_run_spends_one_budget_in_all_its_steps(waits: list[float], tmp_path: Path) -> None:
    """Ten steps that each give up after ten tries are a hundred tries of a server that is down."""
    with retries_of_run("run1", settings(retry_budget_tries=3)):
        assert retry_transient(failing(2), "step 1") == 3
    with (
        retries_of_run("run1", settings(retry_budget_tries=3)),
        pytest.raises(RetryBudgetError, match=r"^away\. Not tried again: .* \(3 of 3 retries.*ETL_RETRY_BUDGET_T"),
    ):
        retry_transient(failing(9), "step 2")
    assert len(waits) == 3
    with retries_of_run("run2", settings(retry_budget_tries=3)):
        assert retry_transient(failing(1), "another run") == 2


def test_a_run_waits_only_so_long(waits: list[float]) -> None:
    """Slow failures spend time rather than tries."""
    with retries_of_run("run1", settings(retry_budget_wait_s=2)), pytest.raises(RetryBudgetError, match="of 2 s of"):
        retry_transient(failing(9), "x")
    assert waits == [0.5, 1.0]


def test_threads_of_a_step_spend_its_budget(waits: list[float]) -> None:
    """Partitions are computed by threads, which begin without the context of the step."""

    def one(_: int) -> int:
        return retry_transient(failing(1), "partition")

    with retries_of_run("run1", settings(retry_budget_tries=3)), ThreadPoolExecutor(4) as pool:
        results = [pool.submit(with_retries_of_here(one), n) for n in range(5)]
        failed = [r for r in results if isinstance(r.exception(), RetryBudgetError)]
    assert len(failed) == 2


def test_a_generator_that_ends_late_leaves_the_scope_of_a_run_alone() -> None:
    """It is closed whenever it is collected: the run would go on without its budget, or by the bounds of a tick."""

    def abandoned() -> Iterator[None]:
        with retries.retries_of_tick():
            yield

    def run() -> bool:
        generator = abandoned()
        next(generator)
        with retries.retries_of_command():
            inside = retries._SCOPE.get()
            generator.close()
            return retries._SCOPE.get() is inside

    assert copy_context().run(run)
