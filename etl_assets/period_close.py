"""`data-pipeline close`, `reopen` and `closings`: what they do, for one project."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from etl_assets.backfill.reasons import told
from etl_assets.backfill.why import Status, Why, why
from etl_assets.graph.closed_periods import closes_periods
from etl_assets.graph.runtime import Runtime
from etl_assets.project import TableNode
from etl_resources.closing import Closer, Done
from etl_resources.engines.embedded import connect
from etl_resources.errors import PermanentError
from etl_resources.ledger.closings import Closing, current_closings
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.records import Publish
from etl_resources.suggest import hint


@dataclass(frozen=True)
class Closable:
    """A partition that may be closed, as it is published."""

    asset: str
    partition: str
    epoch: int
    version: str
    rows: int

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return dict(vars(self))


def known_closable(runtime: Runtime, name: str) -> TableNode:
    """A table whose periods may be closed, by its name or its dataset's. Raises PermanentError with the valid names."""
    named = {
        n: node for n, node in runtime.project.tables.items()
        if name.replace("/", ".") in (n, node.dataset.dataset)
    }  # fmt: skip
    tables = runtime.project.tables.items()
    valid = [n for n, node in tables if node.layer != "bronze" and closes_periods(node)]
    wanted = next((n for n in named if n in valid), None)
    if wanted is not None:
        return named[wanted]
    told = (
        f"{name}: its manifest has no `period_close`, so that no period of it" if named else f"Unknown table {name!r}"
    )
    told += " is closed" if named else ""
    raise PermanentError(f"{told}; {hint(name, valid) if valid else 'no manifest of the project has one'}.")


def closable(runtime: Runtime, name: str, partition: str) -> Closable:
    """What would be closed. Raises PermanentError, with the reason, when it isn't up to date or is closed already."""
    node = known_closable(runtime, name)
    found = why(runtime, node.name, partition)
    if found.closing is not None:
        raise PermanentError(f"{node.name}, partition {partition} was {found.closing}.")
    if found.status is not Status.FRESH or found.known is None:
        raise PermanentError(
            f"{node.name}, partition {partition} is {_reason(found)}. Only what is up to date is closed."
        )
    for other in runtime.project.tables.values():
        if other.adjusted and other.adjusted.table == node.name:
            adjustments = why(runtime, other.name, partition)
            if adjustments.status is not Status.FRESH:
                raise PermanentError(
                    f"{other.name}, partition {partition} is {_reason(adjustments)}: materialize it, then close."
                )
    return Closable(node.name, partition, found.known.epoch, found.known.version, found.known.rows)


def close(runtime: Runtime, names: Sequence[str], partition: str, by: str, note: str) -> list[Done]:
    """Close a period of all these tables, or, when one of them isn't up to date, of none.

    Raises PermanentError as `closable`; TransientError when somebody publishes meanwhile: those before it stay closed.
    """
    _named(by)
    found = [closable(runtime, name, partition) for name in names]
    return [_close(runtime, c, by.strip(), note.strip()) for c in found]


def find_closing(runtime: Runtime, name: str, partition: str) -> Closing:
    """Of a closed partition. Raises PermanentError when it isn't closed."""
    found = list_closings(runtime, name)
    for closing in found:
        if closing.partition == partition:
            return closing
    closed = ", ".join(c.partition for c in found) or "none"
    raise PermanentError(f"{name}, partition {partition} is not closed. Closed partitions of it: {closed}.")


def reopen(runtime: Runtime, name: str, partition: str, by: str, reason: str) -> Done:
    """Let a closed partition follow its inputs again; what waits for approval is judged anew.

    Raises PermanentError when it isn't closed.
    """
    _named(by)
    if not reason.strip():
        raise PermanentError("A reopening needs a --reason: an auditor must know why.")
    asset = find_closing(runtime, name, partition).asset
    with Ledger.open(runtime.settings) as ledger, connect(runtime.settings) as engine:
        return _closer(runtime, ledger, engine, asset).reopen(partition, by.strip(), reason.strip(), _run_id("reopen"))


def list_closings(runtime: Runtime, name: str | None = None) -> list[Closing]:
    """Closed partitions, of one table or of all."""
    if name is not None and name.replace("/", ".") not in runtime.project.tables:
        name = known_closable(runtime, name).name
    with Ledger.open(runtime.settings) as ledger:
        found = current_closings(ledger.connection, None if name is None else [name.replace("/", ".")])
    return list(found.values())


def _close(runtime: Runtime, wanted: Closable, by: str, note: str) -> Done:
    def as_looked_at(current: Publish) -> None:
        if current.version != wanted.version:
            raise PermanentError(
                f"{wanted.asset}, partition {wanted.partition} was published meanwhile ({current.version}): look at "
                "it, then close it."
            )

    with Ledger.open(runtime.settings) as ledger, connect(runtime.settings) as engine:
        closer = _closer(runtime, ledger, engine, wanted.asset)
        return closer.close(wanted.partition, by, note, _run_id("close"), as_looked_at)


def _closer(runtime: Runtime, ledger: Ledger, engine: Any, asset: str) -> Closer:
    table = runtime.store.catalog.load_table(runtime.addresses[asset].identifier)
    address = runtime.addresses[asset].as_stored(table)
    return Closer(runtime.store, ledger, engine, address, runtime.letters_addresses[asset])


def _run_id(verb: str) -> str:
    return f"{verb}-{uuid4().hex[:12]}"


def _named(by: str) -> None:
    if not by.strip():
        raise PermanentError("A closing needs a name (--by): an auditor must know who.")


def _reason(found: Why) -> str:
    """Its status, and what makes it so."""
    reasons = [told(d.change, found.partition) for d in found.changes]
    reasons += [f"{v.asset} {v.partition} is out of date" for v in found.upstream]
    reasons += [f"{asset} {p} isn't published" for asset, p in found.missing]
    if found.pin:
        reasons.append(str(found.pin))
    return f"{found.status} ({'; '.join(reasons[:3])})" if reasons else str(found.status)
