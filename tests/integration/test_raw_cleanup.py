"""The raw zone: what no delivery needs goes, what an auditor, a retry or a running capture needs stays."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dagster._core.utils import make_new_run_id

from etl_assets.graph.runtime import Runtime
from etl_assets.maintain import maintain
from etl_assets.recover import recover
from etl_resources import object_store
from etl_resources.errors import TransientError
from etl_resources.ledger.ledger import Ledger
from etl_resources.object_store import ObjectStore
from etl_resources.settings import load_settings
from etl_resources.tables.maintenance import TableMaintenance
from tests.crm import MONTH, CrmLake, crm_lake, customer
from tests.fault.scenarios import IMPATIENT, go_on, kill_stopped, stopped_run
from tests.integration.api_server import Api, page, serving
from tests.invariants import await_sessions_gone
from tests.lake import Lake, new_lake
from tests.projects import RATES

pytest_plugins = ["tests.lake"]
pytestmark = pytest.mark.timeout(300)

CUSTOMERS, RATES_TABLE = "bronze.customers", "bronze.currency_rates"
EAGER = {"ETL_MAINTAIN_KEEP_DAYS": "0", "ETL_MAINTAIN_GUARD_S": "0"}


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's clock is ahead: everything is older than a guard of nothing."""
    monkeypatch.setattr(ObjectStore, "now", lambda _: datetime.now(UTC) + timedelta(minutes=1))


@pytest.fixture
def crm(stack: object, tmp_path: Path, later: None) -> Iterator[CrmLake]:
    """Two files, published, and one of them again."""
    with crm_lake(tmp_path) as made:
        made.drop("a.jsonl.gz", [customer(1)])
        made.drop("b.jsonl.gz", [customer(2)])
        assert made.run() == "published"
        made.drop("b.jsonl.gz", [customer(2, 5)])
        assert made.run() == "published"
        yield made


def runtime_of(lake: Lake, **changed: str) -> Runtime:
    with lake.environment(**{**EAGER, **changed}):
        return Runtime(lake.runtime.project, load_settings())


def cleaned(lake: Lake, table: str = CUSTOMERS, *, dry_run: bool = False, **changed: str) -> TableMaintenance:
    report = maintain(runtime_of(lake, **changed), [table], lambda _: None, dry_run=dry_run)
    assert report.failed == {}
    return report.tables[0]


def die(crm: CrmLake, point: str = "deliver.files_written", **options: str) -> set[str]:
    """A run is killed; what it left in the raw zone."""
    before = set(crm.raw())
    killed = crm.lake.spawn(MONTH, points=[{"point": point, "action": "kill"}], **options)
    assert killed.wait() is None, f"{point} was not reached:\n{killed.log}"
    await_sessions_gone(crm.lake)
    return set(crm.raw()) - before


def test_what_a_dead_run_landed_goes_and_nothing_else(crm: CrmLake) -> None:
    """Superseded deliveries were published once, so auditors may ask for their bytes; a stranger's file isn't ours."""
    crm.drop("b.jsonl.gz", [customer(2, 6)])
    dead = die(crm)
    assert len(dead) == 2  # the file and the record of the delivery
    crm.drop("b.jsonl.gz", [customer(2, 7)])
    assert crm.run() == "published"
    crm.s3.put_object(Bucket=crm.lake.settings.s3_bucket, Key="raw/customers/run_id=x/notes.json", Body=b"{}")
    before = set(crm.raw())

    told = cleaned(crm.lake, dry_run=True)
    assert (told.raw_objects, set(crm.raw())) == (2, before)
    listed = {a.what.split()[0] for a in recover(runtime_of(crm.lake), [CUSTOMERS], dry_run=True).actions}
    assert {key for key in before if any(path.endswith(f"/{key}") for path in listed)} == dead

    done = cleaned(crm.lake)

    assert (done.raw_objects, done.notes) == (2, [])
    assert done.raw_bytes > 0
    assert set(crm.raw()) == before - dead
    assert cleaned(crm.lake).raw_objects == 0
    crm.prove_right()
    assert crm.run() == "pruned"


def test_a_failed_delivery_is_kept_as_long_as_old_versions(crm: CrmLake) -> None:
    """Its bytes explain the failure; they go with ETL_MAINTAIN_KEEP_DAYS, not with the guard."""
    crm.put("b.jsonl.gz", b"no gzip")
    assert not crm.lake.materialize(MONTH).success
    before = set(crm.raw())
    assert cleaned(crm.lake, ETL_MAINTAIN_KEEP_DAYS="7").raw_objects == 0
    assert cleaned(crm.lake).raw_objects == 2
    assert len(before - set(crm.raw())) == 2


def test_what_a_dead_run_landed_is_kept_once_another_published_it(crm: CrmLake) -> None:
    """Nothing is landed twice: the object lies in the folder of a run that never published."""
    crm.drop("b.jsonl.gz", [customer(2, 6)])
    dead = die(crm)
    assert crm.run() == "published"

    assert cleaned(crm.lake).raw_objects == 1  # the dead run's record, whose objects another one names
    assert {key for key in dead if not key.endswith(".json")} < set(crm.raw())
    crm.prove_right()


