"""The commands as a person types them, against everything published: nothing but their output is looked at first."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from etl_assets.cli.main import app
from etl_resources.errors import PermanentError
from tests.invariants import prove_serving, prove_tables
from tests.lake import PROJECT_DIR, Lake

pytest_plugins = ["tests.lake"]

MONTH = "2024-03"
GDP = "gdp.gdp_sales"


@pytest.fixture(scope="module")
def lake(module_lake: Lake) -> Lake:
    """One month in two versions: the second has other prices."""
    first = module_lake.materialize(MONTH)
    assert first.success, first.error
    module_lake.erp(
        "update erp.order_lines l set extended_price = extended_price + 100 from erp.orders o "
        "where o.order_id = l.order_id and to_char(o.order_date, 'YYYY-MM') = %s and l.line_number = 1",
        MONTH,
    )
    second = module_lake.materialize(MONTH)
    assert second.success, second.error
    return module_lake


def run(lake: Lake, command: str) -> str:
    """What a command prints. Raises what it raises."""
    with lake.environment():
        result = CliRunner().invoke(app, shlex.split(command), catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def read(lake: Lake, command: str) -> Any:
    return json.loads(run(lake, f"{command} --json"))


def test_versions_are_listed_compared_and_named(lake: Lake) -> None:
    """What an auditor asks: which versions are there, what changed between them, and keep this one."""
    newest, first = read(lake, f"versions {GDP}")["versions"]
    assert (newest["number"], newest["current"], list(newest["partitions"])) == (2, True, [MONTH])
    assert first["rows"] == newest["rows"] == lake.rows("gdp/gdp_sales", "count(*)")[0][0]
    ((lines,),) = lake.erp(
        "select count(*) from erp.order_lines join erp.orders using (order_id) "
        "where to_char(order_date, 'YYYY-MM') = %s and line_number = 1",
        MONTH,
    )
    found = read(lake, f"diff {GDP} 1 current --limit 1")
    assert found["partitions"] == [
        {"partition": MONTH, "added": 0, "removed": 0, "changed": lines, "equal": newest["rows"] - lines}
    ]
    assert found["rows_left_out"] == lines - 1
    assert set(found["rows"][0]["key"]) == {"order_id", "line_number"}
    assert f"~ {MONTH}  order_id " in run(lake, f"diff {GDP} 1 2")

    assert "would name version 1" in run(lake, f"release {GDP} --as close --version 1 --dry-run")
    assert read(lake, f"versions {GDP}")["versions"][1]["releases"] == []
    run(lake, f"release {GDP} --as close --version 1")
    assert "close" in run(lake, f"versions {GDP}")
    with pytest.raises(PermanentError, match=r"Unknown table 'gdp.gdp_sale'; did you mean 'gdp.gdp_sales'"):
        run(lake, "versions gdp.gdp_sale")
    with pytest.raises(PermanentError, match=r"is served from kpi\.kpi_net_revenue"):
        run(lake, "versions postgres.analytics.kpi_net_revenue")


def test_a_rollback_is_shown_pinned_and_followed_by_the_printed_command(lake: Lake) -> None:
    """The printed command is the next thing that somebody types: it must be right to the letter."""
    served = lake.published_kpi(MONTH)
    dry = read(lake, f"rollback {GDP} --to close --dry-run")
    assert (dry["dry_run"], dry["version"], list(dry["partitions"])) == (True, None, [MONTH])
    assert read(lake, "pins") == []
    assert len(read(lake, f"versions {GDP}")["versions"]) == 2

    done = read(lake, f"rollback {GDP} --to close --reason 'prices are disputed'")

    assert (done["from"], done["to"], done["version"], done["stuck"]) == (2, 1, 3, [])
    assert done["stale"] == {"kpi.kpi_net_revenue": [MONTH], "postgres.analytics.kpi_net_revenue": [MONTH]}
    (pin,) = read(lake, "pins")
    assert (pin["table"], pin["partition"], pin["version"], pin["reason"]) == (GDP, MONTH, 1, "prices are disputed")
    assert "rollback to 1" in run(lake, f"versions {GDP}")
    event = newest_event(lake, GDP)
    ((version,),) = lake.platform("select version from etl.current_versions where asset = %s", GDP)
    assert (event.tags or {})["dagster/data_version"] == version
    assert event.metadata["status"].value == "rolled_back"
    columns = event.metadata["dagster/column_lineage"].value.deps_by_column  # as the event before it
    assert columns["quantity"] == [dg.TableColumnDep(dg.AssetKey(["silver", "sales_lines"]), "quantity")]
    assert "nothing to do" in run(lake, f"rollback {GDP} --to 1")

    (command,) = done["commands"]
    with lake.environment():
        program, *arguments = shlex.split(command)
        followed = subprocess.run(
            [str(Path(sys.executable).with_name(program)), *arguments],
            cwd=PROJECT_DIR, env={**os.environ, "DAGSTER_HOME": str(lake.home / "dagster")}, capture_output=True,
            text=True, timeout=240, check=False,
        )  # fmt: skip
    assert followed.returncode == 0, followed.stderr[-3000:]
    assert lake.published_kpi(MONTH) != served
    prove_tables(lake)
    prove_serving(lake)

    assert "unpinned" in run(lake, f"unpin {GDP}")
    assert lake.materialize(MONTH).success
    assert lake.published_kpi(MONTH) == served == lake.oracle(MONTH)


def newest_event(lake: Lake, asset: str) -> dg.AssetMaterialization:
    with lake.environment(DAGSTER_HOME=str(lake.home / "dagster")), dg.DagsterInstance.get() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(asset.split(".")))
    assert event is not None
    assert event.asset_materialization is not None
    return event.asset_materialization
