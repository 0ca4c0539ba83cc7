"""Runs at the same time, late and repeated: the newest inputs win, once, and stay."""

from pathlib import Path

import pytest

from tests.fault.reader import watching
from tests.fault.scenarios import IMPATIENT, go_on, open_together, stopped_run
from tests.fault.sources import empty_month, raise_prices, refill_month
from tests.invariants import await_sessions_gone, prove_whole
from tests.lake import GDP, KPI, LINES, ORDERS, SERVED, Lake
from tests.one_month import MONTH

pytest_plugins = ["tests.lake", "tests.one_month"]


def test_two_runs_of_one_partition_at_once_publish_it_consistently(published: Lake, tmp_path: Path) -> None:
    """Two people press the same button: both succeed or one says why, and the result is the source's."""
    raise_prices(published, MONTH)
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
    ("point", "match", "asset"),
    [
        pytest.param("publish.proved", "bronze", ORDERS, id="bronze"),
        pytest.param("publish.proved", "gdp_sales", GDP, id="gdp"),
        pytest.param("publish.before_swap", "gdp_sales", GDP, id="gdp, its epoch checked"),
        pytest.param("postgres.before_transaction", "", SERVED, id="serving"),
    ],
)
def test_a_run_that_slept_while_a_newer_one_published_changes_nothing(
    published: Lake, point: str, match: str, asset: str
) -> None:
    """The zombie: it wakes with old rows in its hands. Without epochs it puts them back, for ever."""
    raise_prices(published, MONTH)
    with watching(published):
        zombie = stopped_run(published, point, match, first=MONTH)
        try:
            raise_prices(published, MONTH)
            newer = published.materialize(MONTH, **IMPATIENT)
            assert newer.success, newer.error
            content = published.published_kpi(MONTH)
        finally:
            go_on(zombie)
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
    raise_prices(published, MONTH, by=5)
    assert published.materialize(MONTH).published(SERVED) == {MONTH}
    raise_prices(published, MONTH, by=-5)

    back = published.materialize(MONTH)

    assert back.success, back.error
    for asset in (LINES, GDP, KPI, SERVED):
        assert back.published(asset) == {MONTH}, asset
    assert published.published_kpi(MONTH) == first
    prove_whole(published)


def test_an_alias_does_not_claim_content_that_was_published_meanwhile(published: Lake) -> None:
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
        between = stopped_run(published, "stage.recorded", "gdp_sales", first=MONTH)
        published.erp(prices, -7, MONTH)
        published.erp(stamp, "2024-12-02", MONTH)
        alias = stopped_run(published, "stage.recorded", "gdp_sales", first=MONTH)
        go_on(between)
        first = between.wait()
        go_on(alias)
        second = alias.wait()
    finally:
        published.erp("alter table erp.order_lines enable trigger user; alter table erp.orders enable trigger user")

    assert first is not None
    assert second is not None
    assert second.success, second.error
    await_sessions_gone(published)
    prove_whole(published)


def test_two_attempts_of_one_token_publish_what_each_audited(published: Lake) -> None:
    """The same inputs twice: the second attempt must not publish, drop or reuse what the first staged."""
    raise_prices(published, MONTH)
    first = stopped_run(published, "publish.proved", "gdp_sales", first=MONTH)
    second = published.materialize(MONTH, **IMPATIENT)
    go_on(first)
    late = first.wait()

    assert second.success, second.error
    assert late is not None
    assert late.success, late.error
    assert late.statuses[GDP] == {MONTH: "superseded"}
    await_sessions_gone(published)
    prove_whole(published)


def test_a_reader_need_not_wait_for_a_writer_that_stopped_before_its_evidence(published: Lake) -> None:
    """Committed but not yet in the ledger: a dependant records it, instead of failing or reading something else."""
    raise_prices(published, MONTH)
    writer = stopped_run(published, "publish.committed", "silver.sales_lines", first=MONTH)
    try:
        reader = published.materialize(MONTH, selection=[GDP], **IMPATIENT)
    finally:
        go_on(writer)
    late = writer.wait()

    assert reader.success, reader.error
    assert reader.published(GDP) == {MONTH}
    assert late is not None
    assert late.success, late.error
    await_sessions_gone(published)
    prove_whole(published)


def test_a_moved_order_is_not_published_by_half_when_a_newer_capture_won_its_other_month(
    published: Lake,
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
    late = stopped_run(published, "publish.proved", "bronze", first=there)
    published.erp("update erp.orders set order_date = %s where order_id = %s", day, order)
    newer = published.materialize(MONTH, **IMPATIENT)
    go_on(late)
    late.wait()

    assert newer.success, newer.error
    await_sessions_gone(published)
    assert published.months_of(ORDERS, f"order_id = {order}") == {MONTH}
    prove_whole(published)


def test_a_commit_built_before_another_one_landed_is_built_again(published: Lake) -> None:
    """Two months of one table: the second compare-and-swap must not undo the first, which it never saw."""
    other = "2024-06"
    raise_prices(published, MONTH)
    raise_prices(published, other)
    late = stopped_run(published, "publish.before_swap", "gdp_sales", first=MONTH)
    try:
        between = published.materialize(other, **IMPATIENT)
    finally:
        go_on(late)
    rebased = late.wait()

    assert between.success, between.error
    assert rebased is not None
    assert rebased.success, rebased.error
    assert rebased.published(GDP) == {MONTH}
    prove_whole(published)


def test_a_month_that_becomes_empty_is_served_empty_and_comes_back(published: Lake) -> None:
    """No row is content too: the old rows go, the epoch stays, and the rows that return are published."""
    before = published.published_kpi(MONTH)
    empty_month(published, MONTH)
    with watching(published):
        emptied = published.materialize(MONTH)
        assert emptied.success, emptied.error
        assert published.published_kpi(MONTH) == []
        prove_whole(published)
        refill_month(published)
        back = published.materialize(MONTH)

    assert back.success, back.error
    assert published.published_kpi(MONTH) == before
    prove_whole(published)
