"""Runs at the same time, late and repeated: the newest inputs win, once, and stay."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.invariants import await_sessions_gone, prove_whole
from tests.lake import GDP, KPI, LINES, ORDERS, SERVED, Child, Lake

pytest_plugins = ["tests.lake"]

MONTH = "2024-03"
DEADLINE_S = 120
IMPATIENT = {"ETL_LOCK_TIMEOUT_S": "1"}
"""A stopped run may hold a fairness lock: nobody shall wait long for it here."""


@pytest.fixture(scope="module")
def published(module_lake: Lake) -> Lake:
    run = module_lake.materialize(MONTH)
    assert run.success, run.error
    return module_lake


def raise_prices(lake: Lake, month: str = MONTH, by: int = 1) -> None:
    lake.erp(
        "update erp.order_lines l set extended_price = extended_price + %s from erp.orders o "
        "where o.order_id = l.order_id and to_char(o.order_date, 'YYYY-MM') = %s and l.line_number = 1",
        by, month,
    )  # fmt: skip


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def open_together(barrier: Path, children: list[Child]) -> None:
    """Let all start when all are ready."""
    ready = [barrier.with_name(f"{barrier.name}-{c.pid}") for c in children]
    until(lambda: all(r.exists() for r in ready), "all processes ready")
    barrier.touch()


def stopped_run(lake: Lake, folder: Path, target: str, match: str, when: str = "before", month: str = MONTH) -> Child:
    """A run that has stopped itself at a point."""
    reached = folder / "reached"
    point: dict[str, Any] = {"target": target, "when": when, "match": match, "action": "stop", "reached": str(reached)}
    child = lake.spawn(month, interrupt=point, **IMPATIENT)
    until(lambda: reached.exists() or not child.process.is_alive(), f"{target} reached")
    assert reached.exists(), child.log
    return child


def test_two_runs_of_one_partition_at_once_publish_it_consistently(published: Lake, tmp_path: Path) -> None:
    """Two people press the same button: both succeed or one says why, and the result is the source's."""
    raise_prices(published)
    children = [published.spawn(MONTH, barrier=tmp_path / "go") for _ in range(2)]

    open_together(tmp_path / "go", children)
    runs = [c.wait() for c in children]

    assert all(r and r.success for r in runs), [r and r.error for r in runs]
    prove_whole(published)


def test_six_months_first_loaded_in_six_processes_are_all_there(lake: Lake, tmp_path: Path) -> None:
    """Nothing exists yet: catalog, ledger, schemas and tables are created by six at once, and no commit is lost."""
    months = [f"2024-{m:02d}" for m in range(4, 10)]
    children = [lake.spawn(m, barrier=tmp_path / "go") for m in months]

    open_together(tmp_path / "go", children)
    runs = [c.wait(300) for c in children]

    assert all(r and r.success for r in runs), [r and r.error for r in runs]
    assert {f"{r[0]:%Y-%m}" for r in lake.published_kpi()} == set(months)
    prove_whole(lake)


@pytest.mark.parametrize(
    ("target", "match", "asset"),
    [
        pytest.param("etl_resources.tables.table_store:publish", "bronze", ORDERS, id="bronze"),
        pytest.param("etl_resources.tables.table_store:publish", "gdp_sales", GDP, id="gdp"),
        pytest.param("etl_resources.sinks.postgres_sink:PostgresSink.publish", "", SERVED, id="serving"),
    ],
)
def test_a_run_that_slept_while_a_newer_one_published_changes_nothing(
    published: Lake, tmp_path: Path, target: str, match: str, asset: str
) -> None:
    """The zombie: it wakes with old rows in its hands. Without epochs it puts them back, for ever."""
    raise_prices(published)
    zombie = stopped_run(published, tmp_path, target, match)
    try:
        raise_prices(published)
        newer = published.materialize(MONTH, **IMPATIENT)
        assert newer.success, newer.error
        content = published.published_kpi(MONTH)
    finally:
        os.kill(zombie.pid, signal.SIGCONT)
    old = zombie.wait()

    assert old is not None
    assert MONTH not in old.published(asset)
    assert not old.success or "superseded" in {s[MONTH] for s in old.statuses.values()}
    assert published.published_kpi(MONTH) == content
    await_sessions_gone(published)
    again = published.materialize(MONTH)
    assert again.partitions(SERVED, "pruned") == {MONTH}
    prove_whole(published)


