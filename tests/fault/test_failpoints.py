"""Failpoints: each has a call and a fault test, none acts unless a test asks for it, and nothing else can ask."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from etl_resources import failpoints
from etl_resources.failpoints import FAILPOINTS, SETTING
from etl_resources.settings import Settings
from tests.fault.scenarios import ACCEPTANCE, BACKFILL, CLOSING, DELIVERED, REPLAY, SCENARIOS, SPARK
from tests.fault.search_points import SEARCH_POINTS

ROOT = Path(__file__).parents[2]


def calls() -> set[str]:
    """Names that the product passes to failpoint(); a name that isn't a literal fails here."""
    found = set()
    for path in [*(ROOT / "etl_assets").rglob("*.py"), *(ROOT / "etl_resources").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint":
                name = node.args[0]
                assert isinstance(name, ast.Constant), f"{path}:{node.lineno}: the name must be a literal"
                found.add(str(name.value))
    return found


def test_every_failpoint_is_called() -> None:
    """A name without a call would be a fault test that never tests anything."""
    assert calls() == set(FAILPOINTS)


def test_every_failpoint_has_a_fault_test() -> None:
    """Points of test_crashes.py, test_delivered.py (delivered sources), test_search_crashes.py (Elasticsearch),
    test_acceptance_crashes.py, test_backfill_daemon.py, test_closing_crashes.py, test_replay_crashes.py,
    test_spark_cluster.py (in an executor)."""
    points = {*SCENARIOS, *DELIVERED, *SEARCH_POINTS, *ACCEPTANCE, *BACKFILL, *CLOSING, *REPLAY, *SPARK}
    assert points == set(FAILPOINTS)


def in_a_process(code: str, points: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", f"from etl_resources.failpoints import failpoint\n{code}\nprint('survived')"],
        env={"PYTHONPATH": str(ROOT), SETTING: points if isinstance(points, str) else json.dumps(points)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_one_of_many_processes_acts_once(tmp_path: Path) -> None:
    """A task that runs again in another executor must come through."""
    reached = tmp_path / "there"
    point = {"point": "spark.files_written", "action": "kill", "reached": str(reached), "once": True}
    call = "failpoint('spark.files_written', 'a folder')\n"

    assert in_a_process(call, [point]).returncode == -9
    first = reached.read_text()
    assert "survived" in in_a_process(call, [point]).stdout
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
    assert reached.read_text() == first


def test_a_failpoint_acts_at_the_nth_matching_call(tmp_path: Path) -> None:
    """A schedule must be able to say: the second table, not the first."""
    point = {"point": "stage.committed", "match": "gdp", "nth": 2, "action": "kill", "reached": str(tmp_path / "there")}
    call = "failpoint('stage.committed', 'gdp_sales')\n"
    other = "failpoint('stage.committed', 'silver')\nfailpoint('publish.proved', 'gdp_sales')\n"

    once, twice = in_a_process(call + other, [point]), in_a_process(call + other + call, [point])

    assert "survived" in once.stdout, once.stderr
    assert twice.returncode == -9
    assert (tmp_path / "there").exists()


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ({"point": "stage.commited", "action": "kill"}, "no failpoint 'stage.commited'"),
        ({"point": "stage.committed", "action": "explode"}, "no action 'explode'"),
        ({"point": "stage.committed", "action": "stop"}, "`reached`"),
    ],
)
def test_a_wrong_setting_is_refused(point: dict[str, str], words: str) -> None:
    """A mistyped name would pass as a test that found nothing."""
    done = in_a_process("failpoint('stage.committed')", [point])

    assert done.returncode == 1
    assert words in done.stderr


def test_a_call_with_an_unknown_name_is_refused() -> None:
    """Also when nothing is armed."""
    with pytest.raises(ValueError, match="no failpoint 'nowhere'"):
        failpoints.failpoint("nowhere")


def test_no_setting_of_the_platform_arms_a_failpoint() -> None:
    """Neither a manifest nor stack.json may kill a run: the variable is no field of Settings."""
    readers = [
        p.relative_to(ROOT) for folder in ("etl_assets", "etl_resources") for p in (ROOT / folder).rglob("*")
        if p.suffix in (".py", ".yaml", ".json", ".sql") and SETTING in p.read_text()
    ]  # fmt: skip

    assert SETTING.removeprefix("ETL_").lower() not in Settings.model_fields
    assert readers == [Path("etl_resources/failpoints.py")]
