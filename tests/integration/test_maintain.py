"""Maintenance of a whole project: nobody downstream notices, by command and by the scheduled job."""

import json
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from etl_assets.automation.maintenance_schedule import MAINTENANCE
from etl_assets.cli.main import app
from etl_assets.definitions import build_definitions
from etl_assets.verify import verify
from etl_resources.errors import PermanentError
from etl_resources.tables.head import read_head
from tests.invariants import prove_whole
from tests.lake import QUIET, Lake

pytest_plugins = ["tests.lake"]

FIRST, LAST = "2024-01", "2024-02"
BRONZE = "bronze.sales_lines"
EAGER = {"ETL_MAINTAIN_KEEP_VERSIONS": "1", "ETL_MAINTAIN_KEEP_DAYS": "0", "ETL_MAINTAIN_GUARD_S": "0"}
"""Keep nothing but what is current: what survives survives by a rule, not by its age."""


@pytest.fixture(scope="module")
def published(module_lake: Lake) -> Lake:
    """Two months in every layer, the first one published twice: its order lines of the second time are an alias."""
    assert module_lake.materialize(FIRST, LAST).success
    module_lake.erp(
        "update erp.orders set ship_priority = ship_priority + 1, updated_at = now() where order_id = "
        "(select min(order_id) from erp.orders where to_char(order_date, 'YYYY-MM') = %s)",
        FIRST,
    )
    assert module_lake.materialize(FIRST, LAST).success
    return module_lake


def files(lake: Lake, asset: str) -> dict[str, int]:
    table = lake.runtime.store.catalog.load_table(lake.runtime.addresses[asset].identifier)
    return {p: len(h.files) for p, h in read_head(table).items()}


def command(lake: Lake, *arguments: str) -> dict[str, Any]:
    """What `data-pipeline maintain … --json` prints."""
    with lake.environment(**EAGER):
        result = CliRunner().invoke(app, ["maintain", "--json", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    assert told["failed"] == {}
    return told


def prove_unnoticed(lake: Lake) -> None:
    """verify rereads everything; a run finds nothing to do."""
    assert verify(lake.runtime, (), (), lambda _: None).equal
    prove_whole(lake)
    run = lake.materialize(FIRST, LAST)
    assert {s for partitions in run.statuses.values() for s in partitions.values()} == {"pruned"}


def test_the_command_compacts_expires_and_deletes_unnoticed(published: Lake) -> None:
    """A dry run tells the same and does nothing; the second time there is nothing to do."""
    assert files(published, BRONZE) == {FIRST: 2, LAST: 1}
    told = command(published, "--dry-run", BRONZE)
    assert [t["compacted"] for t in told["tables"]] == [{FIRST: 2}]
    assert told["events"] is None
    assert files(published, BRONZE) == {FIRST: 2, LAST: 1}

    done = {t["asset"]: t for t in command(published)["tables"]}

    assert set(done) == set(published.runtime.addresses)
    assert done[BRONZE]["compacted"] == {FIRST: 2}
    assert files(published, BRONZE) == {FIRST: 1, LAST: 1}
    assert all(t["snapshots_expired"] and t["metadata_files"] for t in done.values())
    prove_unnoticed(published)
    assert command(published)["events"] == {"runs_deleted": 0, "runs_kept": 0}
    assert [t["compacted"] for t in command(published)["tables"]] == [{}] * len(done)


def test_the_scheduled_job_does_the_same(published: Lake) -> None:
    """It is on from the start, and needs no input."""
    definitions = build_definitions()
    (schedule,) = [s for s in definitions.schedules or () if s.name == "daily_maintenance"]
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    with published.environment(**EAGER), dg.DagsterInstance.ephemeral() as instance:
        result = build_definitions().resolve_job_def(MAINTENANCE).execute_in_process(
            instance=instance, run_config=QUIET, raise_on_error=False
        )  # fmt: skip
    assert result.success, [e.message for e in result.all_events if e.is_failure]
    prove_unnoticed(published)


def test_an_unknown_table_is_named_with_the_valid_ones(published: Lake) -> None:
    """A typing error must not look like a table without work."""
    with pytest.raises(PermanentError, match=r"Unknown table 'gdp.sales'.*gdp.gdp_sales"):
        command(published, "gdp.sales")
