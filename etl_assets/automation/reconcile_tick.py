"""One tick of the reconcile sensor: look at the sources, compare, ask, tell."""

import hashlib
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from etl_assets.automation.alerts import alert
from etl_assets.automation.heavy_runs import put_off
from etl_assets.automation.observe_sources import Observed, SourceObserver
from etl_assets.automation.raised_runs import raised_runs
from etl_assets.automation.reconcile_sensor import RUN_TAG
from etl_assets.automation.restatements import send_restatements
from etl_assets.automation.running import FIRST, LAST, running_places
from etl_assets.backfill.closure_nodes import closure_nodes, state_of
from etl_assets.backfill.look import Comparer
from etl_assets.graph.jobs import job_of
from etl_assets.graph.keys import asset_key, source_key
from etl_assets.graph.runtime import Runtime
from etl_assets.raised_sizes import Raised
from etl_resources.calendar import WHOLE
from etl_resources.closure import Closure, ClosureNode
from etl_resources.ledger import marks, requests
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import alone, clock
from etl_resources.ledger.state import UNPUBLISHED, Place, read_state
from etl_resources.reconcile import Decision, Facts, Request, Rules, decide
from etl_resources.retries import retries_of_tick

if TYPE_CHECKING:
    import psycopg

RUNS_MAX = 25
"""Asked for in one tick; the rest is asked for in the next ones."""
BUDGET_S = 10.0
"""No asset is begun to be compared after this; the next tick goes on with it."""
TOLD_AFTER = timedelta(minutes=15)
"""A source that can't be looked at for so long is an alert."""
OBSERVATIONS_MAX = 50
"""Events of changed source partitions that one tick reports."""


@dataclass
class Tick:
    """What a tick found; what it asks for."""

    run_requests: list[dg.RunRequest] = field(default_factory=list)
    cursor: str = ""
    summary: str = ""


def tick(runtime: Runtime, instance: dg.DagsterInstance, cursor: str | None, log: Callable[[str], None]) -> Tick:
    """One tick; another daemon's, if it is at it, does the work."""
    with retries_of_tick(), Ledger.open(runtime.settings) as ledger, alone(ledger, "reconcile") as mine:
        if not mine:
            return Tick(cursor=cursor or "", summary="Another daemon is comparing.")
        return _Tick(runtime, instance, ledger, log).run(cursor)


class _Tick:
    def __init__(
        self,
        runtime: Runtime,
        instance: dg.DagsterInstance,
        ledger: Ledger,
        log: Callable[[str], None],
    ) -> None:
        self._runtime, self._instance, self._ledger, self._log = runtime, instance, ledger, log
        rules = runtime.project.platform.keep_fresh
        self._rules = Rules(rules.follow_logic, rules.tries, rules.wait_s)
        self._nodes = closure_nodes(runtime.project)

    def run(self, cursor: str | None) -> Tick:
        connection, now = self._ledger.connection, clock(self._ledger)
        running = running_places(self._instance, self._runtime.project, now)  # before what they publish
        sources = [n.name for n in self._nodes if n.is_source]
        observed = SourceObserver(self._runtime, self._ledger, read_state(connection, sources), now).observe()
        self._report(observed)
        marks.forget_published(connection)
        facts = Facts(now, running, marks.marks(connection), requests.asked(connection))
        levels = _levels(connection, self._nodes, self._rules)
        touched = {a for a, _ in (*facts.marks, *facts.asked, *observed.files)}
        unsettled = self._unsettled(_cursor(cursor), levels, touched)
        decision, closure = self._decide(unsettled, observed, facts)
        put = put_off(self._runtime.sizes, connection, closure, decision.requests, now)
        asked = {self._new_key(r): r for r in put.now[:RUNS_MAX]}
        raised = raised_runs(self._runtime.sizes, connection, closure, list(asked.values()), now)
        for of in raised.values():
            self._log(of.why)
        with connection.transaction():
            for key, request in asked.items():
                tried = [(*r.place, r.state, r.since, r.tries, r.why) for r in request.roots]
                requests.ask(connection, key, tried, now)
            settled = decision.fresh | decision.kept.keys() | self._gone(facts)
            requests.settle(connection, settled & facts.asked.keys(), decision.stuck)
        self._tell(observed)
        if asked and put.waiting:
            self._log(put.told())
        restless = {a for a, _ in decision.unsettled} | set(decision.not_looked_at)
        at_rest = {n: level for n, level in levels.items() if n not in restless}
        return Tick(
            [self._run_request(key, r, raised.get(r.key, Raised())) for key, r in asked.items()],
            json.dumps(at_rest, sort_keys=True, separators=(",", ":")),
            "; ".join(filter(None, (put.told(), _summary(decision, observed)))),
        )

    def _gone(self, facts: Facts) -> set[Place]:
        """What was asked for, and the manifests no longer have."""
        partitions = {n.name: n.partitions for n in self._nodes}
        return {(asset, p) for asset, p in facts.asked if p not in partitions.get(asset, ())}

    def _decide(self, assets: Collection[str], observed: Observed, facts: Facts) -> tuple[Decision, Closure | None]:
        if not assets:
            return Decision(), None
        needed = _with_upstream(self._nodes, assets)
        nodes = [n for n in self._nodes if n.name in needed]
        compare = Comparer(self._runtime, self._ledger)
        closure = Closure(nodes, state_of(self._ledger, nodes), observed.files, compare=compare)
        return decide(closure, facts, self._rules, assets, until=time.monotonic() + BUDGET_S), closure

    def _unsettled(self, before: Mapping[str, str], levels: Mapping[str, str], touched: Collection[str]) -> set[str]:
        """Assets of which anything differs from when they were last found fresh, and all that is made from them."""
        changed = {n.name for n in self._nodes if before.get(n.name) != levels[n.name] or n.name in touched}
        changed |= {s for n in self._nodes if n.name in changed for s in n.captured_with}
        found: set[str] = set()
        for node in self._nodes:
            if node.name in changed or any(u in found for u in node.upstream):
                found.add(node.name)
        return found

    def _new_key(self, request: Request) -> str:
        """Dagster never starts a run of a key that it has seen, and the same state may be asked for again: when inputs
        are as they were before, or a person says so. The ledger has counted the request before Dagster hears of it.
        """
        return f"{request.key}-{self._ledger.draw_epoch()}"

    def _run_request(self, key: str, request: Request, raised: Raised) -> dg.RunRequest:
        tags = {RUN_TAG: key, **raised.choice.tags}
        if request.first != WHOLE:
            tags |= {FIRST: request.first, LAST: request.last}
        return dg.RunRequest(
            run_key=key, job_name=job_of(request.first), tags=tags,
            asset_selection=[asset_key(a) for a in request.assets],
        )  # fmt: skip

    def _report(self, observed: Observed) -> None:
        """What was seen at the sources, as events of their assets."""
        places = [(name, p) for name, partitions in observed.changed.items() for p in partitions]
        for name, partition in (*places[:OBSERVATIONS_MAX], *observed.files):
            dataset = self._runtime.project.tables[name].dataset
            assert dataset.source is not None  # noqa: S101  (only sources are observed)
            self._instance.report_runless_asset_event(
                dg.AssetObservation(
                    source_key(dataset.source.system, dataset.source_name),
                    partition=None if partition == WHOLE else partition,
                    metadata={"changed": True, "watermark_age_s": observed.watermark_age_s.get(name, 0.0)},
                )
            )

    def _tell(self, observed: Observed) -> None:
        """Alerts, each once; again when nobody could be reached."""
        connection, settings = self._ledger.connection, self._runtime.settings
        if stuck := requests.stuck(connection, untold=True):
            details = [
                asdict(s) | {"stuck_since": str(s.stuck_since), "requested_at": str(s.requested_at)} for s in stuck
            ]
            if alert(settings, "stuck", list(map(str, stuck)), details, self._log):
                requests.tell(connection, {(s.asset, s.partition) for s in stuck})
        send_restatements(settings, self._ledger, self._log)
        now = clock(self._ledger)
        untold = {
            look.source: f"{look.source} isn't observed since {look.problem_since:%Y-%m-%d %H:%M} UTC: {look.problem}"
            for look in marks.looks(connection).values()
            if look.problem and look.problem_since and look.told_at is None and now - look.problem_since >= TOLD_AFTER
        }
        if untold and alert(settings, "unobserved", list(untold.values()), dict(untold), self._log):
            marks.tell_problems(connection, untold)
        for name, problem in observed.problems.items():
            self._log(f"{name}: {problem}")


