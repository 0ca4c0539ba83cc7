"""How a run is brought to each failpoint of the Elasticsearch sink."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SearchPoint:
    """Which ways of loading pass the point. killed_at: a run before it was killed there; stop_at: it stops there and
    is fenced meanwhile."""

    loads: Sequence[str] = ("replace", "upsert")
    nth: int = 1
    killed_at: str | None = None
    stop_at: str | None = None


SEARCH_POINTS: Mapping[str, SearchPoint] = {
    "elasticsearch.index_created": SearchPoint(("replace",)),
    "elasticsearch.held": SearchPoint(("upsert",)),
    "elasticsearch.sending": SearchPoint(nth=2),
    "elasticsearch.filled": SearchPoint(),
    "elasticsearch.before_swap": SearchPoint(("replace",)),
    "elasticsearch.before_commit": SearchPoint(("upsert",), nth=2),
    "elasticsearch.published": SearchPoint(),
    "elasticsearch.recorded": SearchPoint(),
    "elasticsearch.abandon_fenced": SearchPoint(stop_at="serving.audited"),
    "elasticsearch.settle_fenced": SearchPoint(killed_at="serving.audited"),
}
"""Failpoint → how to get there. One that is missing here has no fault test: test_failpoints.py says so."""
