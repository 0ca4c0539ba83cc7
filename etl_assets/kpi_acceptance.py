"""`data-pipeline acceptance` and `accept`: partitions that wait for a person, and what publishes them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from etl_assets.graph.closed_periods import closes_periods
from etl_assets.graph.runtime import Runtime
from etl_resources.engines.embedded import connect
from etl_resources.errors import PermanentError
from etl_resources.failpoints import failpoint
from etl_resources.identifiers import quote
from etl_resources.ledger import held as records
from etl_resources.ledger.held import Acceptance, Held
from etl_resources.ledger.ledger import Ledger
from etl_resources.suggest import hint
from etl_resources.tables.input_tables import parquet_scan
from etl_resources.tables.schema import read_schema

Runner = Callable[[str, str, str], tuple[str, Sequence[str]]]
"""(asset, first, last partition) → run id and errors: the asset and all that depends on it, over a range."""


@dataclass(frozen=True)
class Accepted:
    """What an acceptance led to, or in a dry run would."""

    held: Held
    acceptance: Acceptance | None
    """None in a dry run."""
    published: bool = False
    epoch: int | None = None
    """Of what is published of the partition now."""
    run_id: str | None = None
    errors: Sequence[str] = ()
    problem: str | None = None
    """Why it isn't what was accepted that is published."""

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            **held_json(self.held), **(self.acceptance.as_json() if self.acceptance else {}),
            "published": self.published, "published_epoch": self.epoch, "acceptance_run_id": self.run_id,
            "errors": list(self.errors), "problem": self.problem,
        }  # fmt: skip


def held_json(held: Held) -> dict[str, Any]:
    """For scripts; times in ISO 8601."""
    return {
        "kpi": held.asset, "partition": held.partition, "rows": held.rows, "token": held.token,
        "version": held.version, "epoch": held.epoch, "run_id": held.run_id, "path": held.path,
        "held_at": held.held_at.isoformat() if held.held_at else None, "findings": held.findings,
        **(held.acceptance.as_json() if held.acceptance else {}),
    }  # fmt: skip


def known_judged(runtime: Runtime, name: str) -> str:
    """A table whose partitions may wait for a person, by its name or its dataset's: a KPI, or one whose periods are
    closed. Raises PermanentError with the valid names."""
    tables = runtime.project.tables
    judged = [n for n, node in tables.items() if node.layer == "kpi" or (node.layer == "gdp" and closes_periods(node))]
    wanted = next((n for n in judged if name in (n, tables[n].dataset.dataset)), None)
    if wanted is None:
        raise PermanentError(f"Unknown KPI or table whose periods are closed: {name!r}; {hint(name, judged)}.")
    return wanted


def waiting(runtime: Runtime, name: str | None = None) -> list[Held]:
    """What waits for a person, of one KPI or of all."""
    asset = known_judged(runtime, name) if name is not None else None
    with Ledger.open(runtime.settings) as ledger:
        return records.waiting(ledger.connection, asset)


def find_waiting(runtime: Runtime, name: str, partition: str) -> Held:
    """The partition that waits. Raises PermanentError when it doesn't."""
    asset = known_judged(runtime, name)
    found = waiting(runtime, asset)
    for held in found:
        if held.partition == partition:
            return held
    others = ", ".join(h.partition for h in found) or "none"
    raise PermanentError(f"{asset}, partition {partition!r} waits for nobody. Partitions of it that do: {others}.")


def held_rows(runtime: Runtime, held: Held, limit: int) -> tuple[list[str], list[str], list[tuple[Any, ...]]]:
    """(columns, types, first rows by key) of what was written and isn't published."""
    address = runtime.addresses[held.asset]
    schema = read_schema(runtime.store.catalog.load_table(address.identifier).schema(), address.columns)
    keys = ", ".join(map(quote, address.contract.key))
    names = ", ".join(map(quote, address.contract.names))
    with connect(runtime.settings) as engine:
        query = f"select {names} from {parquet_scan([held.path], schema)} order by {keys} limit {limit}"
        described = engine.execute(f"describe {query}").fetchall()
        return [d[0] for d in described], [d[1] for d in described], engine.execute(query).fetchall()


def accept(
    runtime: Runtime, name: str, partition: str, by: str, reason: str, run: Runner | None, wanted: str | None = None
) -> Accepted:
    """Accept what waits, in somebody's name, and publish it by an ordinary run; run None: only tell what would be.

    wanted: version that the person looked at. The run publishes only this content of these inputs: when they changed
    since, it judges the new result by itself. Raises PermanentError when nothing waits, or somebody else was faster.
    """
    held = find_waiting(runtime, name, partition)
    if not by.strip() or not reason.strip():
        raise PermanentError("An acceptance needs a name (--by) and a --reason: an auditor must know who and why.")
    if wanted is not None and wanted != held.version:
        raise PermanentError(f"{held.asset}, partition {partition} is {held.version} now, not {wanted}: look again.")
    if run is None:
        return Accepted(held, None)
    with Ledger.open(runtime.settings) as ledger:
        acceptance = records.accept(ledger.connection, held, by.strip(), reason.strip())
    failpoint("acceptance.recorded", held.asset)
    run_id, errors = run(held.asset, partition, partition)
    with Ledger.open(runtime.settings) as ledger:
        current = ledger.current(held.asset, [partition]).get(partition)
        again = [h for h in records.waiting(ledger.connection, held.asset) if h.partition == partition]
    published = current is not None and (
        (current.token, current.restated or current.version) == (held.token, held.version)
    )
    problem = None
    if not published and again and (again[0].token, again[0].version) != (held.token, held.version):
        problem = "its inputs or its logic changed since it was judged: the new result waits, look at it again"
    elif not published:
        problem = "what is published now is of other inputs or of another logic: your acceptance wasn't needed"
        if errors:
            problem = "the run that should publish it failed; accept it again, or materialize it"
    return Accepted(held, acceptance, published, current.epoch if current else None, run_id, errors, problem)
