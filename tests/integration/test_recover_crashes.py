"""`recover` after crashes, beside the living, beside another recovery, and after one that was killed."""

import json
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from etl_assets.graph.runtime import Runtime
from etl_assets.recover import Recovery, recover, settle_dead
from etl_resources import failpoints
from etl_resources.ledger.liveness import assets_to_settle
from etl_resources.object_store import ObjectStore
from etl_resources.tables.commit import compare_and_swap, point_branch, ref_is
from tests.fault.driver import become
from tests.fault.scenarios import go_on, kill_stopped, stopped_run
from tests.invariants import await_sessions_gone, prove_nothing_left, prove_whole
from tests.lake import Child, Lake

pytest_plugins = ["tests.lake"]

FIRST, LAST = "2024-01", "2024-02"
KPI, SERVED = "kpi.kpi_net_revenue", "postgres.analytics.kpi_net_revenue"
CRASHES = {
    "gdp staged": ("stage.committed", "gdp", "gdp.gdp_sales", "abandoned"),
    "gdp committed": ("publish.committed", "gdp", "gdp.gdp_sales", "published"),
    "serving staged": ("postgres.before_transaction", "", SERVED, "abandoned"),
    "serving committed": ("postgres.after_commit", "", SERVED, "published"),
}
LOST = "truncate etl.publishes, etl.intents, etl.captures cascade"


@pytest.fixture(scope="module")
def published(module_lake: Lake) -> Lake:
    run = module_lake.materialize(FIRST, LAST)
    assert run.success, run.error
    return module_lake


@pytest.mark.parametrize("crash", CRASHES)
def test_what_a_killed_run_left_is_settled_and_removed(published: Lake, crash: str) -> None:
    """Published where its commit is in the store, else fenced and abandoned; without a next run."""
    point, match, asset, state = CRASHES[crash]
    raise_prices(published)
    killed = published.spawn(FIRST, LAST, points=[{"point": point, "match": match, "action": "kill"}]).wait()
    assert killed is None
    await_sessions_gone(published)

    told = recover(published.runtime, dry_run=True)
    done = recover(published.runtime)

    assert told.actions == done.actions
    assert done.unsettled == []
    assert [(a.table, a.what.rpartition(" ")[2]) for a in done.actions] == [(asset, state)]
    prove_nothing_left(published)
    assert published.materialize(FIRST, LAST).success
    prove_whole(published)


def test_what_crashed_is_settled_by_up_and_sensor_too(published: Lake) -> None:
    """The quick look finds it; a second one has nothing to say."""
    raise_prices(published)
    points = [{"point": "publish.committed", "match": "kpi", "action": "kill"}]
    assert published.spawn(FIRST, LAST, points=points).wait() is None
    await_sessions_gone(published)

    dead = assets_to_settle(published.settings)
    assert dead == {KPI}
    assert [a.table for a in settle_dead(published.runtime, dead).actions] == [KPI]
    assert assets_to_settle(published.settings) == frozenset()
    assert published.materialize(FIRST, LAST).success
    prove_whole(published)


@pytest.mark.parametrize("point", ["stage.recorded", "publish.before_swap", "postgres.before_transaction"])
def test_a_living_writer_is_left_alone(published: Lake, point: str) -> None:
    """However long it takes: with no guard at all its branch, files and staging table stay, and it publishes."""
    raise_prices(published)
    writer = stopped_run(published, point, "" if point.startswith("postgres") else "gdp", first=FIRST, last=LAST)
    with kill_stopped(writer):
        found = recover(impatient(published))
        assert found.unsettled == []
        assert not [a for a in found.actions if "recorded as" in a.what or "dropped" in a.what]
        go_on(writer)
        run = writer.wait()
    assert run is not None
    assert run.success, run.error
    prove_whole(published)


def test_a_living_writer_survives_the_loss_and_rebuild_of_the_ledger(published: Lake) -> None:
    """Its intent is gone, its lock is not: it isn't fenced; what it published is rebuilt from its evidence."""
    raise_prices(published)
    writer = stopped_run(published, "publish.before_swap", "gdp", first=FIRST, last=LAST)
    with kill_stopped(writer):
        published.platform(LOST)
        assert recover(impatient(published)).unsettled == []
        go_on(writer)
        writer.wait()
    await_sessions_gone(published)
    found = recover(published.runtime)
    assert found.unsettled == []
    assert "gdp.gdp_sales" in {a.table for a in found.actions}
    assert published.materialize(FIRST, LAST).success
    prove_whole(published)


