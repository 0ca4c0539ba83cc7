"""`data-pipeline why`: whether a partition is up to date, and if not, since when and by what."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from etl_assets.backfill.closure_nodes import closure_nodes, state_of
from etl_assets.backfill.look import Comparer, Finder
from etl_assets.graph.runtime import Runtime
from etl_resources.calendar import WHOLE
from etl_resources.closure import Closure, ClosureNode
from etl_resources.errors import PermanentError
from etl_resources.ledger.closings import Closing
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.lineage import capture_epochs
from etl_resources.ledger.logic import changed_parts
from etl_resources.ledger.pins import Pin
from etl_resources.ledger.state import Ended, Known, Place, Waiting, content_since
from etl_resources.suggest import hint
from etl_resources.verdicts import Change, ChangeKind, State, Verdict

if TYPE_CHECKING:
    import psycopg


class Status(StrEnum):
    """What a person wants to know of a partition."""

    FRESH = "fresh"
    STALE = "stale"
    BEHIND = "behind"
    """Made from what is published, of which something is out of date itself."""
    NEVER = "never computed"
    UNKNOWN = "may be stale"
    FAILED = "failed"
    """Out of date, and the last attempt at it published nothing."""
    PINNED = "pinned"
    HELD = "held"
    CLOSED = "closed"
    """Fresh, and closed by a person."""


EXIT_CODES = {Status.FRESH: 0, Status.CLOSED: 0, Status.PINNED: 4, Status.HELD: 4}
EXIT_OUTDATED = 3
"""Of every other status; 1 is an error and 2 a wrong call, as everywhere."""


@dataclass(frozen=True)
class DatedChange:
    """A change with the run that published it."""

    change: Change
    run_id: str | None = None
    at: datetime | None = None
    parts: Sequence[str] = ()
    """Of the logic, those that changed; () where it isn't known."""


@dataclass(frozen=True)
class Why:
    """What is known of one partition."""

    asset: str
    partition: str
    status: Status
    known: Known | None
    changes: Sequence[DatedChange]
    missing: Sequence[Place]
    upstream: Sequence[Verdict]
    """What it is made from, directly or not, and is out of date itself; upstream first."""
    is_source: bool
    pin: Pin | None = None
    waiting: Waiting | None = None
    ended: Ended | None = None
    problem: str | None = None
    """Why a run of it now would fail."""
    closing: Closing | None = None

    @property
    def exit_code(self) -> int:
        """0 fresh or closed, 3 out of date, 4 kept as it is by a person or for one."""
        return EXIT_CODES.get(self.status, EXIT_OUTDATED)


def why(runtime: Runtime, asset: str, partition: str) -> Why:
    """From the ledger alone; only where a looked-up table changed and the ledger doesn't remember for which rows, the
    rows are read. The source of a bronze table isn't looked at: `plan` does that.

    Raises PermanentError for an asset or a partition that doesn't exist.
    """
    nodes = closure_nodes(runtime.project)
    node = _node(nodes, asset)
    if partition not in node.partitions:
        raise PermanentError(f"{node.name} has no partition {partition!r}; valid: {_valid(node)}.")
    with Ledger.at_one_instant(runtime.settings) as ledger:
        state = state_of(ledger, nodes)
        closure = Closure(nodes, state, evaluate=Finder(runtime, state), compare=Comparer(runtime, ledger))
        place = (node.name, partition)
        verdict = closure.verdict(*place)
        upstream = _outdated_upstream(closure, place)
        pin, waiting = state.pins.get(place), state.waiting.get(place)
        ended, closing = state.ended.get(place), state.closed.get(place)
        status = _status(verdict, upstream, pin, waiting, ended)
        return Why(
            *place,
            Status.CLOSED if closing and status is Status.FRESH else status,
            closure.known(*place),
            [_dated(ledger.connection, closure, verdict, c, runtime) for c in verdict.changes],
            verdict.missing,
            upstream,
            node.is_source,
            pin,
            waiting,
            ended,
            _captured_apart(ledger.connection, verdict) or _kept_with(closure, verdict),
            closing,
        )


def _node(nodes: Sequence[ClosureNode], asset: str) -> ClosureNode:
    wanted = asset.replace("/", ".")
    found = next((n for n in nodes if n.name == wanted), None)
    if found is None:
        raise PermanentError(f"Unknown asset {asset!r}; {hint(wanted, [n.name for n in nodes])}.")
    return found


def _valid(node: ClosureNode) -> str:
    return node.partitions[0] if not node.partitioned else f"{node.partitions[0]} to {node.partitions[-1]}"


def _status(
    verdict: Verdict, upstream: Sequence[Verdict], pin: Pin | None, waiting: Waiting | None, ended: Ended | None
) -> Status:
    if pin is not None:
        return Status.PINNED
    if verdict.state is State.FRESH:
        return Status.BEHIND if upstream else Status.FRESH
    if waiting is not None and waiting.accepted_by is None and waiting.token == verdict.token:
        return Status.HELD
    if ended is not None and ended.state != "open":
        return Status.FAILED
    return {State.NEVER: Status.NEVER, State.STALE: Status.STALE, State.UNKNOWN: Status.UNKNOWN}[verdict.state]


def _outdated_upstream(closure: Closure, place: Place) -> list[Verdict]:
    """Depth first, so that what is further up comes first; each once."""
    found: dict[Place, Verdict] = {}
    seen: set[Place] = set()

    def visit(at: Place) -> None:
        for read in closure.made_from(*at):
            if read in seen or read in closure.state.pins:
                continue
            seen.add(read)
            visit(read)
            verdict = closure.verdict(*read)
            if verdict.state in (State.STALE, State.NEVER):
                found[read] = verdict

    visit(place)
    return list(found.values())


def _dated(
    connection: "psycopg.Connection[Any]", closure: Closure, verdict: Verdict, change: Change, runtime: Runtime
) -> DatedChange:
    if change.kind is ChangeKind.LOGIC:
        known = closure.known(verdict.asset, verdict.partition)
        assert known is not None  # noqa: S101  (logic changes only of what is published)
        node = closure.nodes[verdict.asset]
        parts = runtime.project.logic_parts(verdict.asset)
        place = (verdict.asset, verdict.partition)
        return DatedChange(
            change, parts=changed_parts(connection, node.tenant, place, known.token, known.inputs, parts)
        )
    since = content_since(connection, change.asset, change.partition) if change.asset in closure.nodes else None
    return DatedChange(change, *since) if since else DatedChange(change)


def _kept_with(closure: Closure, verdict: Verdict) -> str | None:
    return None if verdict.state is State.FRESH else closure.kept_with(verdict.asset, verdict.partition)


def _captured_apart(connection: "psycopg.Connection[Any]", verdict: Verdict) -> str | None:
    """As a step refuses inputs of different captures."""
    if verdict.state is State.FRESH or len(verdict.inputs) < 2:
        return None
    for (system, captured), epochs in capture_epochs(connection, verdict.inputs).items():
        if not epochs:
            where = "" if captured == WHOLE else f", partition {captured}"
            return f"its inputs come from different captures of {system}{where}: compute those upstream first"
    return None
