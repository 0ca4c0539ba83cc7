"""From any input back to the captures that it was made from."""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from etl_resources.run_token import InputVersion, inputs_as_json

if TYPE_CHECKING:
    import psycopg

SOURCE_SEPARATOR = "/"


def source_asset(system: str, table: str) -> str:
    """Name of a source table as an input: erp/erp.orders."""
    return f"{system}{SOURCE_SEPARATOR}{table}"


def control_key(dataset: str, sql: str) -> str:
    """Name of a KPI's control totals: totals of another version of its SQL prove nothing."""
    return f"{dataset}@{hashlib.sha256(sql.encode()).hexdigest()[:16]}"


_WALK = """
with recursive walk as (
    select i.asset, i.partition, i.version, i.epoch
    from jsonb_to_recordset(%s) as i(asset text, partition text, version text, epoch bigint)
    union
    select i.asset, i.partition, i.version, i.epoch
    from walk w
    join etl.publishes p using (asset, partition, epoch)
    cross join lateral jsonb_to_recordset(p.inputs)
        as i(asset text, partition text, version text, epoch bigint, looked_up boolean)
    where i.partition = w.partition and i.looked_up is not true
)
select split_part(source.asset, '/', 1), w.asset, w.partition,
       array(select p.epoch from etl.publishes p
             where p.asset = w.asset and p.partition = w.partition and p.version = w.version)
from walk w
join etl.publishes p using (asset, partition, epoch)
cross join lateral jsonb_to_recordset(p.inputs) as source(asset text)
where strpos(source.asset, '/') > 0
"""


def capture_epochs(
    connection: "psycopg.Connection[Any]", inputs: Iterable[InputVersion]
) -> dict[tuple[str, str], set[int]]:
    """(system, partition) → epochs of the captures that could have given all of these inputs.

    An empty set means that the inputs stem from different captures: orders of one moment, lines of another. Only the
    same period is followed below the inputs: another month that a table read as well, or a table that it looked up,
    was captured at its own time.
    """
    from psycopg.types.json import Jsonb

    common: dict[tuple[str, str], set[int]] = {}
    rows = connection.execute(_WALK, (Jsonb(inputs_as_json(i for i in inputs if not i.looked_up)),)).fetchall()
    for system, _asset, partition, epochs in rows:
        key = (system, partition)
        common[key] = common[key] & set(epochs) if key in common else set(epochs)
    return common


def newest_capture(connection: "psycopg.Connection[Any]", system: str, *, besides: str) -> int:
    """Epoch of the newest capture of a system by other runs than `besides`; 0 without one."""
    row = connection.execute(
        "select coalesce(max(epoch), 0) from etl.captures where system = %s and run_id <> %s", (system, besides)
    ).fetchone()
    assert row is not None  # noqa: S101  (an aggregate always returns a row)
    return int(row[0])
