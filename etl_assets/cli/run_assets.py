"""A run of an asset and its dependants in this process, under the project's own Dagster instance."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg

    from etl_assets.graph.runtime import Runtime


Done = tuple[str, Sequence[str]]
"""Run id and errors."""


def runner(runtime: "Runtime", tag: str) -> Callable[[str, str, str], Done]:
    """Runs (asset, first, last partition) with all that depends on the asset. tag: as of `asset_runner`."""
    from etl_assets.graph.keys import table_key

    run = asset_runner(runtime, tag)

    def run_downstream(asset: str, first: str, last: str) -> Done:
        import dagster as dg

        return run(dg.AssetSelection.keys(table_key(asset)).downstream(), asset, first, last)

    return run_downstream


def asset_runner(runtime: "Runtime", tag: str) -> Callable[["dg.AssetSelection", str, str, str], Done]:
    """Runs (selection, value of the run's tag, first, last partition).

    Without Elasticsearch (no Java on a laptop) its targets are left out, as the demo does; and so are assets with
    partitions of another grain, which the reconcile sensor makes follow.
    """
    import os
    from pathlib import Path

    import dagster as dg

    from etl_assets.definitions import build_definitions
    from etl_assets.graph.jobs import job_of
    from etl_assets.graph.keys import serving_key
    from etl_assets.graph.step_failures import step_failure
    from etl_resources.manifest_targets import ElasticsearchTarget
    from etl_resources.stack.dagster_servers import write_dagster_home

    definitions = build_definitions(runtime.project)
    graph = definitions.resolve_asset_graph()
    os.environ.setdefault("DAGSTER_HOME", str(write_dagster_home(runtime.settings.home, Path.cwd())))
    left_out: set[dg.AssetKey] = set()
    if not runtime.settings.elasticsearch_url:
        left_out = {serving_key(n.name) for n in runtime.project.serving if isinstance(n.target, ElasticsearchTarget)}

    def run(selection: dg.AssetSelection, told: str, first: str, last: str) -> Done:
        job = definitions.resolve_job_def(job_of(first))
        in_job = graph.executable_asset_keys & set(job.asset_layer.executable_asset_keys)
        wanted = sorted((selection.resolve(graph) & in_job) - left_out)
        if not wanted:
            return "", []
        with dg.DagsterInstance.get() as instance:
            done = job.execute_in_process(
                instance=instance,
                raise_on_error=False,
                asset_selection=wanted,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                tags={
                    "dagster/asset_partition_range_start": first,
                    "dagster/asset_partition_range_end": last,
                    tag: told,
                },
            )
        return done.run_id, [step_failure(e) for e in done.all_events if e.is_step_failure]

    return run
