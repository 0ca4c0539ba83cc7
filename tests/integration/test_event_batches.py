"""Events of partitions are stored together: the same as Dagster stores one by one, and none too late."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest
import sqlalchemy as db
import sqlalchemy.exc
from dagster._core.instance.ref import InstanceRef
from dagster_postgres import PostgresEventLogStorage

from etl_resources.dagster_event_batches import EventBatches
from etl_resources.dagster_events import PatientEventLogStorage
from etl_resources.settings import load_settings
from tests.databases import query
from tests.integration.stack_project import ROOT
from tests.integration.stored_events import stored

pytest_plugins = ["tests.integration.stored_events"]

MONTHS = [f"{2020 + n // 12}-{n % 12 + 1:02}" for n in range(30)]
CHECKS = ("rows_accounted", "unique_key")


class Nowhere(dg.IOManager):
    """Keeps nothing: the tests are about events."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        pass

    def load_input(self, context: dg.InputContext) -> Any:
        raise NotImplementedError


@pytest.fixture
def instance(stack: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """As in a run's process: its events are in the stack's Postgres."""
    monkeypatch.chdir(tmp_path)
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path), config_dir=str(ROOT))) as made:
        yield made


def materializations(asset: str) -> int:
    of_asset = "select count(*) from event_logs where asset_key = %s and dagster_event_type = 'ASSET_MATERIALIZATION'"
    return int(stored(of_asset, asset)[0][0])


def run(
    instance: dg.DagsterInstance, asset: str, months: list[str], then: Callable[[Any], None] = lambda _: None
) -> dg.ExecuteInProcessResult:
    """One step that tells two checks and a materialization of each month, as ours do; `then` is its last act."""
    partitions = dg.StaticPartitionsDefinition(MONTHS)
    key = dg.AssetKey(asset)

    def body(context: dg.AssetExecutionContext) -> Iterator[Any]:
        for month in months:
            for check in CHECKS:
                passed = (month, check) != (MONTHS[1], CHECKS[1])
                yield dg.AssetCheckEvaluation(
                    asset_key=key, check_name=check, partition=month, passed=passed, blocking=False, metadata={"n": 1}
                )
        for check in CHECKS:
            yield dg.Output(None, output_name=f"{asset}_{check}")
        yield dg.Output(None)
        for month in months:
            yield dg.AssetMaterialization(key, partition=month, tags={"dagster/data_version": f"v{month}"})
        then(context)

    made = dg.asset(
        name=asset,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[dg.AssetCheckSpec(c, asset=key, partitions_def=partitions) for c in CHECKS],
    )(body)
    definitions = dg.Definitions([made], resources={"io_manager": Nowhere()})
    job = definitions.resolve_implicit_global_asset_job_def()
    tags = {"dagster/asset_partition_range_start": months[0], "dagster/asset_partition_range_end": months[-1]}
    return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def everything(asset: str) -> list[list[tuple[Any, ...]]]:
    """All that Dagster's tables say of an asset, but for ids and moments.

    Events of the Output come in the order of a set, which is Dagster's; those of the step itself in theirs.
    """
    return [
        stored(statement, asset)
        for statement in (
            "select dagster_event_type, step_key is not null, partition from event_logs "
            "where asset_key = %s order by 1, 3",
            "select e.partition, t.key, case when t.value like 'v%%' then t.value end "  # Dagster's own are of a run
            "from asset_event_tags t join event_logs e on e.id = t.event_id "
            "where t.asset_key = %s order by case when t.value like 'v%%' then t.event_id end, 1",
            "select check_name, partition, execution_status, evaluation_event_storage_id is not null, "
            "evaluation_event::jsonb -> 'dagster_event' ->> 'event_type_value', "
            "(select dagster_event_type from event_logs where id = evaluation_event_storage_id), "
            "(select partition from event_logs where id = materialization_event_storage_id) "
            "from asset_check_executions where asset_key = %s order by 1, 2",
            "select last_materialization::jsonb -> 'event_log_entry' -> 'dagster_event' -> 'event_specific_data' "
            "-> 'materialization' ->> 'partition', "
            "(select partition from event_logs where id = (last_materialization::jsonb ->> 'storage_id')::bigint), "
            "last_run_id is not null from asset_keys where asset_key = %s",
        )
    ]


def kinds_of_run(run_id: str) -> list[tuple[Any, ...]]:
    statement = "select dagster_event_type from event_logs where run_id = %s order by id"
    return query(load_settings().require_postgres(), statement, [run_id])


