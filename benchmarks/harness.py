"""What every benchmark shares: a project on the embedded stack with an ERP of the wanted scale, and saved results."""

import json
import platform
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from etl_assets.demo.erp import create_erp
from etl_assets.graph.runtime import Runtime
from etl_assets.project import load_project
from etl_resources import stack
from etl_resources.settings import load_settings, resolve_secret

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Result:
    """Figures of one benchmark, by name with unit."""

    name: str
    figures: dict[str, Any]


def bench_project(scale: float) -> Runtime:
    """The stack is up and its ERP has this scale; whatever ERP the demo made before is replaced."""
    runtime = Runtime(load_project())
    stack.up(load_settings(), bucket=runtime.bucket, project_dir=Path.cwd(), ui=False, search=False, progress=tell)
    create_erp(
        resolve_secret("env:ERP_ADMIN_DSN"),
        scale=scale,
        work_dir=load_settings().home / "tmp",
        progress=tell,
        recreate=True,
    )
    return Runtime(runtime.project)


def peak_rss_mb() -> int:
    """Highest resident memory of this process since its program began.

    Not ru_maxrss: a new process takes over that of the one which started it.
    """
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024


def save(result: Result) -> None:
    """Print the figures and append them to results/<name>.jsonl with date and machine."""
    RESULTS.mkdir(exist_ok=True)
    line = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {len_cpus()} cores, Python {platform.python_version()}",
        **result.figures,
    }
    with (RESULTS / f"{result.name}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    for name, value in line.items():
        print(f"{name:<28}{value}")


def len_cpus() -> int:
    """Cores that this process may use."""
    import os

    return len(os.sched_getaffinity(0))


def tell(text: str) -> None:
    """Progress on stderr."""
    print(f"· {text}", file=sys.stderr, flush=True)
