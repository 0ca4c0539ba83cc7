"""How the sensitive columns of a table are covered, kept as a property of the Iceberg table.

A column that is covered otherwise than before becomes another column of the same name, by field id: what was published
under the old one, maybe in clear, is read as null from then on, until its partition is captured again.
"""

import json
from typing import TYPE_CHECKING

from etl_resources.contract import Contract
from etl_resources.tables.schema import iceberg_schema

if TYPE_CHECKING:
    from pyiceberg.table import Table

PROPERTY = "etl.sensitive"


def covers_of(contract: Contract) -> dict[str, str]:
    """The property of a new table; {} where nothing is covered."""
    covers = _covers(contract)
    return {PROPERTY: json.dumps(covers)} if covers else {}


def follow_covers(table: "Table", contract: Contract) -> "Table":
    """The table with the columns that are covered otherwise made anew, and without the dropped ones.

    Raises CommitFailedException when the table changed meanwhile.
    """
    recorded, wanted = json.loads(table.properties.get(PROPERTY, "{}")), _covers(contract)
    known = dict(recorded)
    for column in contract.columns:
        if column.renamed_from in known:
            known[column.name] = known.pop(column.renamed_from)
    fields = iceberg_schema(contract, with_run_id=False)
    names = set(table.schema().column_names)
    changed = [n for n in contract.names if n in names and known.get(n) != wanted.get(n)]
    dropped = [n for n in contract.dropped if n in names]
    if recorded == wanted and not changed and not dropped:
        return table
    with table.transaction() as transaction:
        with transaction.update_schema() as update:
            for name in (*changed, *dropped):
                update.delete_column(name)
            for name in changed:
                field = fields.find_field(name)
                update.add_column(name, field.field_type, doc=field.doc)
        transaction.set_properties({PROPERTY: json.dumps(wanted)})
    return table.refresh()


def _covers(contract: Contract) -> dict[str, str]:
    return {c.name: c.cover.mode for c in contract.columns if c.cover}
