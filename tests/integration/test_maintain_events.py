"""Old runs go, and what the UI, data versions and staleness read stays: on Postgres and on SQLite."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from etl_assets.event_log_purge import PurgedEvents, purge_events, runs_with_latest_events
from tests.integration.test_dagster_storage import plain_shell
from tests.lake import QUIET

DAYS = dg.StaticPartitionsDefinition(["a", "b", "c"])
MATERIALIZED = dg.DagsterEventType.ASSET_MATERIALIZATION
FUTURE, PAST = timedelta(minutes=1), timedelta(days=-1)


def definitions(prefix: str) -> dg.Definitions:
    """An asset with a check and one that depends on it, by partition; names of the test's own."""

    @dg.asset(
        key=[prefix, "upper"],
        partitions_def=DAYS,
        code_version="1",
        check_specs=[dg.AssetCheckSpec("good", asset=dg.AssetKey([prefix, "upper"]), partitions_def=DAYS)],
    )
    def upper(context: dg.AssetExecutionContext) -> Iterator[Any]:
        key = dg.AssetKey([prefix, "upper"])
        version = context.run.tags.get("version", "1")
        if version == "broken":
            raise dg.Failure("broken")
        yield dg.AssetCheckEvaluation(
            asset_key=key, check_name="good", passed=version != "bad", partition=context.partition_key
        )
        yield dg.Output(None, output_name=f"{prefix}__upper_good")
        yield dg.Output(None, output_name="result", data_version=dg.DataVersion(version))

    @dg.asset(key=[prefix, "lower"], deps=[upper], partitions_def=DAYS, code_version="1")
    def lower() -> None:
        return None

    return dg.Definitions(assets=[upper, lower], jobs=[dg.define_asset_job("both", "*")])


@pytest.fixture(params=["postgres", "sqlite"])
def instance(
    request: pytest.FixtureRequest, stack: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    if request.param == "sqlite":
        monkeypatch.delenv("ETL_POSTGRES_DSN", raising=False)
        monkeypatch.setenv("ETL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with plain_shell(tmp_path) as made:
        yield made


class Story:
    """Runs of the two assets, and what Dagster knows of them."""

    def __init__(self, instance: dg.DagsterInstance, prefix: str) -> None:
        self.instance, self.defs = instance, definitions(prefix)
        self.upper, self.lower = dg.AssetKey([prefix, "upper"]), dg.AssetKey([prefix, "lower"])
        self.checks = [dg.AssetCheckKey(self.upper, "good")]

    def run(self, partition: str, version: str, assets: list[dg.AssetKey] | None = None) -> str:
        return self.defs.resolve_job_def("both").execute_in_process(
            instance=self.instance, partition_key=partition, tags={"version": version},
            asset_selection=assets, raise_on_error=False, run_config=QUIET,
        ).run_id  # fmt: skip

    def known(self) -> dict[str, Any]:
        """Partition status, data versions, staleness, latest checks."""
        storage, graph = self.instance.event_log_storage, self.defs.resolve_asset_graph()
        stale = CachingStaleStatusResolver(self.instance, graph, LoadingContextForTest(self.instance))
        found: dict[str, Any] = {}
        for key in (self.upper, self.lower):
            name = key.to_user_string()
            found[f"{name} materialized"] = sorted(self.instance.get_materialized_partitions(key))
            ids = list(storage.get_latest_storage_id_by_partition(key, MATERIALIZED).values())
            newest = self.instance.fetch_materializations(dg.AssetRecordsFilter(key, storage_ids=ids), limit=10)
            found[f"{name} tags"] = {
                r.partition_key: dict(r.asset_materialization.tags or {})
                for r in newest.records
                if r.asset_materialization
            }
            found[f"{name} stale"] = {p: stale.get_status(key, p).value for p in DAYS.get_partition_keys()}
            found[f"{name} causes"] = {p: len(stale.get_stale_causes(key, p)) for p in DAYS.get_partition_keys()}
            event = self.instance.get_latest_materialization_event(key)
            found[f"{name} latest"] = event and (event.run_id, event.timestamp)
            status = self.instance.get_status_by_partition(key, DAYS.get_partition_keys(), DAYS)
            found[f"{name} status"] = {p: s and s.value for p, s in (status or {}).items()}
        found["checks"] = sorted(
            (str(i.partition_key), i.latest_execution_status.value, i.is_current)
            for i in storage.get_asset_check_partition_info(self.checks)
        )
        return found

    def purge(self, after: timedelta, **options: Any) -> PurgedEvents:
        return purge_events(self.instance, self.checks, before=datetime.now(UTC) + after, **options)


@pytest.fixture
def story(instance: dg.DagsterInstance) -> Story:
    """a was replaced, b is stale, c's second run broke."""
    told = Story(instance, f"purge_{type(instance.event_log_storage).__name__.lower()}")
    told.run("a", "1")
    told.run("a", "2")
    told.run("b", "1")
    told.run("b", "bad", [told.upper])
    told.run("c", "1")
    told.run("c", "broken")
    return told


def test_superseded_runs_go_and_nothing_that_is_known_changes(story: Story) -> None:
    """A purge that turned a partition to missing, or fresh to stale, would start a needless backfill."""
    before, runs = story.known(), {r.run_id for r in story.instance.get_runs()}
    assert before[f"{story.lower.to_user_string()} stale"]["b"] == "STALE"
    kept = runs_with_latest_events(story.instance, story.checks)
    rows = len(story.instance.get_records_for_run(next(iter(runs - kept))).records)
    assert rows > 0

    assert story.purge(PAST) == PurgedEvents(0, 0)
    assert story.purge(FUTURE, dry_run=True) == PurgedEvents(len(runs - kept), len(runs & kept))
    assert {r.run_id for r in story.instance.get_runs()} == runs

    assert story.purge(FUTURE) == PurgedEvents(len(runs - kept), len(runs & kept))
    assert len(runs - kept) >= 1
    assert {r.run_id for r in story.instance.get_runs()} == runs & kept
    for gone in runs - kept:
        assert not story.instance.get_records_for_run(gone).records
    assert story.known() == before
    assert story.purge(FUTURE).runs_deleted == 0


def test_a_run_after_the_purge_goes_on_from_there(story: Story) -> None:
    """Data versions and pointers of what was purged are no longer needed by anything."""
    story.purge(FUTURE)
    story.run("b", "bad", [story.lower])
    assert story.known()[f"{story.lower.to_user_string()} stale"]["b"] == "FRESH"
