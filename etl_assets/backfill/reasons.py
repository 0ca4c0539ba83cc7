"""Why a partition is out of date, in words and as JSON."""

from collections.abc import Sequence
from typing import Any

from etl_resources.calendar import WHOLE
from etl_resources.ledger.state import Place
from etl_resources.verdicts import Change, ChangeKind

SHOWN = 3


def place_of(asset: str, partition: str) -> str:
    """E.g. silver.sales_orders 2024-05; a table without partitions by its name alone."""
    return asset if partition == WHOLE else f"{asset} {partition}"


def told(change: Change, seen_from: str = "") -> str:
    """One change, e.g. silver.sales_orders 2024-05: content changed. seen_from: the period that goes unsaid."""
    if change.kind is ChangeKind.LOGIC:
        return str(change.kind)
    place = change.asset if change.partition == seen_from else place_of(change.asset, change.partition)
    return f"{place}: {change.kind}"


def places(found: Sequence[Place], seen_from: str = "") -> str:
    """By asset, the first few partitions and how many more; the same period goes unsaid."""
    by_asset: dict[str, list[str]] = {}
    for asset, partition in found:
        by_asset.setdefault(asset, []).append(partition)
    return ", ".join(_of_asset(a, p, seen_from) for a, p in by_asset.items())


def _of_asset(asset: str, partitions: Sequence[str], seen_from: str) -> str:
    if list(partitions) in ([seen_from], [WHOLE]):
        return asset
    more = f" and {len(partitions) - SHOWN} more" if len(partitions) > SHOWN else ""
    return f"{asset} {', '.join(partitions[:SHOWN])}{more}"


def change_json(change: Change) -> dict[str, Any]:
    """For scripts."""
    return {
        "kind": change.kind.value,
        "asset": change.asset,
        "partition": change.partition,
        "before": {"version": change.before.version, "epoch": change.before.epoch} if change.before else None,
        "after": {"version": change.after.version, "epoch": change.after.epoch} if change.after else None,
    }
