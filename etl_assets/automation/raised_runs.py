"""Runs of the reconcile sensor that are raised to a larger size, because they would miss a freshness otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from etl_assets.automation.heavy_runs import request_seconds
from etl_assets.freshness import read_lags
from etl_assets.raised_sizes import Raised, due, largest, raise_size
from etl_assets.run_sizes import RunSizes
from etl_resources.closure import Closure
from etl_resources.ledger.history import PastAttempt, read_history
from etl_resources.reconcile import Request
from etl_resources.sizes import SizeChoice

if TYPE_CHECKING:
    import psycopg


def raised_runs(
    sizes: RunSizes,
    connection: "psycopg.Connection[Any]",
    closure: Closure | None,
    requests: Sequence[Request],
    now: datetime,
) -> Mapping[str, Raised]:
    """Key of a request → what is chosen for it; nothing of those that stay as their manifests say.

    sizes: of the process; where it asks for one of every dataset, nothing is raised. The ledger is read only where a
    manifest allows a larger size.
    """
    project = sizes.project
    allowed = {r.key: up_to for r in requests if (up_to := largest(project, r.assets))}
    if not allowed or closure is None or sizes.choice.asked is not None:
        return {}
    models = read_history(connection, {a for r in requests for a in r.assets}).attempts
    lags = read_lags(project, connection, now)
    found: dict[str, Raised] = {}
    for request in (r for r in requests if r.key in allowed):
        seconds_at = partial(_seconds_at, closure, models, request, sizes)
        raised = raise_size(allowed[request.key], due(project, lags, request.assets), seconds_at)
        if raised.why:
            found[request.key] = raised
    return found


def _seconds_at(
    closure: Closure,
    models: Mapping[str, Sequence[PastAttempt]],
    request: Request,
    sizes: RunSizes,
    choice: SizeChoice,
) -> float:
    return request_seconds(closure, models, request, replace(sizes, choice=choice))
