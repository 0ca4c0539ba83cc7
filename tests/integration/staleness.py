"""What Dagster's web UI would call out of date."""

from collections.abc import Sequence

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from etl_assets.definitions import build_definitions
from tests.lake import Lake, instance


def stale(lake: Lake, asset: str, partitions: Sequence[str]) -> set[str]:
    """Of these partitions of an asset, those that are stale."""
    with lake.environment():
        graph = build_definitions().resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance(), graph, LoadingContextForTest(instance()))
    key = dg.AssetKey(asset.split("/"))
    return {p for p in partitions if resolver.get_status(key, p) == StaleStatus.STALE}
