"""Faults of sources that are delivered whole: kill -9, two at once, a zombie, a file that changes, a cut connection."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from dagster._core.utils import make_new_run_id

from etl_resources.errors import TransientError
from etl_resources.extract import landing
from etl_resources.extract.raw_zone import RawZone
from etl_resources.object_store import ObjectStore, bucket_and_key, s3_client
from tests.crm import BRONZE, MONTH, CrmLake, crm_lake, customer
from tests.fault.proxy import proxy_to
from tests.fault.scenarios import DELIVERED, IMPATIENT, go_on, kill_stopped, open_together, stopped_run
from tests.integration.files_source import Crm, read
from tests.invariants import await_sessions_gone
from tests.lake import Lake

pytestmark = pytest.mark.timeout(300)
FOLLOW_UPS = ("retry", "re-execution")


@pytest.fixture
def crm(stack: object, tmp_path: Path) -> Iterator[CrmLake]:
    """Two files, published."""
    with crm_lake(tmp_path) as made:
        made.drop("a.jsonl.gz", [customer(1), customer(2)])
        made.drop("b.jsonl.gz", [customer(3), "no JSON"])
        assert made.run() == "published"
        yield made


def prove_settled(crm: CrmLake) -> None:
    """What lies in the bucket is published and served, and no attempt, branch or session is left."""
    crm.prove_right()
    lake: Lake = crm.lake
    assert lake.platform("select attempt, asset from etl.intents where state = 'open'") == []
    for address in lake.runtime.addresses.values():
        assert set(lake.runtime.store.catalog.load_table(address.identifier).refs()) == {"main"}
    assert len(crm.dead_letters()) == 1


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each point with one follow-up; `--long`: with each."""
    if {"point", "follow_up"} <= set(metafunc.fixturenames):
        every = metafunc.config.getoption("long")
        pairs = [(p, f) for i, p in enumerate(DELIVERED) for j, f in enumerate(FOLLOW_UPS) if every or i % 2 == j]
        metafunc.parametrize(("point", "follow_up"), pairs)


def test_a_killed_run_leaves_what_the_next_run_completes(crm: CrmLake, point: str, follow_up: str) -> None:
    """And what it had landed isn't landed again."""
    crm.drop("b.jsonl.gz", [customer(3, 5), customer(4), "no JSON"])
    run_id = make_new_run_id()
    killed = crm.lake.spawn(MONTH, points=[{"point": point, "action": "kill"}], run_id=run_id, **IMPATIENT)
    assert killed.wait() is None, f"{point} was not reached:\n{killed.log}"
    await_sessions_gone(crm.lake)
    landed = {key for key in crm.raw() if not key.endswith(".json")}

    after = crm.lake.spawn(MONTH, run_id=run_id if follow_up == "retry" else None).wait()

    assert after is not None
    assert after.success, after.error
    prove_settled(crm)
    if point != "deliver.observed":
        assert {key for key in crm.raw() if not key.endswith(".json")} == landed


def test_two_runs_at_once_publish_one_delivery(crm: CrmLake) -> None:
    """Whichever is second finds the other's content, and makes it neither twice nor half."""
    crm.drop("b.jsonl.gz", [customer(i) for i in range(3, 500)] + ["no JSON"])
    barrier = crm.lake.home / f"barrier-{uuid4().hex[:8]}"
    children = [crm.lake.spawn(MONTH, barrier=barrier) for _ in range(2)]
    open_together(barrier, children)
    runs = [child.wait() for child in children]

    assert all(run is not None and run.success for run in runs), [run and run.error for run in runs]
    prove_settled(crm)


@pytest.mark.parametrize("point", ["deliver.landed", "stage.committed"])
def test_a_run_that_slept_through_a_newer_delivery_puts_nothing_back(crm: CrmLake, point: str) -> None:
    """It observed older files, so its epoch is lower, however late it wakes up."""
    crm.drop("b.jsonl.gz", [customer(3, 5), "no JSON"])
    zombie = stopped_run(crm.lake, point, BRONZE.replace("/", ".") if point == "stage.committed" else "", first=MONTH)
    with kill_stopped(zombie):
        crm.drop("b.jsonl.gz", [customer(3, 6), customer(9), "no JSON"])
        newer = crm.lake.spawn(MONTH, **IMPATIENT).wait()
        assert newer is not None
        assert newer.success, newer.error
        go_on(zombie)
        zombie.wait()

    await_sessions_gone(crm.lake)
    prove_settled(crm)


def test_a_file_replaced_while_it_is_captured_is_captured_as_it_is_then(crm: CrmLake) -> None:
    """The copy would be something that nobody listed: the step lists again."""
    crm.drop("b.jsonl.gz", [customer(3, 5), "no JSON"])
    stopped = stopped_run(crm.lake, "deliver.observed", first=MONTH)
    with kill_stopped(stopped):
        crm.drop("b.jsonl.gz", [customer(3, 6), "no JSON"])
        go_on(stopped)
        run = stopped.wait()

    assert run is not None
    assert run.success, run.error
    prove_settled(crm)


@pytest.mark.parametrize("size", [3, 11])
def test_a_cut_connection_goes_on_where_it_was(stack: object, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Landing and reading a large file: each is cut once in the middle, and not a byte is missing or doubled."""
    monkeypatch.setattr(landing, "PART_BYTES", 5 * 1024**2)
    crm = Crm()
    names = (os.urandom(30).hex().encode() for _ in range(size * 10_000))
    content = b"".join(b'{"customer_id": %d, "name": "%s"}\n' % row for row in enumerate(names))
    crm.client.put_object(Bucket=crm.bucket, Key="customers/a.jsonl", Body=content)
    server = urlsplit(crm.endpoint)
    with proxy_to(server.hostname or "", server.port or 0) as proxy:
        through = f"http://127.0.0.1:{proxy.port}"
        crm.store = ObjectStore(s3_client(through, crm.keys, region="us-east-1", timeout_s=5), "s3://pp-dw-test/raw")
        source, zone = crm.files(endpoint=through, pattern="*.jsonl"), crm.zone()
        delivery = source.observe(zone)
        proxy.cut_short_answer_to(b"GET /" + crm.bucket.encode() + b"/customers/a.jsonl", len(content) // 2)
        (landed,) = delivery.land(zone)
        assert proxy.cut_short == 1
        assert crm.client.get_object(Bucket="pp-dw-test", Key=bucket_and_key(landed.path)[1])["Body"].read() == content

        proxy.cut_short_answer_to(b"GET /pp-dw-test/raw/", len(content) // 2)
        rows, reading = read(source, zone, "count(distinct customer_id)")

        assert proxy.cut_short == 2
        assert rows == [(size * 10_000,)]
        assert reading.read == size * 10_000


def test_a_server_that_is_gone_is_transient(stack: object) -> None:
    """Nothing is half landed: no object and no open upload."""
    crm = Crm()
    crm.client.put_object(Bucket=crm.bucket, Key="customers/a.jsonl", Body=os.urandom(12 * 1024**2))
    server = urlsplit(crm.endpoint)
    with proxy_to(server.hostname or "", server.port or 0) as proxy, pytest.MonkeyPatch.context() as hurry:
        hurry.setenv("ETL_RETRY_ELAPSED_S_MAX", "1")
        delivery = crm.files(endpoint=f"http://127.0.0.1:{proxy.port}", pattern="*.jsonl").observe(crm.zone())
        proxy.cut()
        zone: RawZone = crm.zone()
        with pytest.raises(TransientError):
            delivery.land(zone)

    assert not crm.zone(dataset=zone.dataset).landed
