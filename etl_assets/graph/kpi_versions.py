"""A KPI's logic changes: its rows by the old logic stay readable beside the new ones, under a name."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from etl_assets.project import TableNode
from etl_resources.ledger.ledger import Ledger
from etl_resources.planning import PlannedPartition
from etl_resources.tables.address import TableAddress
from etl_resources.tables.versions import CURRENT, release

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

DIGITS = 8
"""Of the logic version in a name."""


def logic_of(node: TableNode) -> dict[str, Any]:
    """The logic of a table, as the evidence of a publish keeps it."""
    return {"version": node.dataset.table(node.layer).version, "digest": node.logic_version[:DIGITS]}


def release_name(logic: dict[str, Any]) -> str:
    """Name of the last version of a table whose partitions are by this logic, e.g. logic-v1-3f2a90bc."""
    return f"logic-v{logic['version']}-{logic['digest']}"


def name_old_logic(
    catalog: "Catalog", ledger: Ledger, address: TableAddress, node: TableNode, planned: Sequence[PlannedPartition]
) -> None:
    """Before partitions by another logic are replaced: name what is published, once. It is kept from then on."""
    published = [p.current for p in planned if p.current is not None]
    rows = ledger.connection.execute(
        "select distinct staged -> 'logic' from etl.intent_partitions "
        "join unnest(%s::text[], %s::text[]) as wanted(a, p) on a = attempt and p = partition "
        "where staged -> 'logic' is not null",
        ([p.attempt for p in published], [p.partition for p in published]),
    ).fetchall()
    mine = logic_of(node)
    for (logic,) in rows:
        name = release_name(logic)
        if logic != mine and name not in catalog.load_table(address.identifier).refs():
            release(catalog, address.identifier, address.asset, name, CURRENT)
