"""What the demo shows at its end, read from the ledger and from the serving table."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

MONTHS_SHOWN = 12


def layer_rows(connection: "psycopg.Connection[Any]", partitions: Sequence[str]) -> Mapping[str, int]:
    """Asset → rows published in these partitions, in the order in which they were first published."""
    rows = connection.execute(
        "select asset, sum(rows)::bigint from etl.current_versions where partition = any(%s) "
        "group by asset order by min(epoch), asset",
        (list(partitions),),
    ).fetchall()
    return dict(rows)


def kpi_rows(connection: "psycopg.Connection[Any]") -> Sequence[Mapping[str, Any]]:
    """The last 12 served months: orders, lines, and the net revenue of the three largest currencies."""
    rows = connection.execute(
        "select month, currency, sum(orders)::bigint, sum(lines)::bigint, sum(net_revenue) "
        "from analytics.kpi_net_revenue group by 1, 2 order by 1 desc, 5 desc"
    ).fetchall()
    months: dict[Any, dict[str, Any]] = {}
    for month, currency, orders, lines, revenue in rows:
        if month not in months and len(months) == MONTHS_SHOWN:
            break
        entry = months.setdefault(month, {"month": f"{month:%Y-%m}", "orders": 0, "lines": 0, "net_revenue": {}})
        entry["orders"] += orders
        entry["lines"] += lines
        entry["net_revenue"][currency] = str(revenue)
    return sorted(months.values(), key=lambda m: str(m["month"]))
