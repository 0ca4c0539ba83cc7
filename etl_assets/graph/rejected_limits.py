"""How many rows of a source may be rejected before nothing of it is published."""

from collections.abc import Mapping
from decimal import Decimal

from etl_assets.project import TableNode


def too_many_rejected(node: TableNode, counts: Mapping[str, int]) -> str | None:
    """What is wrong, with what to do; None while the manifest's limits hold. counts: `read` and `rejected` rows."""
    bronze = node.dataset.bronze
    if bronze is None or not counts["rejected"]:
        return None
    share, most = Decimal(counts["rejected"]) / counts["read"], bronze.max_rejected_share
    found = f"{counts['rejected']} of {counts['read']} rows were rejected ({share:.4f})"
    if most is not None and share > Decimal(most):
        return f"{found}, max_rejected_share is {most}. {refused_letters(node.name)}"
    if bronze.max_rejected_rows is not None and counts["rejected"] > bronze.max_rejected_rows:
        return f"{found}, max_rejected_rows is {bronze.max_rejected_rows}. {refused_letters(node.name)}"
    return None


def refused_letters(asset: str) -> str:
    """Where rows of an attempt are told that wasn't published."""
    return f"They are told by `data-pipeline dead-letters list {asset} --status refused`."
