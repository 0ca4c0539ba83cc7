"""Why a step failed, in one line."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg


def step_failure(event: "dg.DagsterEvent") -> str:
    """What a step's failure tells a person: its own message, or that of the crash."""
    failure = event.step_failure_data
    told = failure.user_failure_data.description if failure.user_failure_data else None
    crashed = failure.error.message.strip() if failure.error else "no reason given"
    return f"{event.step_key}: {told or crashed}"
