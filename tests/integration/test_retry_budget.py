"""The budget of retries is one for all processes of a run."""

from multiprocessing import get_context
from pathlib import Path

from etl_resources.errors import RetryBudgetError, TransientError
from etl_resources.retries import RetryBudget


def _spend(file: Path, times: int) -> int:
    spent = 0
    for _ in range(times):
        try:
            RetryBudget(file, 50, 1e9).spend(0.1, TransientError("away"))
            spent += 1
        except RetryBudgetError:
            pass
    return spent


def test_processes_of_a_run_spend_one_budget(tmp_path: Path) -> None:
    """Dagster runs each step in a process of its own."""
    with get_context("forkserver").Pool(4) as pool:
        spent = pool.starmap(_spend, [(tmp_path / "run1", 30)] * 4)
        pool.close()  # they end by themselves: terminate waits for ever where SIGTERM is ignored
        pool.join()
    assert sum(spent) == 50
