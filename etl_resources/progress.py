"""What a step tells while it runs: structured events on the logger `etl.progress`; the CLI draws them."""

import logging

LOGGER = "etl.progress"


def report(asset: str, stage: str, **facts: object) -> None:
    """One progress event, e.g. report("silver.sales_orders", "planned", todo=36)."""
    text = ", ".join(f"{k} {v}" for k, v in facts.items())
    logging.getLogger(LOGGER).info("%s: %s %s", asset, stage, text, extra={"asset": asset, "stage": stage})
