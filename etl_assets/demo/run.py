"""The main job: stack, source, every layer through Dagster, and what came out. No side path around Dagster."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl_assets.demo.crm import CRM_URL, create_crm
from etl_assets.demo.erp import create_erp
from etl_assets.demo.rates_server import rates_companion
from etl_assets.demo.summary import kpi_rows, layer_rows
from etl_assets.graph.jobs import ALL_LAYERS
from etl_assets.graph.step_failures import step_failure
from etl_resources.calendar import WHOLE, keys_between, last_keys
from etl_resources.conventions import bucket_name
from etl_resources.errors import PermanentError
from etl_resources.settings import load_settings, resolve_secret
from etl_resources.sizes import SizeChoice, check_size

if TYPE_CHECKING:
    import dagster as dg

    from etl_assets.project import Project

Progress = Callable[[str], None]
SEARCH = "elasticsearch."
"""What names of targets in Elasticsearch begin with."""


@dataclass
class DemoResult:
    """What `data-pipeline demo` ends with. Seconds by stage; rows by table."""

    scale: float
    partitions: int
    run_id: str = ""
    success: bool = False
    rows: Mapping[str, int] = field(default_factory=dict)
    published: int = 0
    unchanged: int = 0
    pruned: int = 0
    proofs: Sequence[str] = ()
    rejected: Sequence[Mapping[str, Any]] = ()
    """asset, reason and rows of the dead letters that stand now."""
    left_out: Sequence[str] = ()
    """Targets whose server isn't there: everything else ran."""
    kpi: Sequence[Mapping[str, Any]] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    ui_url: str | None = None
    errors: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """For scripts; decimals as text."""
        return asdict(self)


def run_demo(
    *, scale: float, months: int, ui: bool, recreate_source: bool, project_dir: Path, progress: Progress
) -> DemoResult:
    """Bring everything up, create the source, materialize the last `months` partitions of every asset."""
    from etl_assets.project import load_project
    from etl_resources import stack
    from etl_resources.stack.dagster_servers import PROJECT_FILES, require_project

    started = time.monotonic()
    require_project(project_dir, PROJECT_FILES if ui else PROJECT_FILES[:1])
    project = load_project()
    calendar = project.platform.calendar
    keys = keys_between(calendar.start, calendar.end)
    if not 1 <= months <= len(keys):
        raise PermanentError(f"--months {months} is not between 1 and {len(keys)} ({calendar.start} … {calendar.end}).")
    wanted = last_keys(keys, months)
    settings = load_settings()
    if settings.size:
        check_size(project.platform, settings.size, "--size or ETL_SIZE")
    bucket = settings.s3_bucket or bucket_name(project.platform.etl_resource_prefix, settings.account)
    status = stack.up(
        settings,
        bucket=bucket,
        project_dir=project_dir,
        ui=ui,
        progress=progress,
        companions=[rates_companion(settings.home)],
    )
    result = DemoResult(scale=scale, partitions=months, ui_url=status.ui_url)
    result.seconds["servers"] = _since(started)
    started = time.monotonic()
    erp = create_erp(
        resolve_secret("env:ERP_ADMIN_DSN"),
        scale=scale,
        work_dir=settings.home / "tmp",
        progress=progress,
        recreate=recreate_source,
    )
    crm = create_crm(
        resolve_secret(f"env:{CRM_URL}"),
        scale=scale,
        work_dir=settings.home / "tmp",
        progress=progress,
        recreate=recreate_source,
    )
    result.seconds["sources"] = _since(started)
    result.rows = {**{f"erp.{table}": rows for table, rows in erp.rows.items()}, "crm.customers": crm.rows}
    if not load_settings().elasticsearch_url:
        result.left_out = [node.name for node in project.serving if node.name.startswith(SEARCH)]
    _materialize(result, project, wanted, project_dir)
    return result


def _materialize(result: DemoResult, project: "Project", wanted: Sequence[str], project_dir: Path) -> None:
    import dagster as dg

    from etl_assets.definitions import build_definitions
    from etl_assets.graph.keys import serving_key
    from etl_resources.dead_letters.index import rejected_by_reason
    from etl_resources.ledger.ledger import Ledger
    from etl_resources.stack.dagster_servers import write_dagster_home

    os.environ.setdefault("DAGSTER_HOME", str(write_dagster_home(load_settings().home, project_dir)))
    definitions = build_definitions(project)
    job = definitions.resolve_job_def(ALL_LAYERS)
    left_out = {serving_key(name) for name in result.left_out}
    started = time.monotonic()
    with dg.DagsterInstance.get() as instance:
        run = job.execute_in_process(
            instance=instance,
            raise_on_error=False,
            asset_selection=sorted(definitions.resolve_asset_graph().executable_asset_keys - left_out),
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags={
                "dagster/asset_partition_range_start": wanted[0],
                "dagster/asset_partition_range_end": wanted[-1],
                "data-pipeline/demo": "true",
                **SizeChoice(load_settings().size).tags,
            },
        )
        result.run_id, result.success = run.run_id, run.success
        _read_events(result, run)
    result.seconds["all layers"] = _since(started)
    settings = load_settings()
    with Ledger.open(settings) as ledger:
        result.rows = {**result.rows, **layer_rows(ledger.connection, [*wanted, WHOLE])}
        dead_letters = rejected_by_reason(ledger.connection)
        result.rejected = [{"asset": a, "reason": r, "rows": n} for (a, r), n in dead_letters.items()]
        if run.success:
            result.kpi = kpi_rows(ledger.connection)


def _read_events(result: DemoResult, run: "dg.ExecuteInProcessResult") -> None:
    """Counts and seconds from the run's own events: what the web UI shows as well."""
    statuses: dict[tuple[str, str], str] = {}
    proofs: dict[str, str] = {}
    errors = []
    for event in run.all_events:
        if event.is_step_success and event.step_key:
            milliseconds = event.step_success_data.duration_ms
            result.seconds[event.step_key.replace("__", ".")] = round(milliseconds / 1000, 1)
        if event.is_step_failure:
            errors.append(step_failure(event))
        if event.event_type_value == "ASSET_MATERIALIZATION":
            made = event.step_materialization_data.materialization
            if "status" in made.metadata:
                name = ".".join(made.asset_key.path)
                statuses[name, made.partition or WHOLE] = str(made.metadata["status"].value)
                if "proof" in made.metadata:
                    proofs[name] = str(made.metadata["proof"].value)
    found = list(statuses.values())
    result.published = found.count("published")
    result.unchanged = found.count("unchanged")
    result.pruned = found.count("pruned")
    result.proofs = [f"{name}: {proof}" for name, proof in sorted(proofs.items())]
    result.errors = errors


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)
