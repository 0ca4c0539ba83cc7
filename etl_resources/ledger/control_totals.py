"""Control totals of captures: what the system of record said of a partition in the snapshot of its rows."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg


def with_totals(connection: "psycopg.Connection[Any]", controls: Iterable[str], epochs: Mapping[str, int]) -> set[str]:
    """Of the partitions captured at these epochs, those that have the totals of every control."""
    wanted = list(controls)
    rows = connection.execute(
        "select t.partition from etl.control_totals t "
        "join unnest(%s::text[], %s::bigint[]) as captured(p, e) on p = t.partition and e = t.epoch "
        "where t.control = any(%s) group by 1 having count(*) = %s",
        (list(epochs), list(epochs.values()), wanted, len(wanted)),
    ).fetchall()
    return {p for (p,) in rows} if wanted else set(epochs)


def record_totals(connection: "psycopg.Connection[Any]", epoch: int, control: str, totals: Mapping[str, Any]) -> None:
    """Control totals of one capture: partition → rows."""
    from psycopg.types.json import Jsonb

    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into etl.control_totals (epoch, control, partition, totals) values (%s, %s, %s, %s) "
            "on conflict do nothing",
            [(epoch, control, partition, Jsonb(rows)) for partition, rows in totals.items()],
        )


def captured_totals(
    connection: "psycopg.Connection[Any]", control: str, partition: str, epochs: Iterable[int]
) -> tuple[int, Any] | None:
    """(epoch, rows) of the newest captured totals among the epochs."""
    row = connection.execute(
        "select epoch, totals from etl.control_totals "
        "where control = %s and partition = %s and epoch = any(%s) order by epoch desc limit 1",
        (control, partition, list(epochs)),
    ).fetchone()
    return (int(row[0]), row[1]) if row else None