def test_a_source_that_returns_to_an_earlier_state_is_published_again(published: Lake) -> None:
    """A → B → A: the first token is in history, and must not pass for the current one."""
    first = published.published_kpi(MONTH)
    raise_prices(published, by=5)
    assert published.materialize(MONTH).published(SERVED) == {MONTH}
    raise_prices(published, by=-5)

    back = published.materialize(MONTH)

    assert back.success, back.error
    for asset in (LINES, GDP, KPI, SERVED):
        assert back.published(asset) == {MONTH}, asset
    assert published.published_kpi(MONTH) == first
    prove_whole(published)


def test_an_alias_does_not_claim_content_that_was_published_meanwhile(published: Lake, tmp_path: Path) -> None:
    """A run finds its content equal to A and stages only a marker; if B came in between, the marker would be a lie."""
    published.erp("alter table erp.order_lines disable trigger user")
    try:
        prices = "update erp.order_lines set extended_price = extended_price + %s where order_id = " \
                 "(select min(order_id) from erp.orders where to_char(order_date, 'YYYY-MM') = %s)"  # fmt: skip
        stamp = "update erp.orders set updated_at = %s where order_id = " \
                "(select min(order_id) from erp.orders where to_char(order_date, 'YYYY-MM') = %s)"  # fmt: skip
        published.erp("alter table erp.orders disable trigger user")
        published.erp(prices, 7, MONTH)
        published.erp(stamp, "2024-12-01", MONTH)
        between = stopped_run(published, tmp_path, "etl_resources.tables.table_store:stage", "gdp_sales")
        published.erp(prices, -7, MONTH)
        published.erp(stamp, "2024-12-02", MONTH)
        (tmp_path / "second").mkdir()
        alias = stopped_run(published, tmp_path / "second", "etl_resources.tables.table_store:stage", "gdp_sales")
        os.kill(between.pid, signal.SIGCONT)
        first = between.wait()
        os.kill(alias.pid, signal.SIGCONT)
        second = alias.wait()
    finally:
        published.erp("alter table erp.order_lines enable trigger user; alter table erp.orders enable trigger user")

    assert first is not None
    assert second is not None
    assert second.success, second.error
    await_sessions_gone(published)
    prove_whole(published)


def test_two_attempts_of_one_token_publish_what_each_audited(published: Lake, tmp_path: Path) -> None:
    """The same inputs twice: the second attempt must not publish, drop or reuse what the first staged."""
    raise_prices(published)
    first = stopped_run(published, tmp_path, "etl_resources.tables.table_store:publish", "gdp_sales")
    second = published.materialize(MONTH, **IMPATIENT)
    os.kill(first.pid, signal.SIGCONT)
    late = first.wait()

    assert second.success, second.error
    assert late is not None
    assert late.success, late.error
    assert late.statuses[GDP] == {MONTH: "superseded"}
    await_sessions_gone(published)
    prove_whole(published)


def test_a_reader_need_not_wait_for_a_writer_that_stopped_before_its_evidence(published: Lake, tmp_path: Path) -> None:
    """Committed but not yet in the ledger: a dependant records it, instead of failing or reading something else."""
    raise_prices(published)
    writer = stopped_run(
        published, tmp_path, "etl_resources.tables.table_store:publish", "silver_sales_lines", when="after"
    )
    try:
        reader = published.materialize(MONTH, selection=[GDP], **IMPATIENT)
    finally:
        os.kill(writer.pid, signal.SIGCONT)
    late = writer.wait()

    assert reader.success, reader.error
    assert reader.published(GDP) == {MONTH}
    assert late is not None
    assert late.success, late.error
    await_sessions_gone(published)
    prove_whole(published)


def test_a_moved_order_is_not_published_by_half_when_a_newer_capture_won_its_other_month(
    published: Lake, tmp_path: Path
) -> None:
    """The order moved and moved back: the late capture lost one of the two months, and must not publish the other."""
    there = "2024-05"
    run = published.materialize(there)
    assert run.success, run.error
    ((order, day),) = published.erp(
        "select order_id, order_date from erp.orders where to_char(order_date, 'YYYY-MM') = %s order by 1 desc limit 1",
        MONTH,
    )
    published.erp("update erp.orders set order_date = '2024-05-15' where order_id = %s", order)
    late = stopped_run(published, tmp_path, "etl_resources.tables.table_store:publish", "bronze", month=there)
    published.erp("update erp.orders set order_date = %s where order_id = %s", day, order)
    newer = published.materialize(MONTH, **IMPATIENT)
    os.kill(late.pid, signal.SIGCONT)
    late.wait()

    assert newer.success, newer.error
    await_sessions_gone(published)
    assert published.months_of(ORDERS, f"order_id = {order}") == {MONTH}
    prove_whole(published)
