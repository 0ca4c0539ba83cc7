"""From any input back to the captures that it was made from."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from etl_resources.calendar import WHOLE, bounds, every_of
from etl_resources.run_token import InputVersion, inputs_as_json

if TYPE_CHECKING:
    import psycopg

SOURCE_SEPARATOR, DELIVERED_SEPARATOR = "/", ":"


def source_asset(system: str, table: str) -> str:
    """Name of a source table as an input: erp/erp.orders."""
    return f"{system}{SOURCE_SEPARATOR}{table}"


def delivered_asset(system: str, dataset: str) -> str:
    """Name of a source that is delivered by itself as an input: crm:customers."""
    return f"{system}{DELIVERED_SEPARATOR}{dataset}"


def is_source(asset: str) -> bool:
    """Whether an input is a source, not a table: the ledger has no publishes of it."""
    return SOURCE_SEPARATOR in asset or (DELIVERED_SEPARATOR in asset and not is_control(asset))


def control_key(dataset: str, sql: str) -> str:
    """Name of a KPI's control totals: totals of another version of its SQL prove nothing."""
    return f"{dataset}@{hashlib.sha256(sql.encode()).hexdigest()[:16]}"


def control_input(control: str) -> str:
    """Name of control totals as an input of what is compared with them; control: their key."""
    return f"control:{control}"


def is_control(asset: str) -> bool:
    """Whether an input is control totals."""
    return asset.startswith("control:")


_WALK = """
with recursive walk as (
    select i.asset, i.partition, i.version
    from jsonb_to_recordset(%s) as i(asset text, partition text, version text)
    union
    select i.asset, i.partition, i.version
    from walk w
    join etl.publishes p using (asset, partition, version)
    cross join lateral jsonb_to_recordset(p.inputs)
        as i(asset text, partition text, version text, looked_up boolean)
    where i.looked_up is not true and strpos(i.asset, '/') = 0
      and (i.partition = w.partition or 'all' not in (i.partition, w.partition)
           and translate(i.partition, '0123456789', '') <> translate(w.partition, '0123456789', ''))
)
select p.asset, p.partition, p.version, p.epoch, p.inputs
from walk w join etl.publishes p using (asset, partition, version)
order by p.epoch desc
"""

Captures = dict[tuple[str, str], set[int]]
"""(system, partition) → epochs of captures."""


def capture_epochs(connection: "psycopg.Connection[Any]", inputs: Iterable[InputVersion]) -> Captures:
    """(system, partition) → epochs of the captures that could have given all of these inputs.

    An empty set means that the inputs stem from different captures: orders of one moment, lines of another. Only the
    same period is followed below the inputs, in the partitions that it has there: another month that a table read as
    well, or a table that it looked up, was captured at its own time.

    Contents are followed, not publishes: when a later capture gives an input the same content, nothing that read it is
    made again, and yet it is of that capture as well.
    """
    from psycopg.types.json import Jsonb

    read = [i for i in inputs if not i.looked_up]
    rows = connection.execute(_WALK, (Jsonb(inputs_as_json(read)),)).fetchall()
    return _Contents(rows).of_all(read)


class _Contents:
    """Publishes by their content, newest first."""

    def __init__(self, rows: Iterable[tuple[str, str, str, int, list[dict[str, Any]]]]) -> None:
        self._publishes: dict[tuple[str, str, str], list[tuple[int, tuple[InputVersion, ...]]]] = {}
        for asset, partition, version, epoch, inputs in rows:
            found = tuple(InputVersion(**i) for i in inputs)
            self._publishes.setdefault((asset, partition, version), []).append((epoch, found))
        self._known: dict[tuple[str, str, str], list[tuple[int, Captures]]] = {}

    def of_all(self, inputs: Iterable[InputVersion]) -> Captures:
        """Captures that are of every one of the inputs."""
        common: Captures = {}
        for i in inputs:
            for place, epochs in self._of(i).items():
                common[place] = common[place] & epochs if place in common else set(epochs)
        return common

    def _of(self, read: InputVersion) -> Captures:
        """Of an input that was read: its publish, or a later one of the same content."""
        content = (read.asset, read.partition, read.version)
        if content not in self._known:
            self._known[content] = list(self._since(content))
        return next((found for epoch, found in reversed(self._known[content]) if epoch >= read.epoch), {})

    def _since(self, content: tuple[str, str, str]) -> Iterator[tuple[int, Captures]]:
        """Epoch → captures of the publishes from it on, newest first."""
        partition = content[1]
        publishes = self._publishes.get(content, [])
        systems = {
            i.asset.partition(SOURCE_SEPARATOR)[0] for _, made in publishes for i in made if SOURCE_SEPARATOR in i.asset
        }
        captured = {(system, partition): {epoch for epoch, _ in publishes} for system in systems}
        found: Captures = {}
        for epoch, made in publishes:
            below = captured or self.of_all(
                i for i in made if not i.looked_up and is_same_period(partition, i.partition)
            )
            found = {place: found.get(place, set()) | below.get(place, set()) for place in found.keys() | below.keys()}
            yield epoch, found


def is_same_period(partition: str, read: str) -> bool:
    """Whether a partition read another for its own period: the same one, or one of another grain."""
    if partition == read or WHOLE in (partition, read):
        return partition == read
    (start, end), (first, last) = bounds(partition), bounds(read)
    return every_of(partition) != every_of(read) and first < end and start < last


def newest_capture(connection: "psycopg.Connection[Any]", system: str, *, besides: str) -> int:
    """Epoch of the newest capture of a system by other runs than `besides`; 0 without one."""
    row = connection.execute(
        "select coalesce(max(epoch), 0) from etl.captures where system = %s and run_id <> %s", (system, besides)
    ).fetchone()
    assert row is not None  # noqa: S101  (an aggregate always returns a row)
    return int(row[0])
