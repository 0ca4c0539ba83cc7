"""Attempts outside of any step, such as a rollback or a closing."""

from collections.abc import Iterator
from contextlib import contextmanager

from etl_resources.engines.transform import engine_error
from etl_resources.errors import PermanentError, TransientError
from etl_resources.ledger.ledger import Ledger


@contextmanager
def settled_when_failed(ledger: Ledger, attempt: str, what: str) -> Iterator[None]:
    """What fails before the commit is recorded at once; an unknown outcome is settled later, from the table.

    what: was being done, for the engine's errors, which are raised as ours.
    """
    import duckdb

    try:
        yield
    except duckdb.Error as e:
        ledger.settle(attempt, "failed", str(e))
        raise engine_error(what, e) from e
    except (TransientError, PermanentError) as e:
        ledger.settle(attempt, "failed", str(e))
        raise