def _cursor(text: str | None) -> Mapping[str, str]:
    """Asset → level at which it was fresh. One that can't be read costs a slower tick."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


_LEVELS = f"""
select asset, 'published', sum(epoch)::text, count(*) from etl.newest_publishes group by 1
union all select asset, 'ended', sum(epoch)::text, count(*) from ({UNPUBLISHED}) n cross join lateral (
    select from etl.intents where attempt = n.attempt and state in ('failed', 'abandoned') limit 1
) i group by 1
union all select asset, 'pinned', max(epoch)::text, count(*) from etl.current_pins group by 1
union all select asset, 'waiting', max(epoch)::text, count(accepted_at) from etl.waiting group by 1
"""


def _levels(connection: "psycopg.Connection[Any]", nodes: Sequence[ClosureNode], rules: Rules) -> dict[str, str]:
    """Asset → digest of all that decides whether its partitions are fresh, beside the sources."""
    own: dict[str, list[Any]] = {n.name: [rules, n.logic_version, n.partitions] for n in nodes}
    for asset, *told in sorted(connection.execute(_LEVELS).fetchall()):
        if asset in own:
            own[asset].append(told)
    return {
        n.name: hashlib.sha256(repr([own[name] for name in (n.name, *n.upstream)]).encode()).hexdigest()[:16]
        for n in nodes
    }


def _with_upstream(nodes: Sequence[ClosureNode], assets: Collection[str]) -> set[str]:
    found = set(assets)
    for node in reversed(nodes):
        if node.name in found:
            found |= {*node.upstream, *node.captured_with}
    return found


def _summary(decision: Decision, observed: Observed) -> str:
    told: list[Place] = sorted(decision.waiting)
    lines = [f"waiting: {len(told)} (first {told[0][0]} {told[0][1]}: {decision.waiting[told[0]]})"] if told else []
    lines += [f"being compared with their source: {len(decision.comparing)}"] if decision.comparing else []
    lines += [f"stuck: {len(decision.stuck)}"] if decision.stuck else []
    lines += [f"pinned, held or without an input: {len(decision.kept)}"] if decision.kept else []
    lines += [f"made by an earlier logic: {len(decision.logic)}"] if decision.logic else []
    lines += [f"{name} isn't observed: {why}" for name, why in observed.problems.items()]
    if age := max(observed.watermark_age_s.values(), default=0.0):
        held = next(iter(observed.held_by.values()), None)
        lines.append(f"oldest watermark: {age:.0f} s" + (f", held by {held}" if held else ""))
    return "; ".join(lines) or "Everything that was published is fresh."
