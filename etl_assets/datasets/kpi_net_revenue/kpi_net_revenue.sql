-- Division of decimals is a double in DuckDB: the average is made in whole cents.
with totals as (
    select
        date_trunc('month', order_date)::date as month,
        segment,
        nation,
        currency,
        count(distinct order_id) as orders,
        count(*) as lines,
        sum(net_amount) as net_revenue,
        sum(net_amount_eur) as net_revenue_eur,
        (sum(net_amount_eur) * 100)::hugeint as cents
    from gdp.gdp_sales
    group by all
)
select
    month,
    segment,
    nation,
    currency,
    orders,
    lines,
    net_revenue::decimal(18, 2) as net_revenue,
    net_revenue_eur::decimal(18, 2) as net_revenue_eur,
    (((cents * 2 + orders) // (orders * 2))::decimal(20, 0) * 0.01)::decimal(18, 2) as average_order_value_eur
from totals
