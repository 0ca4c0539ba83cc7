-- Division of decimals is a double in DuckDB: growth is made in whole ten-thousandths, from cents.
with sums as (
    select
        p.start_date as month,
        k.segment,
        coalesce(sum(k.net_revenue_eur) filter (k.month = p.start_date), 0) as this_month,
        sum(k.net_revenue_eur) filter (k.month < p.start_date) as previous
    from kpi.kpi_net_revenue as k
    cross join calendar.period as p
    group by all
),

cents as (
    select
        *,
        ((this_month - previous) * 100)::hugeint as change_cents,
        (nullif(previous, 0) * 100)::hugeint as previous_cents
    from sums
)

select
    month,
    segment,
    this_month::decimal(18, 2) as net_revenue_eur,
    previous::decimal(18, 2) as previous_net_revenue_eur,
    ((sign(change_cents) * ((abs(change_cents) * 20000 + previous_cents) // (previous_cents * 2)))::decimal(20, 0)
        * 0.0001)::decimal(12, 4) as growth
from cents
