"""A companion process of the stack, on the one that there is: the demo's rates server."""

import subprocess
import sys
from typing import Any

import httpx

from tests.integration.stack_project import BUCKET, Project, kill, pids, processes

UP_WITH_RATES = """
import sys
from pathlib import Path
from etl_assets.demo.rates_server import rates_companion
from etl_resources import stack
from etl_resources.settings import load_settings

settings = load_settings()
rates = rates_companion(settings.home)
stack.up(settings, bucket=sys.argv[1], project_dir=Path.cwd(), ui=False, search=False, companions=[rates])
"""


def up_with_rates(project: Project, **environment: str) -> None:
    command = [sys.executable, "-c", UP_WITH_RATES, BUCKET]
    done = subprocess.run(command, cwd=project.folder, env=project.environment(**environment), capture_output=True,
                          text=True, timeout=180, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


def rates(project: Project, target: str) -> Any:
    return httpx.get(f"{project.state['secrets']['RATES_URL']}{target}", timeout=10).raise_for_status().json()


def test_a_companion_lives_as_long_as_the_stack(project: Project) -> None:
    """Started once with the demo, it must be there after every later `up`, at the same address, until `down`."""
    project.up()
    assert "RATES_URL" not in project.state["secrets"]  # nothing of it without the demo
    assert "rates" not in project.state["servers"]
    up_with_rates(project)
    address, first = project.state["secrets"]["RATES_URL"], pids(project)["rates"]
    assert "2024-05-31" in rates(project, "/v1/2024-05-31..2024-05-31")["rates"]
    (project.home / "demo" / "rates.csv").write_text("2024-05-31,RUB,98.75\n")
    assert rates(project, "/v1/2024-05-31")["rates"]["RUB"] == 98.75
    kill(first)
    shown = project.run("status")
    assert shown.returncode == 1
    assert "rates" in shown.stdout
    status = project.up()
    assert {s["name"]: s["healthy"] for s in status["servers"]} == {"postgres": True, "s3": True, "rates": True}
    assert project.state["secrets"]["RATES_URL"] == address
    assert rates(project, "/v1/2024-05-31")["rates"]["RUB"] == 98.75
    assert project.run("down").returncode == 0
    assert processes(project.home, "rates") == []


def test_an_address_in_the_environment_replaces_a_companion(project: Project) -> None:
    """Who names the public service must not be answered by the local one, nor get a process that nobody asks."""
    up_with_rates(project, RATES_URL="https://api.frankfurter.dev")
    assert processes(project.home, "rates") == []
    assert "RATES_URL" not in project.state["secrets"]
