"""Tell Dagster what a command published outside of any run."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg

    from etl_assets.graph.runtime import Runtime


def tell(runtime: "Runtime", name: str, body: "Callable[[dg.DagsterInstance], int]") -> None:
    """Under the project's own instance. What was committed stands without it: the next run tells Dagster as well."""
    import dagster as dg

    from etl_resources.stack.dagster_servers import write_dagster_home

    os.environ.setdefault("DAGSTER_HOME", str(write_dagster_home(runtime.settings.home, Path.cwd())))
    try:
        with dg.DagsterInstance.get() as instance:
            body(instance)
    except Exception as e:  # noqa: BLE001  (whatever Dagster's storage raises: the data is committed)
        print(f"Dagster was not told ({e}); its next run of {name} does it.", file=sys.stderr)
