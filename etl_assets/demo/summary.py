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


KPI_SQL = """
with revenue as (
    select month, sum(orders)::bigint as orders, sum(lines)::bigint as lines, sum(net_revenue_eur) as net_revenue_eur
    from analytics.kpi_net_revenue group by month
),
growth as (
    select month, sum(net_revenue_eur) / nullif(sum(previous_net_revenue_eur), 0) - 1 as growth
    from analytics.kpi_revenue_growth group by month
),
shipping as (
    select month, sum(on_time_lines) / sum(lines) as on_time from analytics.kpi_on_time_shipping group by month
)
select to_char(month, 'YYYY-MM') as month, revenue.orders, revenue.lines, revenue.net_revenue_eur::text,
       round(growth, 4)::text as growth, round(on_time, 4)::text as on_time,
       top.customer_id as top_customer, top.net_revenue_eur::text as top_customer_eur
from revenue
left join growth using (month)
left join shipping using (month)
left join analytics.kpi_top_customers as top using (month)
where top.rank = 1
order by month desc
limit %s
"""


def kpi_rows(connection: "psycopg.Connection[Any]") -> Sequence[Mapping[str, Any]]:
    """The last 12 served months from analytics.*, oldest first; amounts in euros and shares as text."""
    from psycopg.rows import dict_row

    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(KPI_SQL, (MONTHS_SHOWN,)).fetchall()[::-1]
