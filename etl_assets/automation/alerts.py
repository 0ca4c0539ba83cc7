"""Alerts: a line in the log, and where a webhook is set, one POST of JSON."""

from collections.abc import Callable, Sequence
from typing import Any

from etl_resources.settings import Settings

TIMEOUT_S = 10.0


def alert(settings: Settings, kind: str, lines: Sequence[str], details: Any, log: Callable[[str], None]) -> bool:
    """Tell it. False when the webhook didn't take it: to be told again.

    The body: kind, text (for chats that show it), details.
    """
    import httpx

    for line in lines:
        log(f"{kind}: {line}")
    if settings.alert_webhook is None:
        return True
    body = {"kind": kind, "text": "\n".join([f"data-pipeline: {kind}", *lines]), "details": details}
    try:
        httpx.post(settings.alert_webhook.get_secret_value(), json=body, timeout=TIMEOUT_S).raise_for_status()
    except httpx.HTTPStatusError as e:  # its address may hold a token: it is never shown
        log(f"ETL_ALERT_WEBHOOK answered {e.response.status_code}: the alert is sent again at the next tick.")
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        log(f"ETL_ALERT_WEBHOOK can't be reached ({type(e).__name__}): the alert is sent again at the next tick.")
    else:
        return True
    return False