@pytest.mark.parametrize("nth", [1, 2, 5])
def test_a_killed_recovery_is_completed_by_the_next(published: Lake, nth: int) -> None:
    """Every restored publish is one transaction, so the next recovery goes on where it was killed."""
    published.platform(LOST)
    killed = spawn_recovery(published, [{"point": "evidence.recording", "action": "kill", "nth": nth}])
    killed.process.join(120)
    assert killed.process.exitcode == -signal.SIGKILL
    await_sessions_gone(published)
    assert recover(published.runtime).unsettled == []
    assert recover(published.runtime).actions == []
    prove_whole(published)


def test_a_recovery_killed_between_fence_and_record_is_completed(published: Lake) -> None:
    """The branch is gone and the attempt still open: the next one records it."""
    raise_prices(published)
    points = [{"point": "stage.committed", "match": "gdp", "action": "kill"}]
    assert published.spawn(FIRST, LAST, points=points).wait() is None
    await_sessions_gone(published)
    killed = spawn_recovery(published, [{"point": "settle.fenced", "action": "kill"}])
    killed.process.join(120)
    assert killed.process.exitcode == -signal.SIGKILL
    await_sessions_gone(published)
    (action,) = recover(published.runtime).actions
    assert action.what.endswith("abandoned")
    prove_nothing_left(published)
    assert published.materialize(FIRST, LAST).success
    prove_whole(published)


def test_two_recoveries_at_once_do_it_once(published: Lake) -> None:
    """Both succeed, and nothing is there twice."""
    published.platform(LOST)
    children = [spawn_recovery(published, []) for _ in range(2)]
    for child in children:
        child.process.join(120)
        assert child.process.exitcode == 0, child.log
    assert all(json.loads(c.stem.with_suffix(".json").read_text()) == [] for c in children)
    assert recover(published.runtime).actions == []
    prove_whole(published)


def test_leftovers_that_no_ledger_knows_go_after_the_guard(published: Lake) -> None:
    """A branch, a staging table and an unfinished upload of nobody; young ones stay."""
    catalog, address = published.runtime.store.catalog, published.runtime.addresses[KPI]
    table = catalog.load_table(address.identifier)
    head = table.current_snapshot()
    assert head is not None
    branch = "wap-lost0000-0123456789ab"
    compare_and_swap(catalog, table, (ref_is(branch, None),), (point_branch(branch, head.snapshot_id),))
    published.platform('create unlogged table etl_staging."analytics_kpi_net_revenue_lost0000-0123456789ab" (a int)')
    store = ObjectStore.of(catalog, address.location)
    key = f"{address.location.removeprefix(f's3://{store.bucket}/')}/data/unfinished.parquet"
    store.client.create_multipart_upload(Bucket=store.bucket, Key=key)

    young = recover(published.runtime)
    assert not [a for a in young.actions if "branch" in a.what or "upload" in a.what]
    told = recover(impatient(published), dry_run=True)
    assert branch in catalog.load_table(address.identifier).refs()
    assert len(list(store.open_uploads())) == 1
    done = recover(impatient(published))
    gone = [a.what for a in young.actions + done.actions]
    assert told.actions == done.actions
    assert any(branch in what for what in gone)
    assert any("unfinished upload" in what for what in gone)
    assert any("etl_staging" in what for what in gone)
    prove_nothing_left(published)
    assert list(store.open_uploads()) == []
    prove_whole(published)


def impatient(lake: Lake) -> Runtime:
    """No guard: whatever is not proven alive goes at once."""
    return Runtime(lake.runtime.project, lake.settings.model_copy(update={"maintain_guard_s": 0.0}))


def raise_prices(lake: Lake) -> None:
    lake.erp(
        "update erp.order_lines set extended_price = extended_price + 1 where (order_id, line_number) in "
        "(select order_id, line_number from erp.order_lines join erp.orders using (order_id) "
        "where order_date >= '2024-01-01' and order_date < '2024-03-01' order by 1, 2 limit 50)"
    )


def spawn_recovery(lake: Lake, points: list[Mapping[str, object]]) -> Child:
    return lake.fork(recover_here, points)


def recover_here(points: list[Mapping[str, object]], environment: Mapping[str, str], stem: Path) -> None:
    """A recovery as a process of its own; writes what it could not settle."""
    become({**environment, failpoints.SETTING: json.dumps(points)}, stem.with_suffix(".log"))
    from etl_assets.project import load_project

    found: Recovery = recover(Runtime(load_project()))
    stem.with_suffix(".json").write_text(json.dumps([str(u) for u in found.unsettled]))
