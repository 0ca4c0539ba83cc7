"""How an error ends a step in Dagster, wherever in the step it is raised (A4)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import dagster as dg

from etl_resources.classify import classify
from etl_resources.errors import RetryBudgetError, TransientError, UnknownCommitError
from etl_resources.retries import retries_of_run, spend_step_retry
from etl_resources.settings import load_settings


@contextmanager
def failing_clearly(run_id: str) -> Iterator[None]:
    """Transient errors ask for a retry, permanent ones fail with one clear line; an unforeseen crash stays one.

    Retries inside are paid from the run's budget.
    """
    with retries_of_run(run_id, load_settings()):
        try:
            yield
        except (dg.Failure, dg.RetryRequested):
            raise
        except Exception as e:
            known = classify(e)
            if known is None:
                raise
            end_step(known, e)


def end_step(known: Exception, cause: Exception) -> NoReturn:
    """End the step: again later (an unknown commit is settled when the step starts again), or failed for good."""
    if isinstance(known, TransientError | UnknownCommitError) and not isinstance(known, RetryBudgetError):
        try:
            wait_s = spend_step_retry(known)
        except RetryBudgetError as spent:
            raise dg.Failure(description=str(spent), allow_retries=False) from cause
        raise dg.RetryRequested(max_retries=load_settings().retry_steps, seconds_to_wait=wait_s) from known
    raise dg.Failure(description=str(known), allow_retries=False) from cause
