"""How an error ends a step in Dagster, wherever in the step it is raised (A4)."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from etl_resources.classify import classify
from etl_resources.errors import TransientError, UnknownCommitError

MAX_RETRIES = 2
RETRY_WAIT_S = 2.0


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Transient errors ask for a retry, permanent ones fail with one clear line; an unforeseen crash stays one."""
    try:
        yield
    except (dg.Failure, dg.RetryRequested):
        raise
    except Exception as e:
        known = classify(e)
        if known is None:
            raise
        if isinstance(known, TransientError | UnknownCommitError):
            raise dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=RETRY_WAIT_S) from known
        raise dg.Failure(description=str(known), allow_retries=False) from e
