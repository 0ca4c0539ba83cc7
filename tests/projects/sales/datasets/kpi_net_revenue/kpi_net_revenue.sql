-- Division of decimals is a double in DuckDB: the average is made in whole cents.
with totals as (
    select
        date_trunc('month', order_date)::date as month,
        nation,
        currency,
        count(distinct order_id) as orders,
        count(*) as lines,
        sum(net_amount) as net_revenue,
        (sum(net_amount) * 100)::hugeint as cents
    from gdp.gdp_sales
    group by all
)
select
    month,
    nation,
    currency,
    orders,
    lines,
    net_revenue::decimal(18, 2) as net_revenue,
    ((sign(cents) * ((abs(cents) * 2 + orders) // (orders * 2)))::decimal(20, 0) * 0.01)::decimal(18, 2)
        as average_order_value
from totals
