"""A bronze table follows its source's columns as its dataset's `schema_evolution` says, before a row is captured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from etl_assets.graph.runtime import Runtime
from etl_assets.project import TableNode
from etl_resources.extract.delivery import DECLARED, Reading
from etl_resources.extract.postgres import SourceTable
from etl_resources.failpoints import failpoint
from etl_resources.ledger.ledger import Ledger
from etl_resources.manifest_sources import PostgresSource
from etl_resources.manifest_types import SchemaEvolution
from etl_resources.schema_drift import (
    Captured,
    SchemaChange,
    SourceSchema,
    evolved_contract,
    find_changes,
    refusal,
)
from etl_resources.tables.address import TableAddress
from etl_resources.tables.schema import fields_of
from etl_resources.tables.source_schema import SchemaRecord, record_schema

if TYPE_CHECKING:
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table


@dataclass(frozen=True)
class Followed:
    """A table as it is captured from now on."""

    address: TableAddress
    """With the columns that are captured."""
    schema: "Schema"
    """Of the Iceberg table."""
    changes: Sequence[SchemaChange] = ()

    @property
    def read_as(self) -> str:
        """Columns that are null because the source lacks them, or whose misfits are rejected; "" where there are none.

        Once the source is as before no stamp and no row tells it: what was captured meanwhile has to be read again.
        """
        odd = (c for c in self.changes if c.action in ("read as null", "rows rejected"))
        return ",".join(sorted(f"{c.column}={c.after or 'null'}" for c in odd))

    def metadata(self) -> dict[str, str]:
        """For Dagster."""
        told = "; ".join(f"{change}: {change.action}" for change in self.changes)
        return {"schema_changes": told} if told else {}


def follow_source(runtime: Runtime, ledger: Ledger, node: TableNode, now: SourceSchema | None, run_id: str) -> Followed:
    """Record what changed, evolve the table. None: the source says nothing of its columns this time.

    Raises PermanentError when a change is refused; it is recorded, and the table is as it was.
    """
    address = runtime.addresses[node.name]
    table = runtime.store.created(address)
    if now is None:
        return _followed(runtime, address, ())
    record, changes = _compare(address, node, table, now)
    return follow(runtime, ledger, node, record, now, changes, run_id)


def find_source_changes(
    runtime: Runtime, node: TableNode, table: "Table", now: SourceSchema
) -> tuple[Sequence[SchemaChange], bool]:
    """What changed in the source's columns, and whether a run would follow it; nothing is recorded."""
    record, changes = _compare(runtime.addresses[node.name], node, table, now)
    after = record.after(now, changes, mode_of(node), "")
    return changes, any(c.action != "left out" for c in after.changes if c not in record.changes)


def _compare(
    address: TableAddress, node: TableNode, table: "Table", now: SourceSchema
) -> tuple[SchemaRecord, Sequence[SchemaChange]]:
    record = SchemaRecord.of(table)
    captured = Captured(
        evolved_contract(address.contract, record.evolved),
        _required(node),
        fields_of(table.schema()),
        record.seen,
        record.left_out,
    )
    return record, _changes(captured, now, mode_of(node))


def follow(
    runtime: Runtime,
    ledger: Ledger,
    node: TableNode,
    record: SchemaRecord,
    now: SourceSchema,
    changes: Sequence[SchemaChange],
    run_id: str,
) -> Followed:
    """As follow_source, of changes that are known. record: the table's."""
    store, address, mode = runtime.store, runtime.addresses[node.name], mode_of(node)
    after = record.after(now, changes, mode, run_id)
    if after != record:
        with ledger.committing(address.asset):
            record_schema(store.catalog, address.identifier, after)
    if error := refusal(node.dataset.source_name, mode, changes):
        raise error
    failpoint("capture.schema_recorded", address.asset)
    return _followed(runtime, address, changes)


def _changes(captured: Captured, now: SourceSchema, mode: SchemaEvolution | None) -> Sequence[SchemaChange]:
    """Beside sensitive columns, where text is refused because a column is missing, its other names aren't told: the
    header of a CSV file without one is its first row.
    """
    found = find_changes(captured, now, mode)
    headless = not now.typed and any(c.kind == "missing" and c.action == "refused" for c in found)
    if not headless or not captured.contract.is_sensitive:
        return found
    declared = {n: c for n, c in now.columns.items() if n in captured.contract.names}
    return find_changes(captured, replace(now, columns=declared), mode)


def _followed(runtime: Runtime, address: TableAddress, changes: Sequence[SchemaChange]) -> Followed:
    table = runtime.store.ensure(address)
    return Followed(address.as_stored(table), table.schema(), changes)


def source_table(runtime: Runtime, node: TableNode, followed: Followed, now: SourceSchema) -> SourceTable:
    """The Postgres table as a capture reads it, and as a plan looks at it: the fingerprints of both are the same."""
    source, key = node.dataset.source, runtime.hash_key(node)
    assert isinstance(source, PostgresSource)  # noqa: S101  (only those are captured together)
    judged = [c.column for c in followed.changes if c.action == "rows rejected"]
    return SourceTable.found(source, followed.address.contract, now.columns, judged, key.seed if key else 0)


def reading_of(followed: Followed, now: SourceSchema | None) -> Reading:
    """How a delivery is read into the table."""
    contract, changes = followed.address.contract, followed.changes
    types = {c.name: c.type for c in contract.columns}
    evolved = {c.name for c in contract.columns if c.evolved}
    if not (evolved or changes):
        return DECLARED
    rejected = [c for c in changes if c.action == "rows rejected"]
    as_text = {c.column for c in rejected if c.kind != "missing"} | {n for n in evolved if types[n] == "string"}
    lacking = {name: c.column for c in rejected if now for name in now.lacking.get(c.column, ())}
    return Reading(
        contract.names,
        frozenset(evolved | {c.column for c in changes if c.action == "read as null"}),
        frozenset(as_text),
        lacking,
    )


def mode_of(node: TableNode) -> SchemaEvolution | None:
    """What the dataset's manifest says."""
    return node.dataset.bronze.schema_evolution if node.dataset.bronze else None


def _required(node: TableNode) -> dict[str, str]:
    """Columns of the source without which its rows are none."""
    dataset, source = node.dataset, node.dataset.source
    assert source is not None  # noqa: S101  (bronze has a source)
    found: dict[str, str] = {}
    if dataset.silver:
        found = {n: "silver needs it" for n, c in dataset.silver.columns.items() if not c.nullable}
    if isinstance(source, PostgresSource):
        found |= {ours: "parents are found by it" for join in source.joins for ours in join.on.values()}
        found |= {source.change_column: "it tells what changed"} if source.change_column else {}
    found |= {dataset.partitions.by: "it places rows"} if dataset.partitions else {}
    return found | dict.fromkeys(source.key, "it is of the key")
