"""Many writers of one table, each with a partition of its own: all get in, none undoes another."""

from collections.abc import Mapping
from pathlib import Path

from etl_resources.ledger.ledger import Ledger
from tests.fault.driver import become, wait_at
from tests.fault.scenarios import open_together
from tests.lake import Lake

pytest_plugins = ["tests.lake"]

WRITERS = 36
ASSET = "silver.sales_orders"


def write_one(month: str, barrier: str, environment: Mapping[str, str], stem: Path) -> None:
    """A process's body: one empty partition, staged and published."""
    become(environment, stem.with_suffix(".log"))
    from etl_assets.graph.runtime import Runtime
    from etl_assets.project import load_project
    from etl_resources.engines.embedded import connect
    from etl_resources.extract.capture import write_empty
    from etl_resources.ledger.records import IntendedPartition
    from etl_resources.quality.content_hash import version_of
    from etl_resources.tables.schema import field_ids
    from etl_resources.tables.stage import StagedPartition
    from etl_resources.tables.table_store import WrittenPartition

    runtime = Runtime(load_project())
    store, address, token = runtime.store, runtime.addresses[ASSET], month.replace("-", "").ljust(64, "0")
    with Ledger.open(runtime.settings) as ledger, connect(runtime.settings, threads=1) as engine:
        ids = field_ids(store.ensure(address).schema(), address.columns)
        wait_at(Path(barrier))
        epoch = ledger.draw_epoch()
        attempt = ledger.open_attempt(ASSET, "writers0")
        ledger.intend(attempt, [IntendedPartition(month, epoch, token)])
        path = write_empty(engine, address, month, epoch=epoch, token=token, field_ids=ids)
        staged = StagedPartition(month, token, epoch, version_of(0, "0" * 16), 0)
        written = WrittenPartition(staged, (path,), {"counts": {"written": 0}, "linked": [], "stage_s": 0.0})
        outcome = store.stage(ledger, address, attempt, "writers0", [written]).publish()
    assert len(outcome.published) == 1, outcome


def test_36_writers_of_one_table_all_publish(lake: Lake, tmp_path: Path) -> None:
    """A backfill that is spread over machines: no commit is lost, whoever wins each round."""
    months = [f"{2023 + (7 + n) // 12}-{(7 + n) % 12 + 1:02d}" for n in range(WRITERS)]
    barrier = tmp_path / "go"
    writers = [lake.fork(write_one, month, str(barrier)) for month in months]

    open_together(barrier, writers)
    for writer in writers:
        writer.process.join(300)
        assert writer.process.exitcode == 0, writer.log[-2000:]

    with Ledger.open(lake.settings) as ledger:
        recorded = ledger.current(ASSET)
    published = lake.runtime.store.published_epochs(lake.runtime.addresses[ASSET])
    assert published == {p: publish.epoch for p, publish in recorded.items()}
    assert sorted(published) == months
    assert set(lake.runtime.store.catalog.load_table(lake.runtime.addresses[ASSET].identifier).refs()) == {"main"}
