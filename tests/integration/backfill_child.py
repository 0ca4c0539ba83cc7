"""A command of the console script in a process of its own, which may be killed at a failpoint."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etl_resources import failpoints
from tests.fault.driver import become


def run_command(
    arguments: Sequence[str], points: Sequence[Mapping[str, Any]], environment: Mapping[str, str], stem: Path
) -> None:
    """The process's body."""
    become({**environment, failpoints.SETTING: json.dumps(points)}, stem.with_suffix(".log"))
    from etl_assets.cli.main import app

    app(list(arguments))