def test_what_is_stored_is_what_dagster_stores(
    instance: dg.DagsterInstance, asset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The UI, sensors and staleness read these tables: stored together, they must say the same in the same order."""
    ours = run(instance, asset, MONTHS[:4])
    assert ours.success
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE")
    for name in ("store_event", "store_event_batch"):
        monkeypatch.setattr(PatientEventLogStorage, name, getattr(PostgresEventLogStorage, name))
    stock = run(instance, f"{asset}_stock", MONTHS[:4])

    found = everything(asset)
    assert found == everything(f"{asset}_stock")
    assert [len(rows) for rows in found] == [4 + 4 + 4, 4 + 4, 2 * 4, 1]
    assert [row[2] for row in found[2]].count("FAILED") == 1
    assert kinds_of_run(ours.run_id) == kinds_of_run(stock.run_id)


def test_more_partitions_take_no_more_statements(instance: dg.DagsterInstance, asset: str) -> None:
    """Five statements an event were most of a run in which nothing had changed."""
    assert run(instance, asset, MONTHS[:1]).success  # the first asks whether the tables are there
    counted: list[int] = []
    for months in (MONTHS[:2], MONTHS):
        statements: list[str] = []

        def count(_connection: Any, _cursor: Any, statement: str, *_: Any, into: list[str] = statements) -> None:
            into.append(statement)

        engine = instance.event_log_storage._engine  # type: ignore[attr-defined]
        db.event.listen(engine, "before_cursor_execute", count)
        assert run(instance, f"{asset}_{len(months)}", months).success
        db.event.remove(engine, "before_cursor_execute", count)
        counted.append(len(statements))
    assert counted[0] == counted[1]


def test_a_step_reads_what_it_told(instance: dg.DagsterInstance, asset: str) -> None:
    """Whoever asks the same instance sees every event, also those that nobody stored yet."""
    seen: list[Any] = []
    run(
        instance,
        asset,
        MONTHS[:3],
        lambda c: seen.append(c.instance.get_latest_materialization_event(dg.AssetKey(asset))),
    )
    assert seen[0].asset_materialization.partition == MONTHS[2]


def test_events_are_there_when_a_step_has_failed(instance: dg.DagsterInstance, asset: str) -> None:
    """What is published and told must not vanish with what failed after it."""

    def fail(_: Any) -> None:
        raise dg.Failure("as told", allow_retries=False)

    failed = run(instance, asset, MONTHS[:3], fail)
    assert not failed.success
    assert materializations(asset) == 3 + 3
    assert kinds_of_run(failed.run_id)[-3:] == [("STEP_FAILURE",), ("ENGINE_EVENT",), ("PIPELINE_FAILURE",)]


def test_events_are_there_before_the_step_ends(
    instance: dg.DagsterInstance, asset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next step plans from them, perhaps in another process."""
    seen: list[int] = []
    store = EventBatches.store_event

    def watched(self: EventBatches, event: Any) -> None:
        if event.is_dagster_event and event.dagster_event.is_step_success:
            seen.append(materializations(asset))
        store(self, event)

    monkeypatch.setattr(EventBatches, "store_event", watched, raising=False)
    assert run(instance, asset, MONTHS[:3]).success
    assert seen == [3 + 3]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["store_event_batch", "_store_asset_events", "_store_evaluations"])
def test_events_without_answer_are_stored_once(
    instance: dg.DagsterInstance, asset: str, monkeypatch: pytest.MonkeyPatch, name: str, when: str
) -> None:
    """A connection that is lost at any moment leaves neither none nor two of them."""
    original: Callable[..., Any] = getattr(EventBatches, name)
    lost: list[bool] = []

    def losing(*args: Any, **kwargs: Any) -> Any:
        if when == "after":
            result = original(*args, **kwargs)
        if not lost:
            lost.append(True)
            origin = psycopg2.OperationalError("server closed the connection unexpectedly\n")
            raise sqlalchemy.exc.OperationalError("insert into event_logs", {}, origin)
        return result if when == "after" else original(*args, **kwargs)

    instance.event_log_storage.has_asset_key(dg.AssetKey(asset))
    monkeypatch.setattr(EventBatches, name, losing)
    assert run(instance, asset, MONTHS[:3]).success
    assert lost
    events, tags, checks, newest = everything(asset)
    told = [partition for kind, _, partition in events if kind == "ASSET_MATERIALIZATION"]
    assert told == sorted(MONTHS[:3] * 2)
    assert [value for _, _, value in tags][:3] == [f"v{m}" for m in MONTHS[:3]]
    assert len(tags) == 3 + 3
    assert sorted(row[:3] for row in checks) == [
        (check, month, "FAILED" if (month, check) == (MONTHS[1], CHECKS[1]) else "SUCCEEDED")
        for check in CHECKS
        for month in MONTHS[:3]
    ]
    assert newest == [(MONTHS[2], MONTHS[2], True)]