def test_what_a_fenced_run_landed_goes(crm: CrmLake) -> None:
    """It woke up after a newer delivery was published: its attempt is settled, and nothing of it was ever shown."""
    crm.drop("b.jsonl.gz", [customer(2, 6)])
    late = stopped_run(crm.lake, "publish.before_swap", "bronze.customers", first=MONTH)
    with kill_stopped(late):
        crm.drop("b.jsonl.gz", [customer(2, 7)])
        newer = crm.lake.spawn(MONTH, **IMPATIENT).wait()
        assert newer is not None
        assert newer.success, newer.error
        go_on(late)
        late.wait()
    await_sessions_gone(crm.lake)

    assert cleaned(crm.lake).raw_objects == 2  # its record, and the file that no other delivery names
    crm.prove_right()


def test_a_capture_under_way_is_left_alone(crm: CrmLake) -> None:
    """It may take over whatever lies there, whether it observes or has landed already."""
    crm.drop("b.jsonl.gz", [customer(2, 6)])
    dead = die(crm)
    with Ledger.open(crm.lake.settings) as other, other.ordering_captures("crm", "customers"):
        done = cleaned(crm.lake)
        assert (done.raw_objects, done.notes[-1]) == (0, "raw zone left alone: a capture is under way")
    running = stopped_run(crm.lake, "deliver.landed", first=MONTH)
    with kill_stopped(running):
        assert cleaned(crm.lake).raw_objects == 0
        assert dead < set(crm.raw())
        go_on(running)
        run = running.wait()
    assert run is not None
    assert run.success, run.error
    assert cleaned(crm.lake).raw_objects == 1
    crm.prove_right()


def test_a_cleaning_that_dies_is_completed_by_the_next(crm: CrmLake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes go before what they name, so what is left names nothing that is gone."""
    crm.drop("c.jsonl.gz", [customer(3)])
    crm.drop("b.jsonl.gz", [customer(2, 6)])
    run_id = make_new_run_id()
    dead = die(crm, run_id=run_id)
    delete = ObjectStore.delete

    def first_only(store: ObjectStore, paths: Iterable[str]) -> int:
        first, *others = paths
        if "/raw/" not in first:
            return delete(store, [first, *others])
        delete(store, [first])
        raise TransientError("gone")

    with monkeypatch.context() as broken:
        broken.setattr(object_store.ObjectStore, "delete", first_only)
        report = maintain(runtime_of(crm.lake), [CUSTOMERS], lambda _: None)
        assert CUSTOMERS in report.failed
    assert dead - set(crm.raw()) == {key for key in dead if key.endswith(".json")}

    run = crm.lake.spawn(MONTH, run_id=run_id, **IMPATIENT).wait()
    assert run is not None
    assert run.success, run.error
    assert cleaned(crm.lake).raw_objects == 0
    crm.prove_right()


def answered(api: Api, usd: str) -> None:
    months = {"2024-01": "31", "2024-02": "29", "2024-03": "31"}
    api.answers = {
        f"/v1/{m}-01..{m}-{last}?base=EUR": page(f'{{"rates": {{"{m}-04": {{"USD": {usd}{i}}}}}}}')
        for i, (m, last) in enumerate(months.items())
    }


def test_page_markers_stay_with_the_run_that_published_them(stack: object, tmp_path: Path, later: None) -> None:
    """They tell how a page was asked for. A run that found nothing new leaves markers that nobody needs."""
    with serving() as api, new_lake(tmp_path, scale=None, project=RATES) as lake:
        lake.env["RATES_URL"] = api.url
        raw = ObjectStore.of(lake.runtime.store.catalog, f"s3://{lake.settings.s3_bucket}/raw")
        answered(api, "1.1")
        assert lake.materialize(MONTH).success
        needed = {o.path for o in raw.list("currency_rates")}
        assert lake.materialize(MONTH).success
        assert len({o.path for o in raw.list("currency_rates")} - needed) == 3

        assert cleaned(lake, RATES_TABLE).raw_objects == 3

        assert {o.path for o in raw.list("currency_rates")} == needed
        answered(api, "1.2")
        assert lake.materialize(MONTH).success
        assert cleaned(lake, RATES_TABLE).raw_objects == 0


def test_datasets_of_one_api_do_not_wait_for_each_other(stack: object, tmp_path: Path) -> None:
    """A slow API holds the lock that orders its captures for minutes."""
    with new_lake(tmp_path, scale=None, project=RATES) as lake, ExitStack() as open_until_here:
        with lake.environment(ETL_LOCK_TIMEOUT_S="1"):
            settings = load_settings()
        slow, quick = (open_until_here.enter_context(Ledger.open(settings)) for _ in range(2))
        open_until_here.enter_context(slow.ordering_captures("ecb", "currency_rates"))
        with quick.ordering_captures("ecb", "interest_rates") as record:
            assert record("run", 0) > 0
        with pytest.raises(TransientError, match="another capture of ecb/currency_rates"):
            quick.ordering_captures("ecb", "currency_rates").__enter__()
