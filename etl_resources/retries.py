"""One way to try again: transient errors only, exponential backoff with full jitter, all of it bounded.

Bounds: tries and time of one call (settings ETL_RETRY_…), and a budget that all steps of a run share. Unknown commits
are never tried again here: who commits reads back. What a lost session held is lost too (RestartError): the step starts
again, as Dagster's retry of it.
"""

import contextvars
import fcntl
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from etl_resources.classify import classify
from etl_resources.errors import RestartError, RetryBudgetError, TransientError
from etl_resources.http_errors import retry_after_s
from etl_resources.progress import report
from etl_resources.settings import Settings, load_settings

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")
R = TypeVar("R")

FIRST_WAIT_S = 0.5
"""Longest wait before the second try; it doubles with each further one."""
COMMAND_ELAPSED_S = 10.0
"""Longest time that a command tries one call; a run has ETL_RETRY_ELAPSED_S_MAX."""
TICK_ELAPSED_S = 2.0
"""Longest time that a sensor tries one call: Dagster ends a tick after a minute."""
BUDGET_KEPT_S = 7 * 86_400
"""Age at which the file of a run's budget is deleted."""


@dataclass(frozen=True)
class RetryBudget:
    """What one run may spend on retries, kept in a file that the processes of its steps share."""

    file: Path
    tries: int
    wait_s: float

    def spend(self, wait_s: float, error: BaseException) -> None:
        """Take one retry that waits this long. Raises RetryBudgetError, with the error's text, when too little is left.

        A line per retry: the seconds waited.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a+") as spent:
            fcntl.flock(spent, fcntl.LOCK_EX)  # freed by closing
            spent.seek(0)
            waits = [float(line) for line in spent]
            if len(waits) >= self.tries or sum(waits) + wait_s > self.wait_s:
                raise RetryBudgetError(
                    f"{_sentence(error)} Not tried again: the run has spent its retry budget "
                    f"({len(waits)} of {self.tries} retries, {sum(waits):.0f} of {self.wait_s:.0f} s of waiting). "
                    "Start the run again when the server is well; ETL_RETRY_BUDGET_TRIES and ETL_RETRY_BUDGET_WAIT_S "
                    "allow more."
                ) from error
            spent.write(f"{wait_s:.3f}\n")


@dataclass(frozen=True)
class _Scope:
    """What bounds the retries of this thread beside the settings of one call."""

    budget: RetryBudget | None = None
    elapsed_s: float = float("inf")


_SCOPE: contextvars.ContextVar[_Scope] = contextvars.ContextVar("etl_retries", default=_Scope())  # noqa: B039  (frozen)


@contextmanager
def retries_of_run(run_id: str, settings: Settings) -> Iterator[None]:
    """Retries inside are paid from the run's budget."""
    folder = settings.home / "retries"
    _forget_old_runs(folder)
    with _inside(_Scope(RetryBudget(folder / run_id, settings.retry_budget_tries, settings.retry_budget_wait_s))):
        yield


@contextmanager
def retries_of_command() -> Iterator[None]:
    """Retries inside are those of a command that somebody waits for: COMMAND_ELAPSED_S for each call."""
    with _inside(_Scope(elapsed_s=COMMAND_ELAPSED_S)):
        yield


@contextmanager
def retries_of_tick() -> Iterator[None]:
    """Retries inside are those of a sensor: TICK_ELAPSED_S for each call, and then the next tick's."""
    with _inside(_Scope(elapsed_s=TICK_ELAPSED_S)):
        yield


@contextmanager
def _inside(scope: _Scope) -> Iterator[None]:
    before = _SCOPE.get()
    _SCOPE.set(scope)
    try:
        yield
    finally:
        # a generator may end in another context than it began (so no token) or, abandoned, inside of another scope
        if _SCOPE.get() is scope:
            _SCOPE.set(before)


def retry_transient(call: Callable[[], T], what: str) -> T:
    """The call's result, tried again while it raises transient errors. `what`: whose call, for the progress line.

    Raises what the call raised, RestartError when the bounds of one call are reached, RetryBudgetError when the run's
    are.
    """
    from tenacity import Retrying, retry_if_exception

    scope = _SCOPE.get()

    def wait_s(state: "RetryCallState") -> float:
        return backoff_s(state.attempt_number, load_settings().retry_wait_s_max, _error_of(state))

    def stop(state: "RetryCallState") -> bool:
        settings = load_settings()
        latest_s = min(settings.retry_elapsed_s_max, scope.elapsed_s)
        late = (state.seconds_since_start or 0) + state.upcoming_sleep > latest_s
        return late or state.attempt_number >= settings.retry_tries

    def before_sleep(state: "RetryCallState") -> None:
        error = _error_of(state)
        if scope.budget is not None:
            scope.budget.spend(state.upcoming_sleep, error)
        tell_retry(what, state.attempt_number, state.upcoming_sleep, error)

    def give_up(state: "RetryCallState") -> Any:
        error = _error_of(state)
        spent = f"Gave up after {state.attempt_number} tries in {state.seconds_since_start or 0:.0f} s."
        raise RestartError(f"{_sentence(error)} {spent}") from error

    retrying = Retrying(
        retry=retry_if_exception(may_try_again),
        wait=wait_s,
        stop=stop,
        before_sleep=before_sleep,
        retry_error_callback=give_up,
        sleep=time.sleep,
    )
    return retrying(call)


def may_try_again(error: BaseException) -> bool:
    """Whether the same call may be sent again at once, by itself."""
    known = classify(error)
    return isinstance(known, TransientError) and not isinstance(known, RestartError | RetryBudgetError)


def backoff_s(
    tries: int, wait_s_max: float, error: BaseException | None = None, first_s: float = FIRST_WAIT_S
) -> float:
    """Wait after the n-th try: full jitter, so that many writers don't meet again; at least what the server asks."""
    jitter = random.uniform(0, min(first_s * 2 ** (min(tries, 32) - 1), wait_s_max))  # noqa: S311
    return max(jitter, min(retry_after_s(error) or 0.0, wait_s_max))


def spend_step_retry(error: BaseException) -> float:
    """Wait before Dagster starts the step again, in seconds. Raises RetryBudgetError when the run has none left."""
    budget = _SCOPE.get().budget
    wait_s = backoff_s(3, load_settings().retry_wait_s_max, error)
    if budget is not None:
        budget.spend(wait_s, error)
    return wait_s


def with_retries_of_here(function: Callable[[T], R]) -> Callable[[T], R]:
    """The function for the threads of a pool, which otherwise know nothing of the run's budget."""
    context = contextvars.copy_context()
    return lambda argument: context.copy().run(function, argument)


def tell_retry(what: str, tries: int, wait_s: float, error: BaseException) -> None:
    """The progress line of one retry."""
    report(what, "retries", after_try=tries, in_s=round(wait_s, 2), because=classify(error))


def _sentence(error: BaseException) -> str:
    text = str(classify(error) or error)
    return text if text.endswith((".", "?")) else f"{text}."


def _error_of(state: "RetryCallState") -> BaseException:
    error = state.outcome.exception() if state.outcome else None
    assert error is not None  # noqa: S101  (only asked after a call that raised)
    return error


def _forget_old_runs(folder: Path) -> None:
    oldest = time.time() - BUDGET_KEPT_S
    for file in folder.glob("*") if folder.is_dir() else ():
        if file.stat().st_mtime < oldest:
            file.unlink(missing_ok=True)
