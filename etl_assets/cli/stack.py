"""`up`, `down` and `status`: the servers behind the platform."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from etl_assets.cli.recover import tell_settled
from etl_resources.conventions import bucket_name
from etl_resources.settings import Settings, load_settings

if TYPE_CHECKING:
    from etl_resources.stack import StackStatus
    from etl_resources.stack.companion import Companion
    from etl_resources.stack.state import SparkShape

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print everything as JSON, with passwords: for your own eyes only.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command()(up)
    app.command()(down)
    app.command()(status)


def up(
    ui: Annotated[bool, typer.Option(help="Also start Dagster's web server and daemon.")] = True,
    search: Annotated[bool, typer.Option(help="Also start Elasticsearch, where there is Java 17 or newer.")] = True,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Also serve metrics for Prometheus, from now on at every `up`.")
    ] = False,
    spark: Annotated[
        int | None,
        typer.Option(
            min=0, help="Also start a Spark master with this many workers, from now on at every `up`; 0: no longer."
        ),
    ] = None,
    spark_memory_mb: Annotated[
        int | None,
        typer.Option(min=512, help="Memory of each Spark worker; by default what the largest of `sizes` asks for."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start the servers (Postgres, S3, Elasticsearch, Dagster) and wait until they are usable. Harmless to repeat."""
    from etl_resources import stack

    settings = load_settings()
    state = stack.up(
        settings,
        bucket=_bucket(settings),
        project_dir=Path.cwd(),
        ui=ui,
        search=search,
        companions=_companions(metrics),
        spark=_spark(spark, spark_memory_mb),
        progress=_tell,
    )
    tell_settled()
    _show(state, as_json)


def _companions(metrics: bool) -> "list[Companion]":
    from etl_assets.metrics_server import metrics_companion

    return [metrics_companion()] if metrics else []


def _spark(workers: int | None, memory_mb: int | None) -> "SparkShape | Literal['none'] | None":
    from etl_resources.stack.state import SparkShape

    if workers is None and memory_mb is not None:
        raise typer.BadParameter("--spark-memory-mb is the memory of each worker of --spark N: give both.")
    if not workers:
        return None if workers is None else "none"
    sizes = _platform_file()["sizes"].values()
    largest = max((size["spark"]["memory_mb"] for size in sizes if "spark" in size), default=1024)
    cores = -(-(os.cpu_count() or 1) // workers)
    return SparkShape(workers=workers, cores=cores, memory_mb=memory_mb or largest)


def down() -> None:
    """Stop the servers that `up` started here. Data and passwords stay."""
    from etl_resources import stack

    stack.down(load_settings(), _tell)


def status(as_json: JsonOption = False) -> None:
    """Show every server and its health; exit code 1 when something is down."""
    from etl_resources import stack

    settings = load_settings()
    state = stack.status(settings, bucket=_bucket(settings))
    _show(state, as_json)
    if not state.healthy:
        raise typer.Exit(1)
    if not as_json:
        _show_trouble(settings)


def _show_trouble(settings: Settings) -> None:
    from etl_assets.automation.stuck import find_trouble

    if lines := find_trouble(settings).lines():
        print(f"{len(lines)} partitions or sources need somebody: `data-pipeline stuck`")


def _bucket(settings: Settings) -> str:
    return settings.s3_bucket or bucket_name(str(_platform_file()["etl_resource_prefix"]), settings.account)


def _platform_file() -> dict[str, Any]:
    import yaml

    from etl_assets.project import project_folder

    content: dict[str, Any] = yaml.safe_load((project_folder() / "platform.yaml").read_text())
    return content


def _show(state: "StackStatus", as_json: bool) -> None:
    if as_json:
        print(state.model_dump_json(indent=2))
        return
    for line in state.lines():
        print(line)
    if state.ui_url:
        print(f"web UI: {state.ui_url}")


def _tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
