"""Why a partition is out of date, in words and as JSON."""

from typing import Any

from etl_resources.calendar import WHOLE
from etl_resources.closure import Change, ChangeKind
from etl_resources.ledger.state import Place

SHOWN = 3


def place_of(asset: str, partition: str) -> str:
    """E.g. silver.sales_orders 2024-05; a table without partitions by its name alone."""
    return asset if partition == WHOLE else f"{asset} {partition}"


def told(change: Change) -> str:
    """One change in words, e.g. silver.sales_orders 2024-05: content changed."""
    if change.kind is ChangeKind.LOGIC:
        return str(change.kind)
    return f"{place_of(change.asset, change.partition)}: {change.kind}"


def places(found: list[Place]) -> str:
    """The first few, and how many more."""
    shown = ", ".join(place_of(*p) for p in found[:SHOWN])
    return f"{shown} and {len(found) - SHOWN} more" if len(found) > SHOWN else shown


def change_json(change: Change) -> dict[str, Any]:
    """For scripts."""
    return {
        "kind": change.kind.value,
        "asset": change.asset,
        "partition": change.partition,
        "before": {"version": change.before.version, "epoch": change.before.epoch} if change.before else None,
        "after": {"version": change.after.version, "epoch": change.after.epoch} if change.after else None,
    }
