"""The demo, published once: what tests of reading verbs look at. Ask for it with pytest_plugins.

pytest_plugins = ["tests.lake", "tests.integration.published"]
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.lake import PROJECT_DIR, Lake

FIRST, LAST = "2023-08", "2026-07"
CLI = [sys.executable, "-c", "from etl_assets.cli.main import main; main()"]


@dataclass(frozen=True)
class PublishedDemo:
    """All layers of all 36 months at TPC-H scale 0.01. Tests restore what they change."""

    lake: Lake

    def cli(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`data-pipeline …` in a process of its own, to its end."""
        with self.lake.environment():
            return subprocess.run(
                [*CLI, *arguments], cwd=PROJECT_DIR, env=dict(os.environ), capture_output=True, text=True,
                timeout=120, check=False,
            )  # fmt: skip


@pytest.fixture(scope="session")
def published_demo(make_lake: Callable[[], Lake]) -> PublishedDemo:
    """Published once per session; its Runtime is `published_demo.lake.runtime`."""
    lake = make_lake()
    run = lake.materialize(FIRST, LAST)
    assert run.success, run.error
    return PublishedDemo(lake)
